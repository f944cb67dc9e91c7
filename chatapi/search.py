"""Search: which titles and messages of an owner's hold all words that somebody looks for.

There is no index. A search looks through what there is, the newest session first, a bounded amount each time it is
asked, and says from where it goes on (docs/decisions/search.md). It gives way to everything else after each
millisecond: on another thread it would hold the interpreter for longer than that.
"""

from __future__ import annotations

import asyncio
import re
import time
import unicodedata
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from functools import lru_cache

from chatapi.model import Microseconds, SearchCursor
from chatapi.store import Candidate, Store

MOST_CANDIDATES = 4_000  # looked through for one request,
LEAST_CANDIDATES = 64  # so many a lot counts for at least: sessions with nothing in them are looked up too
MOST_CHARACTERS = 4 * 1024 * 1024  # or so much as it is stored: a sixth of a second's work or two
RUN_CHARACTERS = 16 * 1024  # folded at once: half a millisecond
SLICE_SECONDS = 0.001  # of looking, before whatever else is to be done
MARKS = 64  # that may follow a character and still belong to it
BEFORE, AFTER = 60, 120  # characters of a snippet around what was found


@dataclass(frozen=True, slots=True)
class Hit:
    """A title, or a message, that holds all words; `match` is where the first of them is in the snippet."""

    session_id: str
    title: str | None
    message_id: str | None
    role: str | None
    created_at: Microseconds
    snippet: str
    match: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Found:
    """What one look found, and from where the next one goes on, if there is more."""

    hits: list[Hit]
    place: SearchCursor | None


def fold(text: str) -> str:
    """`text` as it is compared: without differences of case, of width, and of how a character is written.

    Each character folds by itself, to one or more; only the marks that follow one may change their order.
    """
    if text.isascii():
        return text.lower()
    # Python sorts the marks on a character one by one, which takes seconds where there are as many as a run has. Where
    # one has more than `MARKS`, they are sorted in parts.
    marked = [at for at in range(MARKS, len(text), MARKS) if text[at] in _MARKS]
    cuts = [at for at in marked if _MARKS.issuperset(text[at - MARKS : at])]
    if not cuts:
        return _fold(text)
    return "".join([_fold(text[start:end]) for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)])


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())


_MADE_OF_MARKS = "\u0f73\u0f75\u0f81\uff9e\uff9f"  # and no marks themselves
_MARKS = frozenset(filter(unicodedata.combining, map(chr, range(0x300, 0x1F000)))) | frozenset(_MADE_OF_MARKS)


class Words:
    """The words that somebody looks for. A word is found within longer ones too."""

    def __init__(self, query: str) -> None:
        words = list(dict.fromkeys(fold(query).split()))
        self.first = words[0] if words else ""
        # What is in another is found with it.
        self.all = [
            word
            for word in words
            if word == self.first or not any(word != other and _find(other, word) >= 0 for other in words)
        ]
        self._overlap = max(map(len, words), default=0) + 1

    def find(self, text: str) -> tuple[int, int] | None:
        """Where the first word is, if all are in this text."""
        looking = self.look(text)
        try:
            while True:
                next(looking)
        except StopIteration as end:
            place: tuple[int, int] | None = end.value
            return place

    def look(self, text: str) -> Generator[None, None, tuple[int, int] | None]:
        """The same, run by run, with a stop after each."""
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
    """Where the word is, whole characters of it: `e` is not in what is an `é`."""
    at = folded.find(word)
    while at >= 0:
        after = at + len(word)
        if after == len(folded) or not unicodedata.combining(folded[after]):
            break
        at = folded.find(word, at + 1)
    return at


def _end_of_character(text: str, at: int) -> int:
    """The first place from `at` on where a character ends, with its marks."""
    for end in range(at, min(at + MARKS, len(text))):
        if not unicodedata.combining(text[end]):
            return end
    return at


def _unfolded(text: str, start: int, end: int) -> tuple[int, int]:
    """The characters of a text from which a place in it, once folded, was made."""
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
    """What stands around a place in a text, on one line; and where the place is in it."""
    before = _on_one_line(text[max(0, start - BEFORE) : start])
    before = ("…" if start > BEFORE else "") + before
    found = _on_one_line(text[start:end])
    after = _on_one_line(text[end : end + AFTER]) + ("…" if end + AFTER < len(text) else "")
    return before + found + after, (len(before), len(before) + len(found))


def _on_one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)


SEARCHED_ROLES = frozenset({"user", "assistant"})


async def matching(words: Words, candidates: Iterable[Candidate], limit: int) -> list[tuple[Hit, SearchCursor]]:
    """The first of the candidates that hold all words, and their places."""
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
    """Lets the event loop do what else there is, after each slice of work."""

    def __init__(self) -> None:
        self._due = time.perf_counter() + SLICE_SECONDS

    async def when_due(self) -> None:
        if time.perf_counter() >= self._due:
            await asyncio.sleep(0)
            self._due = time.perf_counter() + SLICE_SECONDS


async def search(store: Store, owner: str, words: Words, place: SearchCursor | None, limit: int) -> Found:
    """Look from a place on (from the newest session, if None) for so many hits, or through so much as is looked
    through at once."""
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
