"""The line numbers of the keys of a TOML document, which `tomllib` does not keep. Only a wrong file is read so."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

Path = tuple[str, ...]
_ENDS = ("]", "}", '"""', "'''")  # one of which is in the last line of a statement of several lines


def find_line(text: str, path: Path) -> int | None:
    """Return the line of a key of a valid document, or of the nearest table around it that has one."""
    lines = dict(_lines(text))
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return None


def _lines(text: str) -> Iterator[tuple[Path, int]]:
    """Yield the path and the line of each table and of each key."""
    table: Path = ()
    for number, statement in _statements(text):
        found = tomllib.loads(statement)
        if statement.startswith("["):
            table = max(_paths(found), key=len)
            yield table, number
        else:
            for path in _paths(found):
                yield (*table, *path), number


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield each statement, which may have several lines, and the number of its first line."""
    held, first = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if not held and (not line.strip() or line.strip().startswith("#")):
            continue
        first = first if held else number
        is_first = not held
        held = line.strip() if is_first else f"{held}\n{line}"
        if not is_first and not any(end in line for end in _ENDS):
            continue  # parsing each line of a long array would take time that grows with its square
        try:
            tomllib.loads(held)
        except tomllib.TOMLDecodeError:
            continue  # a string, an array or an inline table that ends on a later line
        yield first, held
        held = ""


def _paths(value: dict[str, Any]) -> Iterator[Path]:
    for name, member in value.items():
        yield (name,)
        inner = member[0] if isinstance(member, list) and member else member
        if isinstance(inner, dict):
            yield from ((name, *path) for path in _paths(inner))
