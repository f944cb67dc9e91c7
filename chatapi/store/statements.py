"""SQL text with a variable number of parameters: rows of values and lists of IDs, in few distinct texts."""

from __future__ import annotations

from functools import cache
from itertools import chain
from typing import Any

from chatapi.store.drivers.driver import Statement, Transaction

ROWS_PER_INSERT = 32  # a longer list takes several statements, so that few distinct texts are prepared
IDS_PER_STATEMENT = 64  # a shorter list is padded, so that there is one text for all lengths


def parameters(count: int, first: int = 1) -> str:
    """Return `$first, …`: so many parameters."""
    return ", ".join([f"${number}" for number in range(first, first + count)])


@cache
def value_rows(rows: int, columns: int, first: int = 1) -> str:
    """Return `($1, $2), ($3, $4), …`: the parameters of so many rows, numbered from `first`."""
    starts = range(first, first + rows * columns, columns)
    return ", ".join([f"({parameters(columns, start)})" for start in starts])


@cache
def _insert(into: str, rows: int, columns: int) -> str:
    return f"INSERT INTO {into} VALUES {value_rows(rows, columns)}"


def insert_rows(into: str, rows: list[tuple[Any, ...]]) -> list[Statement]:
    """Insert rows of equal length. `into` is a table and its columns: `message (id, session_id)`."""
    batches = [rows[start : start + ROWS_PER_INSERT] for start in range(0, len(rows), ROWS_PER_INSERT)]
    return [(_insert(into, len(batch), len(batch[0])), tuple(chain.from_iterable(batch))) for batch in batches]


def id_batches(ids: list[str]) -> list[list[str]]:
    """Split `ids` into lists of exactly `IDS_PER_STATEMENT`; the last list is padded with its last ID."""
    batches = [ids[start : start + IDS_PER_STATEMENT] for start in range(0, len(ids), IDS_PER_STATEMENT)]
    return [batch + batch[-1:] * (IDS_PER_STATEMENT - len(batch)) for batch in batches]


@cache
def id_parameters(first: int) -> str:
    """Return the parameters of one list of `id_batches`, numbered from `first`."""
    return parameters(IDS_PER_STATEMENT, first)


def run_each(statements: list[Statement]) -> Transaction[None]:
    """Run statements in order and ignore their rows."""
    for statement in statements:  # noqa: UP028  # rows are sent here, which a list's own iterator does not accept
        yield statement
