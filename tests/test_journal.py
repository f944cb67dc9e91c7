"""The journal: what `append` returned for is read back after any crash, and damage never hides valid records."""

from __future__ import annotations

import errno
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatapi.errors import StoreUnavailable
from chatapi.model import Kind, Piece, ToolCall
from chatapi.store.journal import MAGIC, Journal, JournalError, recover
from chatapi.store.values import Append

SEGMENT_BYTES = 4096
CALL = ToolCall("call_1", "weather")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "chat.db.journal"


@pytest.fixture
def journal(folder: Path) -> Iterator[Journal]:
    journal = Journal(folder, SEGMENT_BYTES)
    journal.open()
    yield journal
    journal.close()


def pieces(*texts: str, kind: Kind = Kind.TEXT, call: ToolCall | None = None) -> list[Piece]:
    end, made = 0, []
    for text in texts:
        end += len(text.encode())
        made.append(Piece(end, 0, kind, text.encode(), call))
    return made


def text_of(found: list[Piece]) -> str:
    return b"".join(piece.data for piece in found).decode()


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.segment"))


def wait_for_files(journal: Journal) -> None:
    """Return when the journal's thread has created and removed all files that it was asked to."""
    journal._files.submit(bool).result()


def append_until_rolled_over(journal: Journal, generation_id: str, count: int = 60) -> str:
    """Append text of many segments; a segment that is not ready yet is awaited."""
    text = ""
    for number in range(count):
        word = f"word {number:04} é " * 10
        piece = Piece(len((text + word).encode()), 0, Kind.TEXT, word.encode())
        while True:
            try:
                journal.append([Append(generation_id, [piece])])
                break
            except StoreUnavailable:
                spare = journal._spare
                assert spare is not None
                spare.result()
        text += word
    return text


def test_appended_text_is_recovered_with_kinds_and_calls(folder: Path, journal: Journal) -> None:
    thoughts, call = pieces("Hm. ", kind=Kind.REASONING), Piece(10, 1, Kind.TOOL_CALL, b'{"a":1', CALL)
    journal.append([Append("gen_1", thoughts), Append("gen_2", pieces("Grüße ", "👋🏽"))])
    journal.append([Append("gen_1", [call])])
    found = recover(segments(folder))
    assert found.damaged == []
    assert found.pieces["gen_1"] == [*thoughts, call]
    assert text_of(found.pieces["gen_2"]) == "Grüße 👋🏽"


def test_text_spans_many_segments_and_long_pieces_several_records(folder: Path) -> None:
    large = Journal(folder, 3 * 1024 * 1024)
    large.open()
    text = "é" * (1024 * 1024)
    large.append([Append("gen_1", pieces(text))])
    large.close()
    assert text_of(recover(segments(folder)).pieces["gen_1"]) == text


def test_a_segment_is_removed_when_its_generations_have_ended(folder: Path, journal: Journal) -> None:
    text = append_until_rolled_over(journal, "gen_1")
    append_until_rolled_over(journal, "gen_2")
    assert len(segments(folder)) > 4
    journal.release("gen_2")
    wait_for_files(journal)
    assert text_of(recover(segments(folder)).pieces["gen_1"]) == text
    journal.release("gen_1")
    journal.close()
    assert segments(folder) == []


def test_what_an_earlier_process_left_stays_until_it_is_discarded(folder: Path, journal: Journal) -> None:
    journal.append([Append("gen_1", pieces("kept"))])
    journal.close()
    again = Journal(folder, SEGMENT_BYTES)
    assert text_of(again.open().pieces["gen_1"]) == "kept"
    again.close()
    third = Journal(folder, SEGMENT_BYTES)
    assert text_of(third.open().pieces["gen_1"]) == "kept"
    third.discard_old()
    third.close()
    assert segments(folder) == []


def test_text_that_was_written_twice_is_read_once(folder: Path, journal: Journal) -> None:
    journal.append([Append("gen_1", pieces("one "))])
    journal.append([Append("gen_1", [Piece(8, 0, Kind.TEXT, b"one two ")])])
    assert text_of(recover(segments(folder)).pieces["gen_1"]) == "one two "


def test_every_truncation_keeps_the_records_before_it(folder: Path, journal: Journal) -> None:
    words = ["alpha ", "bravo ", "charlie "]
    for end in range(1, 4):
        journal.append([Append("gen_1", pieces(*words[:end])[end - 1 :])])
    (path, *_) = segments(folder)
    whole = path.read_bytes()
    known = {"".join(words[:end]) for end in range(4)}
    longest = ""
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        text = text_of(recover([path]).pieces.get("gen_1", []))
        assert text in known
        assert len(text) >= len(longest)
        longest = text
        if length > len(whole.rstrip(b"\0")) + 8:
            break
    assert longest == "".join(words)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=2000))
def test_random_bytes_are_never_read_as_text(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("journal") / "00000001.segment"
    path.write_bytes(data)
    found = recover([path])
    assert found.pieces == {}
    assert bool(found.damaged) == bool(data.strip(b"\0"))


def test_one_damaged_byte_costs_the_records_from_there_on(folder: Path, journal: Journal) -> None:
    words = [f"word{number} " for number in range(8)]
    for end in range(1, 9):
        journal.append([Append("gen_1", pieces(*words[:end])[end - 1 :])])
    (path, *_) = segments(folder)
    whole = path.read_bytes()
    for _ in range(200):
        at = random.randrange(len(MAGIC), len(whole.rstrip(b"\0")))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        found = recover([path])
        assert "".join(words).startswith(text_of(found.pieces.get("gen_1", [])))
        assert found.damaged == [path.name]


def test_swapped_segments_are_read_all_the_same(folder: Path, journal: Journal) -> None:
    text = append_until_rolled_over(journal, "gen_1")
    paths = segments(folder)
    assert text_of(recover(reversed(paths)).pieces["gen_1"]) == text
    paths[0].rename(folder / "swap")
    paths[1].rename(paths[0])
    (folder / "swap").rename(paths[1])
    assert text_of(recover(segments(folder)).pieces["gen_1"]) == text


def test_another_version_is_refused_and_nothing_is_changed(folder: Path) -> None:
    folder.mkdir()
    (folder / "00000001.segment").write_bytes(MAGIC.replace(b"1\n", b"2\n") + bytes(100))
    with pytest.raises(JournalError, match="another version"):
        Journal(folder, SEGMENT_BYTES).open()
    assert [path.name for path in folder.iterdir()] == ["00000001.segment"]


@pytest.mark.parametrize("call", ["posix_fallocate", "pwrite", "open"])
def test_a_full_or_failing_disk_is_one_sentence_at_the_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(os, call, raising(errno.ENOSPC))
    with pytest.raises(JournalError, match="No space left on device"):
        Journal(folder, SEGMENT_BYTES).open()


def test_a_disk_that_is_full_refuses_text_and_takes_it_again_later(
    folder: Path, monkeypatch: pytest.MonkeyPatch, journal: Journal
) -> None:
    journal.append([Append("gen_1", pieces("one "))])
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", raising(errno.ENOSPC))
        with pytest.raises(StoreUnavailable):
            journal.append([Append("gen_1", [Piece(8, 0, Kind.TEXT, b"two ")])])
    journal.append([Append("gen_1", [Piece(8, 0, Kind.TEXT, b"two ")])])
    assert text_of(recover(segments(folder)).pieces["gen_1"]) == "one two "


def test_a_segment_that_cannot_be_created_is_tried_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, journal: Journal
) -> None:
    text = append_until_rolled_over(journal, "gen_1", 10)
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", raising(errno.ENOSPC))
        with pytest.raises(StoreUnavailable):
            append_until_refused(journal, "gen_2")
    append_until_rolled_over(journal, "gen_3", 40)
    assert text_of(recover(segments(folder)).pieces["gen_1"]) == text


def test_a_segment_that_an_append_reaches_is_kept_for_its_answer(folder: Path, journal: Journal) -> None:
    journal.append([Append("gen_1", pieces("x" * (SEGMENT_BYTES * 3 // 4)))])
    assert journal._spare is not None
    journal._spare.result()
    words = pieces(*["y" * 100] * (SEGMENT_BYTES // 200))
    journal.append([Append("gen_2", words)])  # the rest of one segment, and a part of the next
    append_until_rolled_over(journal, "gen_3")
    journal.release("gen_1")
    journal.release("gen_3")
    journal._files.submit(bool).result()  # files are removed before
    assert text_of(recover(segments(folder)).pieces["gen_2"]) == "y" * 100 * len(words)


def append_until_refused(journal: Journal, generation_id: str) -> None:
    """Append to the end of the segment, whose successor is not created."""
    for _ in range(200):
        journal.append([Append(generation_id, pieces("x" * 100))])
        if (spare := journal._spare) is not None:
            spare.exception()


def raising(number: int) -> Any:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


WORDS = [b"word %03d " % number * 4 for number in range(12)]


def append_and_die(folder: Path, steps: int, shown: int) -> None:
    """Append `WORDS` and close, and die before system call number `steps`. Write each position behind it to `shown`."""
    left = steps

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **names: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **names)

        return call

    for name in ("open", "posix_fallocate", "pwrite", "fdatasync", "fsync", "close", "unlink"):
        setattr(os, name, counted(getattr(os, name)))
    journal = Journal(folder, 512)
    journal.open()
    journal.discard_old()
    end = 0
    for number, data in enumerate(WORDS):
        end += len(data)
        while True:
            try:
                journal.append([Append("gen_1", [Piece(end, 0, Kind.TEXT, data)])])
                break
            except StoreUnavailable:
                if journal._spare is not None:
                    journal._spare.exception()
        os.write(shown, b"%d " % end)
        if number % 4 == 3:
            journal.sync(lambda: None)
    journal.close()
    os.write(shown, b"closed")


def test_a_kill_at_every_step_loses_nothing_that_was_appended(tmp_path: Path) -> None:
    text = b"".join(WORDS)
    for steps in range(200):
        folder = tmp_path / str(steps)
        reads, shown = os.pipe()
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                append_and_die(folder, steps, shown)
            os._exit(0)
        os.close(shown)
        with os.fdopen(reads, "rb") as pipe:
            lines = pipe.read().split()
        _, status = os.waitpid(child, 0)
        appended = max((int(line) for line in lines if line.isdigit()), default=0)
        found = text_of(recover(segments(folder)).pieces.get("gen_1", [])).encode()
        assert text.startswith(found)
        assert len(found) >= appended
        if lines[-1:] == [b"closed"]:
            assert steps > len(WORDS)
            return
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    raise AssertionError("the journal took more steps than the test allows")


def test_a_sync_reaches_the_file_and_its_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    for name in ("fdatasync", "fsync"):
        monkeypatch.setattr(os, name, lambda file: synced.append(Path(f"/proc/self/fd/{file}").readlink().name))
    journal = Journal(folder, SEGMENT_BYTES)
    journal.open()
    journal.sync(lambda: None)
    journal.sync(lambda: None)
    journal.close()
    assert synced == ["00000001.segment", folder.name, "00000001.segment"]
