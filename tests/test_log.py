"""The log, its parts, and its text on the wire: bytes can be cut anywhere, characters cannot."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatapi.api.http.text_stream import TEXT_CHUNK_BYTES, TextEncoder
from chatapi.errors import PositionOutOfRange
from chatapi.generations.reader import check_position, pieces_past, position_of_text
from chatapi.model import VISIBLE_KINDS, Kind, Part, Piece, ToolCall, visible_text
from chatapi.model.log import Log, character_end, contiguous, parts_of, pieces_of

# A slow machine does not fail the test, and all runs are the same.
unhurried = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
characters = st.one_of(st.characters(codec="utf-8"), st.sampled_from("aé漢👩\u200d\u2028\ufeff\r\n"))
texts = st.text(characters, min_size=1, max_size=12)
Said = tuple[Kind, str, ToolCall | None]
kinds: list[tuple[Kind, ToolCall | None]] = [
    (Kind.TEXT, None),
    (Kind.REASONING, None),
    (Kind.REFUSAL, None),
    (Kind.ANNOTATION, None),
    (Kind.TOOL_CALL, ToolCall("call_1", "look_up")),
    (Kind.TOOL_CALL, ToolCall("call_2", "look_up")),
    (Kind.TOOL_CALL, ToolCall("call_3", "天気")),
]


def saying(texts: st.SearchStrategy[str]) -> st.SearchStrategy[Said]:
    """Some text of any kind, or some arguments of a tool call."""
    return st.builds(lambda kind, text: (kind[0], text, kind[1]), st.sampled_from(kinds), texts)


writes = st.lists(saying(texts), max_size=12)
long_texts = st.builds(lambda text, times: text * times, texts, st.integers(1, 900))


def written(said: list[Said]) -> Log:
    """Return a log, all of it committed."""
    log = Log()
    for kind, text, call in said:
        log.write(kind, text, call)
    log.committed = log.position
    return log


def boundaries(text: str) -> list[int]:
    """Return the positions between the characters of `text`, including both ends."""
    ends = [0]
    for character in text:
        ends.append(ends[-1] + len(character.encode()))
    return ends


def merged(said: list[Said]) -> tuple[Part, ...]:
    """Return the parts that these writes make, computed in the simplest way."""
    parts: list[Part] = []
    for kind, text, call in said:
        if parts and (parts[-1].kind, parts[-1].call) == (kind, call):
            parts[-1] = Part(kind, parts[-1].text + text, call)
        else:
            parts.append(Part(kind, text, call))
    return tuple(parts)


@unhurried
@given(writes)
def test_a_log_read_from_any_position_gives_the_rest(said: list[Said]) -> None:
    log = written(said)
    whole = "".join(text for _, text, _ in said)
    for position in boundaries(whole):
        pieces = log.read(position)
        assert b"".join(piece.data for piece in pieces) == whole.encode()[position:]
        assert all(piece.data.decode() for piece in pieces), "a piece is whole characters, and never empty"
        ends = [position, *(piece.position for piece in pieces)]
        assert [end - begin for begin, end in pairwise(ends)] == [len(piece.data) for piece in pieces]


@unhurried
@given(writes, st.data())
def test_no_byte_is_read_before_it_is_committed(said: list[Said], data: st.DataObject) -> None:
    log = written(said)
    whole = "".join(text for _, text, _ in said)
    log.committed = data.draw(st.sampled_from(boundaries(whole)))
    position = data.draw(st.sampled_from(boundaries(whole)))
    assert b"".join(piece.data for piece in log.read(position)) == whole.encode()[position : log.committed]
    assert b"".join(piece.data for piece in log.uncommitted()) == whole.encode()[log.committed :]


@unhurried
@given(writes)
def test_writes_of_one_kind_in_a_row_are_one_part(said: list[Said]) -> None:
    log = written(said)
    log.committed = 0
    assert log.parts() == merged(said), "committed or not"


@unhurried
@given(writes, st.data())
def test_a_log_that_was_joined_into_its_message_reads_as_before(said: list[Said], data: st.DataObject) -> None:
    log = written(said)
    position = data.draw(st.sampled_from(boundaries("".join(text for _, text, _ in said))))
    assert pieces_of(log.parts(), position) == log.read(position)


@unhurried
@given(writes, st.data())
def test_pieces_with_any_boundaries_join_into_the_same_parts(said: list[Said], data: st.DataObject) -> None:
    log = written(said)
    places = boundaries("".join(text for _, text, _ in said))
    cuts = sorted({0, log.position, *data.draw(st.lists(st.sampled_from(places)))})
    pieces: list[Piece] = []
    for begin, end in pairwise(cuts):
        log.committed = end
        pieces += log.read(begin)
    assert parts_of(pieces) == log.parts() == merged(said)
    assert parts_of(pieces_of(log.parts())) == log.parts()


@unhurried
@given(long_texts, st.integers(0, 6000))
def test_a_character_is_never_cut(text: str, at: int) -> None:
    places = boundaries(text)
    assert character_end(text.encode(), at) == max(place for place in places if place <= at)


def from_offset(pieces: list[Piece], offset: int) -> list[Piece]:
    """The pieces of a reader that has so many bytes of the visible text."""
    return pieces_past(pieces, position_of_text(pieces, offset)) if offset else pieces


@unhurried
@given(st.lists(saying(long_texts), max_size=4), st.data())
def test_text_is_sent_in_chunks_that_each_decode(said: list[Said], data: st.DataObject) -> None:
    pieces = written(said).read(0)
    whole = visible_text(merged(said))
    offset = data.draw(st.sampled_from(boundaries(whole)))
    chunks = list(TextEncoder().pieces(from_offset(pieces, offset)))
    assert all(0 < len(chunk) <= TEXT_CHUNK_BYTES for chunk in chunks)
    assert "".join(chunk.decode() for chunk in chunks) == whole.encode()[offset:].decode()


@unhurried
@given(writes, st.data())
def test_an_offset_counts_across_chunks_of_the_log(said: list[Said], data: st.DataObject) -> None:
    pieces = written(said).read(0)
    whole = visible_text(merged(said)).encode()
    offset = data.draw(st.integers(0, len(whole)))  # a client may be cut within a character
    encoder = TextEncoder()
    rest = from_offset(pieces, offset)
    assert b"".join(chunk for piece in rest for chunk in encoder.pieces([piece])) == whole[offset:]


@unhurried
@given(writes, st.data())
def test_a_position_within_a_character_is_refused(said: list[Said], data: st.DataObject) -> None:
    pieces = written(said).read(0)
    whole = "".join(text for _, text, _ in said)
    position = data.draw(st.integers(0, len(whole.encode()) + 3))
    if position in boundaries(whole):
        check_position(pieces, position)
    else:
        with pytest.raises(PositionOutOfRange):
            check_position(pieces, position)
    shown = sum(len(text.encode()) for kind, text, _ in said if kind in VISIBLE_KINDS)
    with pytest.raises(PositionOutOfRange):
        position_of_text(pieces, shown + 1)


@unhurried
@given(texts, st.data())
def test_overlapping_pieces_yield_each_byte_once(text: str, data: st.DataObject) -> None:
    places = boundaries(text)
    ends = sorted({*data.draw(st.lists(st.sampled_from(places[1:]))), places[-1]})
    pieces, reached = [], 0
    for end in ends:  # each begins where an earlier one ended, or before
        begin = data.draw(st.sampled_from([place for place in places if place <= reached]))
        pieces.append(Piece(end, 0, Kind.TEXT, text.encode()[begin:end]))
        reached = end
    position = data.draw(st.sampled_from(places))
    run = contiguous(pieces, position)
    assert b"".join(piece.data for piece in run) == text.encode()[position:]
    assert all(piece.data for piece in run)


def test_nothing_is_read_past_a_gap() -> None:
    pieces = [Piece(2, 0, Kind.TEXT, b"ab"), Piece(6, 0, Kind.TEXT, b"ef")]
    assert contiguous(pieces, 0) == pieces[:1]
    assert contiguous(pieces, 2) == []
    assert contiguous(pieces[1:], 4) == pieces[1:]
