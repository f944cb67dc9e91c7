"""What a session is called until somebody calls it otherwise: the first line of its first user message."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from chatapi.model import Kind, NewMessage, Role, visible_text

MOST_CHARACTERS = 60  # of a title made here, its ellipsis among them: a line of a list
LOOKED_AT = 1_000  # characters: a turn of a long message begins as fast as any
ELLIPSIS = "…"
_MEDIA = {Kind.IMAGE: "Image", Kind.AUDIO: "Recording", Kind.FILE: "File"}


def title_of(input: Iterable[NewMessage]) -> str | None:
    """A title made of the first user message that says or shows something, if there is one."""
    for message in input:
        if message.role is Role.USER and (title := _of_text(visible_text(message.parts)) or _of_media(message)):
            return title
    return None


def _of_text(text: str) -> str:
    """The first line that is not empty, its runs of spaces as one each, cut to `MOST_CHARACTERS`."""
    line = " ".join(text.lstrip()[:LOOKED_AT].partition("\n")[0].split())
    if len(line) <= MOST_CHARACTERS:
        return line
    end = MOST_CHARACTERS - len(ELLIPSIS)
    space = line.rfind(" ", 0, end + 1)
    if space >= MOST_CHARACTERS // 2:
        return line[:space] + ELLIPSIS
    while end > 1 and _belongs_to_what_is_before(line, end):  # no word ends where one should
        end -= 1
    return line[:end].rstrip() + ELLIPSIS


def _belongs_to_what_is_before(line: str, index: int) -> bool:
    """Whether one would see half a character where this one begins: an accent, a joiner, a skin tone."""
    character = line[index]
    return (
        line[index - 1] == "\u200d"
        or unicodedata.category(character) in {"Mn", "Mc", "Me", "Cf"}
        or "\U0001f3fb" <= character <= "\U0001f3ff"
    )


def _of_media(message: NewMessage) -> str | None:
    for part in message.parts:
        if part.media is not None:
            return _of_text(part.media.filename or "") or _MEDIA[part.kind]
    return None
