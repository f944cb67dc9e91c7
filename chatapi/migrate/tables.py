"""Tables and rows, as both databases have them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from chatapi.store.retention import RETENTION_LEASE
from chatapi.store.sessions import DELETED

Row = tuple[Any, ...]


class Table(NamedTuple):
    """The name, columns and key of a table. `columns` are in the order of their names, `key` is the primary key."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    text_columns: frozenset[str]

    @property
    def condition(self) -> str:
        """The SQL condition of the rows that are copied; each database has the other ones for itself."""
        return f"name NOT IN ('{RETENTION_LEASE}', '{DELETED}')" if self.name == "agreement" else "TRUE"

    def key_of(self, row: Row) -> Row:
        """Return the primary key of a row."""
        return tuple(row[self.columns.index(column)] for column in self.key)

    def describe(self, row: Row) -> str:
        """Return a phrase that identifies a row, for error messages."""
        return f"the row {', '.join(map(str, self.key_of(row)))} of the table {self.name}"


def column_list(columns: Iterable[str]) -> str:
    """Return the quoted columns, for SQL."""
    return ", ".join(f'"{column}"' for column in columns)
