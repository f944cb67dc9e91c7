"""Full-text search over an owner's titles and messages.

There is no index. A search scans the newest session first, a bounded amount per request, and returns a cursor for the
rest (docs/decisions/search.md). It yields to other tasks after each millisecond: on another thread it would hold the
interpreter's lock for longer than that.
"""

from __future__ import annotations

import asyncio
import re
import time
import unicodedata
from collections.abc import Generator, Iterable
from functools import lru_cache

import msgspec

from chatapi.model import Microseconds, SearchCursor
from chatapi.store import Candidate, Store

MOST_CANDIDATES = 4_000  # scanned for one request,
LEAST_CANDIDATES = 64  # that a batch counts for at least: reading empty sessions takes time too
MOST_CHARACTERS = 4 * 1024 * 1024  # or this much stored text: about a third of a second
RUN_CHARACTERS = 16 * 1024  # folded at once: half a millisecond
SLICE_SECONDS = 0.001  # of work before other tasks may run
MARKS = 64  # combining marks after a character that are treated as part of it
BEFORE, AFTER = 60, 120  # characters of a snippet around the match


class Hit(msgspec.Struct, frozen=True):
    """A title or message that contains all words. `match` is the range of the first word in the snippet."""

    session_id: str
    title: str | None
    message_id: str | None
    role: str | None
    created_at: Microseconds
    snippet: str
    match: tuple[int, int]


class Found(msgspec.Struct, frozen=True):
    """The hits of one request, and the cursor for the next one: None at the end."""

    hits: list[Hit]
    place: SearchCursor | None


def fold(text: str) -> str:
    """Return `text` in the form in which it is compared: without differences of case, width and composition.

    Each character folds to one or more characters; the marks after a character may change their order.
    """
    if text.isascii():
        return text.lower()
    # Python sorts the marks of a character by insertion, which takes seconds for as many as a run has. More than
    # `MARKS` of them are sorted in parts.
    marked = [at for at in range(MARKS, len(text), MARKS) if text[at] in _MARKS]
    cuts = [at for at in marked if _MARKS.issuperset(text[at - MARKS : at])]
    if not cuts:
        return _fold(text)
    return "".join([_fold(text[start:end]) for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)])


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())


_MADE_OF_MARKS = "\u0f73\u0f75\u0f81\uff9e\uff9f"  # they fold to marks
# A loop of Python code: `filter` would hold the interpreter for 20 ms, and this is imported beside running answers.
_MARKS = frozenset([one for one in map(chr, range(0x300, 0x1F000)) if unicodedata.combining(one)]) | set(_MADE_OF_MARKS)


class Words:
    """The words of a query. A word is also found within longer words."""

    def __init__(self, query: str) -> None:
        words = list(dict.fromkeys(fold(query).split()))
        self.first = words[0] if words else ""
        # A word that is part of another one is found with it.
        self.all = [
            word
            for word in words
            if word == self.first or not any(word != other and _find(other, word) >= 0 for other in words)
        ]
        self._overlap = max(map(len, words), default=0) + 1

    def find(self, text: str) -> tuple[int, int] | None:
        """Return the range of the first word if the text contains all words."""
        looking = self.look(text)
        try:
            while True:
                next(looking)
        except StopIteration as end:
            place: tuple[int, int] | None = end.value
            return place

    def look(self, text: str) -> Generator[None, None, tuple[int, int] | None]:
        """Do the same in runs, and yield after each."""
        missing = list(self.all)
        first = None
        for begin in range(0, len(text), RUN_CHARACTERS):
            run = text[begin : _end_of_character(text, begin + RUN_CHARACTERS + self._overlap)]
            folded = fold(run)
            for word in missing[:]:
                at = _find(folded, word)
                if at >= 0:
                    missing.remove(word)
                    if word == self.first:
                        start, end = _unfolded(run, at, at + len(word))
                        first = begin + start, begin + end
            if not missing:
                return first
            yield
        return None


def _find(folded: str, word: str) -> int:
    """Return the index of the word; whole characters only: `e` does not match the start of `é`."""
    at = folded.find(word)
    while at >= 0:
        after = at + len(word)
        if after == len(folded) or not unicodedata.combining(folded[after]):
            break
        at = folded.find(word, at + 1)
    return at


def _end_of_character(text: str, at: int) -> int:
    """Return the first index from `at` on that is not a combining mark."""
    for end in range(at, min(at + MARKS, len(text))):
        if not unicodedata.combining(text[end]):
            return end
    return at


def _unfolded(text: str, start: int, end: int) -> tuple[int, int]:
    """Return the range of a text that folds to the range `start` to `end` of the folded text."""
    if text.isascii():
        return start, end
    begin, position = 0, 0
    for index, character in enumerate(text):
        position += _folded_length(character)
        if position <= start:
            begin = index + 1
        if position >= end:
            return begin, index + 1
    return begin, len(text)


@lru_cache(4096)
def _folded_length(character: str) -> int:
    return len(fold(character))


def snippet(text: str, start: int, end: int) -> tuple[str, tuple[int, int]]:
    """Return the text around a range, on one line, and the position of the range in it."""
    before = _on_one_line(text[max(0, start - BEFORE) : start])
    before = ("…" if start > BEFORE else "") + before
    found = _on_one_line(text[start:end])
    after = _on_one_line(text[end : end + AFTER]) + ("…" if end + AFTER < len(text) else "")
    return before + found + after, (len(before), len(before) + len(found))


def _on_one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)


SEARCHED_ROLES = frozenset({"user", "assistant"})


async def matching(words: Words, candidates: Iterable[Candidate], limit: int) -> list[tuple[Hit, SearchCursor]]:
    """Return the first candidates that contain all words, and their cursors."""
    found: list[tuple[Hit, SearchCursor]] = []
    pause = _Pause()
    for candidate in candidates:
        if candidate.role is not None and candidate.role not in SEARCHED_ROLES:
            continue
        text = candidate.text
        looking = words.look(text)
        try:
            while True:
                next(looking)
                await pause.when_due()
        except StopIteration as end:
            place = end.value
        if place is not None:
            hit = Hit(
                candidate.session_id,
                candidate.title or None,
                candidate.message_id,
                candidate.role,
                candidate.created_at,
                *snippet(text, *place),
            )
            found.append((hit, candidate.place))
            if len(found) == limit:
                break
        await pause.when_due()
    return found


class _Pause:
    """Yields to other tasks after each slice of work."""

    def __init__(self) -> None:
        self._due = time.perf_counter() + SLICE_SECONDS

    async def when_due(self) -> None:
        if time.perf_counter() >= self._due:
            await asyncio.sleep(0)
            self._due = time.perf_counter() + SLICE_SECONDS


async def search(store: Store, owner: str, words: Words, place: SearchCursor | None, limit: int) -> Found:
    """Search from `place` on, or from the newest session if it is None.

    Stops after `limit` hits, `MOST_CANDIDATES` or about `MOST_CHARACTERS`.
    """
    hits: list[Hit] = []
    looked = characters = 0
    while True:
        candidates, place = await store.scans.search_batch(owner, place)
        found = await matching(words, candidates, limit - len(hits))
        hits += [hit for hit, _ in found]
        if len(hits) == limit:
            last = found[-1][1]
            return Found(hits, place if last == candidates[-1].place else last)
        looked += max(len(candidates), LEAST_CANDIDATES)
        characters += sum(len(candidate.content) for candidate in candidates)
        if place is None or looked >= MOST_CANDIDATES or characters >= MOST_CHARACTERS:
            return Found(hits, place)
