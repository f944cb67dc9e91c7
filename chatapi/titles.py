"""Default session titles, derived from the first user message."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from chatapi.model import Kind, NewMessage, Role, visible_text

MAX_CHARACTERS = 60  # of a title, including its ellipsis: a line of a list
READ_CHARACTERS = 1_000  # of the message, so that a long message does not delay its turn
ELLIPSIS = "…"
_MEDIA = {Kind.IMAGE: "Image", Kind.AUDIO: "Recording", Kind.FILE: "File"}


def title_of(messages: Iterable[NewMessage]) -> str | None:
    """Derive a title from the first user message with visible text or media; None if there is none."""
    for message in messages:
        if message.role is Role.USER and (title := _of_text(visible_text(message.parts)) or _of_media(message)):
            return title
    return None


def _of_text(text: str) -> str:
    """Return the first non-empty line, with single spaces, cut to `MAX_CHARACTERS` between two characters."""
    line = " ".join(text.lstrip()[:READ_CHARACTERS].partition("\n")[0].split())
    if len(line) <= MAX_CHARACTERS:
        return line
    end = MAX_CHARACTERS - len(ELLIPSIS)
    space = line.rfind(" ", 0, end + 1)
    if space >= MAX_CHARACTERS // 2:
        return line[:space] + ELLIPSIS
    while end > 1 and _continues_character(line, end):  # no word ends in the second half
        end -= 1
    return line[:end].rstrip() + ELLIPSIS


def _continues_character(line: str, index: int) -> bool:
    """Return whether a cut here would split a visible character: before an accent, joiner, skin tone or half a flag."""
    character = line[index]
    return (
        line[index - 1] == "\u200d"
        or unicodedata.category(character) in {"Mn", "Mc", "Me", "Cf"}
        or "\U0001f3fb" <= character <= "\U0001f3ff"
        or (_is_regional(character) and _regional_before(line, index) % 2 == 1)
    )


def _is_regional(character: str) -> bool:
    """Return whether two of these characters make a flag."""
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _regional_before(line: str, index: int) -> int:
    start = index
    while start > 0 and _is_regional(line[start - 1]):
        start -= 1
    return index - start


def _of_media(message: NewMessage) -> str | None:
    for part in message.parts:
        if part.media is not None:
            return _of_text(part.media.filename or "") or _MEDIA[part.kind]
    return None
