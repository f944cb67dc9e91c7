"""Limits of what is stored: of a session, of an owner and in all."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, cast

import pytest

from chatapi.errors import QuotaExceeded, SessionFull
from chatapi.model import Alias, NewMessage, TurnRequest, user_text
from chatapi.store import Driver, Store, StoreLimits
from chatapi.store.drivers.driver import Statement
from chatapi.store.drivers.sqlite import SQLiteDriver
from chatapi.store.drivers.sqlite_file import dialect
from tests.test_store import Clock, Writer, anyone, clock, driver
from tests.transactions import noted, transaction_of

__all__ = ["clock", "driver"]  # fixtures

LIMITS = StoreLimits(session_messages=6, session_bytes=2_000, owner_sessions=3, sessions=5)
LONG = "x" * 1_500


@pytest.fixture
async def store(driver: Driver, clock: Clock) -> AsyncIterator[Store]:
    store = Store(driver, clock, limits=LIMITS)
    await store.open()
    yield store
    await store.close()


async def turn(
    store: Store,
    session_id: str | None,
    messages: tuple[NewMessage, ...],
    answer: str = "",
    owner: str = "anna",
    alias: Alias | None = None,
) -> str:
    begun = await store.turns.begin(TurnRequest(owner, session_id, None, messages, "gpt", "text", alias=alias), anyone)
    await (await Writer(begun).write(store, answer) if answer else Writer(begun)).finish(store)
    return begun.session.id


async def refused(made: Awaitable[object], error: type[Exception]) -> None:
    with pytest.raises(error):
        await made


async def test_a_session_takes_so_many_messages(store: Store) -> None:
    session_id = await turn(store, None, user_text("one"))
    await turn(store, session_id, user_text("two"))
    await refused(turn(store, session_id, user_text("three") * 2), SessionFull)
    await refused(store.messages.add(session_id, "anna", anyone, user_text("three") * 3), SessionFull)
    await refused(store.sessions.create_with_messages("anna", {}, user_text("one") * 7), SessionFull)
    await store.messages.add(session_id, "anna", anyone, user_text("three"))
    assert len(await store.messages.page_after(session_id, -1, 100)) == 5


@pytest.mark.parametrize("alias", [None, Alias("vercel-chat", "mine")])
async def test_a_session_takes_so_many_bytes_answers_among_them(store: Store, alias: Alias | None) -> None:
    await refused(turn(store, None, user_text(LONG * 2), alias=alias), SessionFull)
    session_id = await turn(store, None, user_text("short"), LONG, alias=alias)
    await refused(turn(store, session_id, user_text("x" * 600)), SessionFull)
    answer = (await store.messages.page_after(session_id, -1, 10))[-1]
    await store.messages.remove(session_id, answer.id, anyone)
    await turn(store, session_id, user_text("x" * 600))


async def test_a_developer_message_counts_as_content(driver: Driver, clock: Clock) -> None:
    store = Store(driver, clock, limits=StoreLimits(session_bytes=2_000, bytes=4_000))
    await store.open()
    created = await store.sessions.create(None, LONG)
    begun = await store.turns.begin(TurnRequest("anna", None, LONG, user_text("one"), "gpt", "text"), anyone)
    await Writer(begun).finish(store)
    await refused(store.sessions.change(created.id, anyone, "x" * 2_001), SessionFull)
    assert (await store.sessions.change(created.id, anyone, "short")).content_bytes == len("short")
    longer = await store.turns.begin(TurnRequest("anna", created.id, LONG, user_text("one"), "gpt", "text"), anyone)
    assert longer.session.content_bytes == begun.session.content_bytes
    await refused(store.sessions.create(None, LONG), QuotaExceeded)
    await refused(store.forks.create(begun.session.id, anyone, None, 1 << 20), QuotaExceeded)
    await store.close()


async def test_an_owner_has_so_many_sessions_and_room_again_after_a_deletion(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatapi.store.quotas.REFUSAL_SECONDS", 0.0)
    made = [(await store.sessions.create("anna", "")).id, await turn(store, None, user_text("one"))]
    made.append((await store.forks.create(made[1], anyone, None, 1 << 20)).id)
    for attempt in (
        store.sessions.create("anna", ""),
        store.sessions.create_with_messages("anna", {}, user_text("one")),
        store.forks.create(made[1], anyone, None, 1 << 20),
        turn(store, None, user_text("one")),
        turn(store, None, user_text("one"), alias=Alias("vercel-chat", "mine")),
    ):
        await refused(attempt, QuotaExceeded)
    await turn(store, made[1], user_text("two"))
    await store.sessions.create("bert", "")
    await store.sessions.delete(made[0], anyone)
    await turn(store, None, user_text("one"), alias=Alias("vercel-chat", "mine"))


async def test_the_store_has_so_many_sessions(store: Store) -> None:
    for number in range(5):
        await store.sessions.create(f"owner {number}", "")
    await refused(store.sessions.create(None, ""), QuotaExceeded)
    await refused(store.sessions.create("another", ""), QuotaExceeded)


async def test_a_page_costs_what_it_returns(tmp_path: Path) -> None:
    """Counted in instructions of SQLite: the last page of a long session costs as much as that of a short one."""
    path = tmp_path / "chat.db"
    store = Store(SQLiteDriver(path), Clock())
    await store.open()
    costs = []
    for length in (50, 5_000):
        session = await store.sessions.create_with_messages("anna", {}, user_text("and so on") * length)
        costs.append(cost_of_last_page(path, store, session.id))
    await store.close()
    assert costs[1] < 1.5 * costs[0]


def cost_of_last_page(path: Path, store: Store, session_id: str) -> int:
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    with closing(sqlite3.connect(path)) as connection:
        connection.set_progress_handler(count, 10)
        page = noted(transaction_of(store.messages.page_before, session_id, 1 << 30, 10), [])
        rows: Any = None
        with suppress(StopIteration):
            while True:
                sql, values = cast(Statement, page.send(rows))
                rows = connection.execute(dialect(sql), values).fetchall()
    return steps
