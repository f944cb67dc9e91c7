"""The cuts of a log: every read by cut gets the same pieces, from memory, from rows and from the stored message."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatapi.model import Kind, Part, Piece, ToolCall
from chatapi.model.log import (
    CUT_BYTES,
    JOIN_AFTER_PARTS,
    JOINED_CHARACTERS,
    Log,
    contiguous,
    default_cuts,
    first_pieces,
    parts_of,
    pieces_of,
    split,
)
from chatapi.store.rows import decode_cuts, encode_cuts

quick = settings(deadline=None, derandomize=True)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)
writes = st.lists(
    st.tuples(
        st.one_of(
            st.tuples(st.sampled_from([Kind.TEXT, Kind.REASONING, Kind.REFUSAL]), st.none()),
            st.tuples(st.just(Kind.TOOL_CALL), st.builds(ToolCall, st.sampled_from("ab"), st.just("f"))),
        ),
        st.one_of(texts, st.integers(1, 3).map(lambda times: "grüße👋" * (CUT_BYTES // 10) * times)),
        st.sampled_from(["nothing", "offered", "offered", "stored", "stored"]),
    ),
    max_size=12,
)


@quick
@given(st.lists(st.integers(1, 100_000), max_size=50))
def test_stored_cuts_are_read_as_they_were(distances: list[int]) -> None:
    cuts = [sum(distances[: end + 1]) for end in range(len(distances))]
    encoded = encode_cuts(cuts)
    assert decode_cuts(encoded) == cuts
    assert encoded.isascii()
    assert all(len(encode_cuts([distance])) == 1 for distance in distances if distance < 32)
    assert all(len(encode_cuts([distance])) <= 2 for distance in distances if distance < 1024)


@quick
@given(writes, st.integers(CUT_BYTES, 3 * CUT_BYTES))
def test_every_read_by_cut_gets_the_same_pieces(
    wanted: list[tuple[tuple[Kind, ToolCall | None], str, str]], most: int
) -> None:
    log = Log()
    rows: list[Piece] = []
    live: list[Piece] = []
    for (kind, call), text, then in wanted:
        log.write(kind, text, call)
        if then != "nothing":
            rows += log.uncommitted()  # those that were offered before come again, the same
        if then == "stored":
            log.committed = log.position
        while pieces := log.read(live[-1].position if live else 0, most, by_cut=True):
            assert sum(len(piece.data) for piece in pieces) <= most
            live += pieces
    cuts = log.cuts()
    log.committed = log.position
    live += log.read(live[-1].position if live else 0, by_cut=True)
    assert log.read(0, by_cut=True) == live, "from memory, afterwards"
    assert all(len(piece.data) <= CUT_BYTES for piece in live)
    stored = split(pieces_of(log.parts()), decode_cuts(encode_cuts(cuts)))
    assert stored == live, "from the message"
    unique = contiguous(sorted(set(rows), key=lambda piece: piece.position), 0)
    assert unique == live[: len(unique)], "from the rows, while it runs"
    swept = split(pieces_of(parts_of(unique)), [piece.position for piece in unique])
    assert swept == unique, "from the message of a generation that was swept"
    for piece in live:
        rest = [other for other in live if other.position > piece.position]
        assert log.read(piece.position, by_cut=True) == rest, "from any cut on"
        assert split(pieces_of(log.parts(), piece.position), cuts) == rest


def test_an_answer_without_cuts_has_them_at_fixed_distances() -> None:
    parts = (Part(Kind.REASONING, "x" * 10), Part(Kind.TEXT, "ä" * CUT_BYTES))
    cuts = default_cuts(parts)
    assert cuts == [10, 10 + CUT_BYTES, 10 + 2 * CUT_BYTES]
    assert split(pieces_of(parts, 11), cuts)[0].position == 10 + CUT_BYTES


def test_positions_inside_a_character_are_no_cuts() -> None:
    (piece,) = pieces_of((Part(Kind.TEXT, "ää"),))
    assert [one.data.decode() for one in split([piece], [1, 2, 3])] == ["ä", "ä"]


@pytest.mark.parametrize(("most", "count"), [(1, 1), (3, 1), (6, 2), (8, 2), (9, 3), (99, 3)])
def test_the_first_pieces_are_whole(most: int, count: int) -> None:
    pieces = [Piece(end, 0, Kind.TEXT, b"abc") for end in (3, 6, 9)]
    assert first_pieces(pieces, most) == pieces[:count]


def test_an_answer_that_alternates_has_few_parts_and_all_of_its_text() -> None:
    log = Log()
    for _ in range(4500):
        log.write(Kind.REASONING, "r")
        log.write(Kind.TEXT, "t")
    log.write(Kind.TOOL_CALL, "{}", ToolCall("a", "f"))
    log.write(Kind.TEXT, "end")
    log.release()
    parts = log.parts()
    assert len(parts) <= JOIN_AFTER_PARTS + 2 * 4500 // JOINED_CHARACTERS + 6
    assert "".join(part.text for part in parts if part.kind is Kind.REASONING) == "r" * 4500
    assert "".join(part.text for part in parts if part.kind is Kind.TEXT) == "t" * 4500 + "end"
    assert [part.kind for part in parts[-2:]] == [Kind.TOOL_CALL, Kind.TEXT], "what was held comes before a call"
