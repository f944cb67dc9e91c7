"""Transactions of the store's methods, to run them without the store or to note their statements."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from types import MethodType
from typing import Any, ParamSpec, TypeVar, cast

from chatapi.store.drivers.driver import Transaction

P = ParamSpec("P")
T = TypeVar("T")


def transaction_of(query: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> Transaction[T]:
    """Return the generator behind a repository's method, such as `store.sessions.find`."""
    method = cast(MethodType, query)
    transaction: Transaction[T] = inspect.unwrap(method.__func__)(method.__self__, *args, **kwargs)
    return transaction


def noted(transaction: Transaction[T], statements: list[Any]) -> Transaction[T]:
    """The same transaction, whose statements are noted down."""
    rows: Any = None
    while True:
        try:
            asked = transaction.send(rows)
        except StopIteration as end:
            return cast(T, end.value)
        statements.append(asked)
        rows = yield asked
