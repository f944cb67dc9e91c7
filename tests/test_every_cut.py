"""Cut a stream at every byte and after every event, and resume it. Promise 3.

While the answer runs, after its end, after a restart, and after a kill.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest

from chatapi.simulator import Chunks, Gate, Script, Send, Simulator, Wait, scripts
from tests.cluster import Cluster
from tests.database_view import VISIBLE_KINDS
from tests.reader import EVENTS, Reader, text_of_event
from tests.server_process import Serve, Service

CLIENTS = 8  # that cut and resume in parallel
# Characters of one to four bytes, and combined ones.
PARTS = (
    ("reasoning", "Hm, 考えています… 🤔 "),
    ("tool_call", '{"city":"東京"}'),
    ("text", "Grüße 👋🏽 aus 東京, naïve 👩‍👩‍👧 café. "),
    ("reasoning", "Noch ein Gedanke: ∑≠∏."),
    ("tool_call", '{"at":7}'),
    ("text", "Zum Schluß: 🎉🎉, ÄÖÜ, und tschüß!"),
)
KINDS = ("text", "reasoning", "tool_call")
TEXT = "".join(text for kind, text in PARTS if kind == "text").encode()
LOG = "".join(text for _, text in PARTS)


def steps(chunks: Chunks, kind: str, text: str) -> list[Send]:
    """Return steps that send a few characters each."""
    if kind == "tool_call":
        index = [part for _, part in PARTS].index(text)
        begun = chunks.tool_call(index, id=f"call_{index}", name="weather")
        rest = [text[start : start + 3] for start in range(0, len(text), 3)]
        return [Send(begun), *(Send(chunks.tool_call(index, arguments=some)) for some in rest)]
    frame = chunks.content if kind == "text" else chunks.reasoning
    return [Send(frame(text[start : start + 3])) for start in range(0, len(text), 3)]


def whole_answer() -> Script:
    """Return an answer of all parts at full speed."""
    chunks = Chunks()
    said = [step for kind, text in PARTS for step in steps(chunks, kind, text)]
    return scripts.event_stream(Send(chunks.role()), *said, Send(chunks.finish("stop")), Send(b"data: [DONE]\n\n"))


def held_answer(gate: Gate) -> Script:
    """Return an answer of all parts that waits at the gate before the end of the last one."""
    chunks = Chunks()
    *before, (kind, last) = PARTS
    said = [step for part in before for step in steps(chunks, *part)]
    head, tail = steps(chunks, kind, last[:12]), steps(chunks, kind, last[12:])
    end = (Send(chunks.finish("stop")), Send(b"data: [DONE]\n\n"))
    return scripts.event_stream(Send(chunks.role()), *said, *head, Wait(gate), *tail, *end)


def held_bytes(of: Iterable[str]) -> int:
    """Return how many bytes of these kinds come before the gate."""
    return sum(len(text.encode()) for kind, text in PARTS if kind in of) - len(PARTS[-1][1][12:].encode())


def character_places(text: str) -> list[int]:
    """Return the positions between characters, including both ends."""
    places = [0]
    for character in text:
        places.append(places[-1] + len(character.encode()))
    return places


def parts_after(position: int) -> dict[str, str]:
    """Return the rest of the log after a position, by kind."""
    left = dict.fromkeys(KINDS, "")
    for kind, text in PARTS:
        data = text.encode()
        left[kind] += data[position:].decode()
        position = max(0, position - len(data))
    return left


def cuts_of(service: Service, end: int) -> range:
    """Return the positions below `end` to cut at: each on one process, and every third one on replicas."""
    return range(0, end, 3 if isinstance(service, Cluster) else 1)


def at_once(check: Callable[[int], None], places: Iterable[int]) -> None:
    """Check all positions in parallel."""
    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(check, places))


def check_every_text_cut(service: Service, session_id: str, whole: bytes, *, ends: bool = True) -> None:
    """After the end: for every k, read k bytes, disconnect and resume."""

    def check(k: int) -> None:
        with Reader.resume(service, session_id) as first:
            shown = first.read(k)
        with Reader.resume(service, session_id, k) as second:
            assert shown + second.read_all() == whole
            assert second.ended is ends, "a cut answer looks cut, also when it is resumed"

    at_once(check, cuts_of(service, len(whole) + 1))
    assert Reader.resume(service, session_id, len(whole) + 1).status == 416


def check_every_event_cut(service: Service, session_id: str) -> None:
    """After the end: resume after every event that may have been sent, which is after every character."""
    places = character_places(LOG)

    def check(position: int) -> None:
        with Reader.resume_events(service, session_id, position) as reader:
            if position not in places:
                assert reader.status == 416
                return
            reader.read_all()
            assert {kind: reader.joined(kind) for kind in KINDS} == parts_after(position)
            names = [name for name, _, _ in reader.events()]
            assert (names[0], names[-1], reader.ended) == ("session", "done", True)
            ids = [event_id for _, event_id, _ in reader.events()]
            assert ids == sorted(ids)
            assert (ids[0], ids[-1]) == (position, places[-1])

    at_once(check, cuts_of(service, places[-1] + 2))


def check_each_events_own_cut(service: Service, session_id: str, whole: Reader) -> None:
    """Disconnect after each event that was really sent, and resume from its id."""
    events = whole.events()
    for number in cuts_of(service, len(events)):
        event_id = events[number][1]
        shown = events[: number + 1]
        with Reader.resume_events(service, session_id, event_id) as rest:
            rest.read_all()
            for kind in KINDS:
                before = "".join(text_of_event(data) for name, _, data in shown if name == kind)
                assert before + rest.joined(kind) == whole.joined(kind)


def check_every_cut_of_first_responses(service: Service) -> None:
    """Disconnect from the response to the send after k bytes, and resume at once, while the answer may still run."""

    def check(k: int) -> None:
        with Reader.chat(service) as first:
            shown = first.read(k)
        with Reader.resume(service, first.session_id, k) as second:
            assert shown + second.read_all() == TEXT

    at_once(check, cuts_of(service, len(TEXT) + 1))


@pytest.fixture
def unlimited(serve: Serve) -> Service:
    return serve(CHATAPI_RATE_LIMIT="0", CHATAPI_MAX_GENERATIONS_PER_KEY="0")


def test_every_cut_of_a_completed_answer_also_after_a_restart(unlimited: Service, simulator: Simulator) -> None:
    simulator.script = whole_answer()
    with Reader.chat(unlimited) as text, Reader.chat(unlimited, headers=EVENTS) as events:
        assert text.read_all() == TEXT
        events.read_all()
        assert text.ended
        assert events.joined(*VISIBLE_KINDS).encode() == TEXT
        assert {kind: events.joined(kind) for kind in KINDS} == parts_after(0)
    check_every_cut_of_first_responses(unlimited)
    check_every_text_cut(unlimited, events.session_id, TEXT)
    check_every_event_cut(unlimited, events.session_id)
    check_each_events_own_cut(unlimited, events.session_id, events)
    assert unlimited.stop() == 0
    unlimited.start()
    check_every_text_cut(unlimited, text.session_id, TEXT)
    check_every_event_cut(unlimited, text.session_id)


def test_every_cut_of_a_running_answer_and_of_a_killed_one(unlimited: Service, simulator: Simulator) -> None:
    gate = Gate()
    simulator.script = held_answer(gate)
    live = Reader.chat(unlimited, headers=EVENTS)
    so_far = held_bytes(("text",))
    while len(live.joined("text").encode()) < so_far:
        assert live.read_some()
    # Each reader receives k bytes, is cut, and resumes while the answer still runs.
    shown, resumed = [], []
    for k in cuts_of(unlimited, so_far + 1):
        with Reader.resume(unlimited, live.session_id) as first:
            shown.append(first.read(k))
        resumed.append(Reader.resume(unlimited, live.session_id, k))
    assert Reader.resume(unlimited, live.session_id, so_far + 1).status == 416, "no reader has received so many bytes"
    places = [place for place in character_places(LOG) if place <= held_bytes(KINDS)]
    places = [places[number] for number in cuts_of(unlimited, len(places))]
    by_event = [Reader.resume_events(unlimited, live.session_id, place) for place in places]
    gate.open()
    for before, reader in zip(shown, resumed, strict=True):
        assert before + reader.read_all() == TEXT
        assert reader.ended
        reader.leave()
    for place, reader in zip(places, by_event, strict=True):
        reader.read_all()
        assert {kind: reader.joined(kind) for kind in KINDS} == parts_after(place)
        assert reader.events()[-1][:2] == ("done", len(LOG.encode()))
        reader.leave()
    live.read_all()
    check_each_events_own_cut(unlimited, live.session_id, live)
    live.leave()

    # The same for an answer whose server is killed.
    simulator.script = held_answer(Gate())
    killed = Reader.chat(unlimited)
    assert killed.read(so_far) == TEXT[:so_far]
    unlimited.kill()
    killed.read_all()
    assert not killed.ended
    unlimited.start()
    check_every_text_cut(unlimited, killed.session_id, TEXT[:so_far], ends=False)
    with Reader.resume_events(unlimited, killed.session_id) as reader:
        reader.read_all()
        name, position, data = reader.events()[-1]
        assert (name, position) == ("error", held_bytes(KINDS))
        assert (data["code"], data["status"]) == ("interrupted", "interrupted")
