"""Characters whose halves arrive in two pieces of JSON: some servers cut strings between surrogates."""

from __future__ import annotations

from typing import Any

from chatapi.wire.loose_json import storable


class Halves:
    """Joins the halves of characters. A place is where text belongs, such as its kind."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[Any, str] = {}  # a surrogate whose other half has not come, by its place

    def join(self, place: Any, text: str) -> str:
        """Return `text`, which must not be empty, made storable; a first half at its end waits for the next text."""
        if self._held:
            text = self._held.pop(place, "") + text
        if text.isascii() and "\0" not in text:
            return text
        if "\ud800" <= text[-1] <= "\udbff":
            self._held[place] = text[-1]
            text = text[:-1]
        return storable(text)

    def end(self) -> list[Any]:
        """Return the places at which a half was held whose other half never came."""
        held, self._held = self._held, {}
        return list(held)
