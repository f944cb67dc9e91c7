"""Usage: every answer is counted once, for the key that paid, and stays counted."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from chatapi.errors import UpstreamBroken, UpstreamRateLimited, UpstreamTimeout
from chatapi.model import DAY_MICROSECONDS, GroupBy, Outcome, Status, Usage, UsageReport, UsageTotal
from chatapi.prices import Prices, read_prices
from chatapi.settings import SettingsError
from chatapi.simulator import Gate, Simulator, answer, refuse, scripts
from chatapi.store import Fenced, Store
from chatapi.store.drivers.sqlite import SQLiteDriver
from chatapi.store.usage import MAX_TOKENS, MAX_TOTALS
from tests.server_process import KEY, OTHER_KEY, PROJECT, Serve, Service, fresh_key
from tests.test_store import COMPLETED, TEXT, Clock, Writer, anyone, begin, clock, driver, said, store, turn

__all__ = ["clock", "driver", "store"]  # fixtures

NO_DAYS = frozenset[GroupBy]()
EVERY = frozenset(GroupBy) - {GroupBy.UPSTREAM}  # which is counted apart from sessions
LAST_DAY = 1 << 30
STOPPED = Outcome(Status.STOPPED, None, Usage(None, 7, estimated=True))
LOST = Outcome(Status.FAILED, None, None, UpstreamBroken.code, "It broke.")
SILENT = Outcome(Status.FAILED, None, None, UpstreamTimeout.code, "It was silent.")
REFUSED = Outcome(Status.FAILED, None, None, UpstreamRateLimited.code, "Wait.")
ABSURD = Outcome(Status.COMPLETED, "stop", Usage(1 << 80, -5, None, 1 << 62))


async def used(store: Store, owner: str = "anna", by: frozenset[GroupBy] = NO_DAYS) -> list[UsageTotal]:
    return (await store.usage.report(owner, 0, LAST_DAY, by)).tallies


# In the store


async def test_every_answer_is_counted_when_it_ends_and_a_refusal_is_not(store: Store) -> None:
    for ending, text in ((COMPLETED, TEXT), (STOPPED, "so far"), (LOST, "half"), (SILENT, ""), (REFUSED, "")):
        await said(store, None, "Hello", text, ending)
    await begin(store)  # which has not ended
    assert await used(store) == [UsageTotal(None, None, None, "gpt", 4, 3, 4 + 7, 1, 2, estimated=1, unknown=2)]
    assert await used(store, "bert") == []


async def test_absurd_token_counts_of_an_upstream_do_not_keep_an_answer_from_ending(store: Store) -> None:
    for _ in range(2):
        await said(store, None, "Hello", TEXT, ABSURD)
    (tally,) = await used(store)
    assert (tally.input_tokens, tally.output_tokens, tally.cached_tokens) == (2 * MAX_TOKENS, 0, 2 * MAX_TOKENS)


async def test_a_swept_answer_is_counted_once(store: Store, clock: Clock) -> None:
    writer = Writer(await begin(store))
    clock.advance(1000)
    assert len(await store.generations.sweep()) == 1
    assert await store.generations.sweep() == []
    with pytest.raises(Fenced):
        await writer.finish(store)
    (tally,) = await used(store)
    assert (tally.answers, tally.unknown) == (1, 1)


async def test_an_outcome_that_is_stored_twice_is_counted_once(store: Store) -> None:
    writer = await Writer(await begin(store)).write(store, TEXT)
    await writer.finish(store)
    await writer.finish(store)
    assert [tally.answers for tally in await used(store)] == [1]


async def test_deleted_answers_stay_counted(store: Store, clock: Clock) -> None:
    kept = await said(store, None, "one", TEXT)
    clock.advance(86_400)
    gone = await said(store, None, "two", TEXT)
    await said(store, gone.session.id, "three", TEXT)
    also = await said(store, None, "four", TEXT)
    taken = await said(store, kept.session.id, "five", TEXT)
    before = await used(store, by=frozenset({GroupBy.DAY}))
    for session in (gone.session, also.session):
        await store.sessions.delete(session.id, anyone)
    await store.messages.remove_answer(taken.generation.id, anyone)
    assert await used(store, by=frozenset({GroupBy.DAY})) == before
    today = clock.now // DAY_MICROSECONDS
    found = await used(store, by=EVERY)
    assert {(tally.day, tally.session_id): tally.answers for tally in found} == {
        (today - 1, kept.session.id): 1,
        (today, kept.session.id): 1,
        (today, ""): 3,
    }


async def test_removing_the_last_answer_removes_its_session_and_keeps_its_cost(store: Store) -> None:
    only = await said(store, None, "one", TEXT)
    await store.messages.remove_answer(only.generation.id, anyone)
    assert [(tally.session_id, tally.answers) for tally in await used(store, by=EVERY)] == [("", 1)]


async def test_an_answer_deleted_while_it_ran_is_counted_as_unknown(store: Store) -> None:
    begun = await begin(store)
    await store.sessions.delete(begun.session.id, anyone)
    assert await used(store) == [UsageTotal(None, None, None, "gpt", 1, 0, 0, 0, 0, 0, unknown=1)]


async def test_usage_is_grouped_by_day_model_and_session(store: Store, clock: Clock) -> None:
    first = await said(store, None, "one", TEXT)
    await store.sessions.change(first.session.id, anyone, title="Ours")
    other = await store.turns.begin(replace(turn(), model="other"), anyone)
    await Writer(other).finish(store)
    await said(store, first.session.id, "two", TEXT)
    await store.turns.begin(turn(owner="bert"), anyone)
    one = replace(UsageTotal(None, None, None, "gpt", 2, 6, 8, 2, 4, 0, 0))
    two = replace(one, model="other", answers=1, input_tokens=3, output_tokens=4, reasoning_tokens=1, cached_tokens=2)
    day = clock.now // DAY_MICROSECONDS
    assert await used(store) == [one, two]
    assert await used(store, by=frozenset({GroupBy.DAY})) == [replace(one, day=day), replace(two, day=day)]
    assert await used(store, by=frozenset({GroupBy.SESSION})) == [
        replace(one, session_id=first.session.id, title="Ours"),
        replace(two, session_id=other.session.id, title="Hello"),
    ]
    assert await store.usage.report("anna", day + 1, LAST_DAY, EVERY) == UsageReport([], [], True)
    assert await store.usage.report("anna", 0, day - 1, EVERY) == UsageReport([], [], True)


async def test_usage_is_grouped_by_upstream_also_after_a_deletion(store: Store, clock: Clock) -> None:
    first = await said(store, None, "one", TEXT, replace(COMPLETED, upstream="main"))
    await said(store, first.session.id, "two", TEXT, replace(COMPLETED, upstream="main"))
    await said(store, first.session.id, "three", TEXT, replace(COMPLETED, upstream="spare"))
    await said(store, first.session.id, "four", TEXT)  # as a server with one upstream counts it
    one = UsageTotal(None, None, None, "gpt", 1, 3, 4, 1, 2, 0, 0)
    main = replace(
        one, answers=2, input_tokens=6, output_tokens=8, reasoning_tokens=2, cached_tokens=4, upstream="main"
    )
    rows = [main, replace(one, upstream=""), replace(one, upstream="spare")]
    by_upstream = frozenset({GroupBy.UPSTREAM})
    assert await used(store, by=by_upstream) == rows
    await store.sessions.delete(first.session.id, anyone)
    day = clock.now // DAY_MICROSECONDS
    assert await used(store, by=by_upstream | {GroupBy.DAY}) == [replace(row, day=day) for row in rows]
    assert await used(store, "bert", by=by_upstream) == []


async def test_answers_of_an_older_file_are_counted_as_new_ones(tmp_path: Path, clock: Clock) -> None:
    file = tmp_path / "chat.db"
    store = Store(SQLiteDriver(file), clock)
    await store.open()
    for ending, text in ((COMPLETED, TEXT), (STOPPED, "so far"), (LOST, "half"), (SILENT, ""), (REFUSED, "")):
        begun = await said(store, None, "Hello", text, ending)
        await said(store, begun.session.id, "And?", text, ending)
        clock.advance(50_000)
    before = await store.usage.report("anna", 0, LAST_DAY, EVERY)
    running = await begin(store)
    await store.close()
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("DROP TABLE usage")
        connection.execute("DELETE FROM migration WHERE name LIKE '%0006_usage%'")
        connection.execute("UPDATE generation SET replica = 'gone' WHERE id = ?", (running.generation.id,))
    store = Store(SQLiteDriver(file), clock)
    await store.open()
    after = await store.usage.report("anna", 0, LAST_DAY, EVERY)
    await store.close()
    swept = [tally for tally in after.tallies if tally.session_id == running.session.id]
    assert [(tally.answers, tally.unknown) for tally in swept] == [(1, 1)]
    assert [tally for tally in after.tallies if tally not in swept] == before.tallies


# Prices


def prices(tmp_path: Path, text: str) -> Prices:
    file = tmp_path / "prices.json"
    file.write_text(text)
    return read_prices(file)


LIST = '{"as_of": "2026-01-31", "currency": "USD", "models": %s}'
BAD_PRICES = [
    "",
    "[]",
    "{" * 100_000,
    LIST % '{"m": {"input": -1, "output": 1}}',
    LIST % '{"m": {"input": 1e999, "output": 1}}',
    LIST % '{"m": {"input": 1}}',
    LIST % '{"m": {"input": 1, "output": "2"}}',
    LIST % '{"m": {"input": 1, "output": 2, "image": 3}}',
    LIST.replace("USD", "$") % "{}",
    LIST.replace("-01-31", "") % "{}",
    LIST % "{}" + " " * 2_000_000,
]


@pytest.mark.parametrize("text", BAD_PRICES, ids=range(len(BAD_PRICES)))
def test_an_invalid_price_list_is_refused_with_a_sentence(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match=r"^CHATAPI_PRICES: .*prices\.json.*\.$"):
        prices(tmp_path, text)


def test_a_missing_price_list_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^CHATAPI_PRICES: .*cannot be read: No such file"):
        read_prices(tmp_path / "none.json")
    assert read_prices(None) == Prices()


def test_a_dated_release_has_the_price_of_its_model(tmp_path: Path) -> None:
    known = prices(tmp_path, LIST % '{"m": {"input": 1, "output": 2}, "m-2025-01-01": {"input": 3, "output": 4}}')
    for model in ("m", "m-2025-04-14", "m-20250414", "m-0613"):
        assert known.of(model) == known.models["m"], model
    assert known.of("m-2025-01-01") == known.models["m-2025-01-01"]
    for model in ("", "M", "m-mini", "m-2025-04-14-mini", "m-2048", "m-9999", "mm", "-0613"):
        assert known.of(model) is None, model


def test_cached_tokens_have_their_own_price_if_there_is_one(tmp_path: Path) -> None:
    known = prices(
        tmp_path,
        LIST % '{"a": {"input": 2, "cached_input": 0.5, "output": 8}, "b": {"input": 2, "output": 8}}',
    )
    tally = UsageTotal(None, None, None, "a", 1, 1_000_000, 500_000, 0, 400_000, 0, 0)
    assert known.cost(tally) == pytest.approx(0.6 * 2 + 0.4 * 0.5 + 0.5 * 8)
    assert known.cost(replace(tally, model="b")) == pytest.approx(2 + 4)
    assert known.cost(replace(tally, cached_tokens=9_000_000)) == pytest.approx(0.5 + 4), "not more than there were"
    assert known.cost(replace(tally, model="c")) is None


def test_the_example_is_a_price_list() -> None:
    assert read_prices(PROJECT / "chatapi/prices.example.json").of("gpt-4.1-mini-2025-04-14") is not None


# The routes

FILE = LIST % '{"gpt-4.1-mini": {"input": 0.4, "cached_input": 0.1, "output": 1.6}}'
ROW = {
    "answers": 1,
    "input_tokens": 0,
    "output_tokens": 3,
    "reasoning_tokens": 0,
    "cached_tokens": 0,
    "estimated": 0,
    "unknown": 0,
    "cost": pytest.approx(3 * 1.6 / 1_000_000),
    "unpriced": 0,
}


@pytest.fixture
def priced(serve: Serve, tmp_path: Path) -> Service:
    """A server with a price list."""
    file = tmp_path / "prices.json"
    file.write_text(FILE)
    return serve(CHATAPI_PRICES=str(file))


def counted(service: Service, key: str, query: str = "") -> dict[str, Any]:
    response = service.get(f"/api/usage{query}", key=key)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def day_of(response_text: str) -> str:
    """Return the day of a time."""
    return response_text[:10]


def test_a_user_sees_the_cost_of_own_answers_and_no_others(priced: Service, simulator: Simulator) -> None:
    simulator.script = lambda request: answer("one two three")
    first = priced.send(model="gpt-4.1-mini-2025-04-14")
    assert first.text
    session_id = first.headers["X-Session-ID"]
    priced.patch(f"/api/sessions/{session_id}", key=KEY, json={"title": "Counting"})
    day = day_of(priced.messages(session_id, key=KEY)[-1]["ended_at"])
    assert priced.send(model="free-of-price", session_id=session_id).text
    simulator.script = lambda request: refuse(400)  # which is not tried again
    assert priced.send(session_id=session_id).status_code == 400
    unpriced = ROW | {"cost": None, "unpriced": 1}
    both = ROW | {"answers": 2, "output_tokens": 6, "unpriced": 1}
    shown = counted(priced, KEY)
    assert shown["data"] == [{"day": day, **both}]
    assert shown["totals"] == both
    assert shown["prices"] == {"as_of": "2026-01-31", "currency": "USD"}
    assert shown["complete"] is True
    assert counted(priced, KEY, "?by=session")["data"] == [{"session_id": session_id, "title": "Counting", **both}]
    models = {row["model"]: row for row in counted(priced, KEY, "?by=day,model")["data"]}
    assert models == {
        "gpt-4.1-mini-2025-04-14": {"day": day, "model": "gpt-4.1-mini-2025-04-14", **ROW},
        "free-of-price": {"day": day, "model": "free-of-price", **unpriced},
    }
    for query in ("", "?by=day", "?by=model", "?by=session", "?by=day,model,session"):
        nobodys = counted(priced, OTHER_KEY, query)
        assert nobodys["data"] == []
        assert nobodys["totals"]["answers"] == 0
    assert priced.delete(f"/api/sessions/{session_id}", key=KEY).status_code == 200
    assert counted(priced, KEY)["totals"] == both
    assert counted(priced, KEY, "?by=session")["data"] == [{"session_id": None, "title": None, **both}]
    assert priced.get("/api/prices").json() == json.loads(FILE)


@pytest.mark.one_process("it is about a query, and one process answers it as any does")
def test_usage_needs_a_key_and_valid_days(shared: Service) -> None:
    key = fresh_key("usage-days")
    assert shared.get("/api/usage").status_code == 401
    assert shared.get("/api/usage", key="sk-nonsense").status_code == 400
    today = datetime.now(UTC).date()
    shown = counted(shared, key)
    assert shown["to"] in {today.isoformat(), (today + timedelta(days=1)).isoformat()}
    assert shown["data"] == []
    assert shown["prices"] is None
    shown = counted(shared, key, "?to=2026-03-01")
    assert (shown["from"], shown["to"]) == ("2026-01-31", "2026-03-01")
    assert counted(shared, key, "?from=2024-01-01&to=2024-12-31")["from"] == "2024-01-01"
    for query in (
        "from=2026-01-02&to=2026-01-01",
        "from=2024-01-01&to=2025-01-01",
        "from=1969-12-31&to=1970-01-01",
        "from=20260101",
        "from=2026-02-30",
        "to=tomorrow",
        "to=9999-12-31&from=0001-01-01",
        "by=",
        "by=owner",
        "by=day,,model",
        "to=" + "9" * 300,
    ):
        assert shared.get(f"/api/usage?{query}", key=key).status_code == 422, query
    assert shared.get("/api/prices").json() == {"as_of": None, "currency": None, "models": {}}


@pytest.mark.one_process("it is about an answer that is stopped, which is one process's")
def test_a_stopped_answer_is_counted_as_an_estimate(service: Service, simulator: Simulator, gate: Gate) -> None:
    simulator.script = lambda request: scripts.held(gate, "one two ", "three")
    with service.send() as response:
        assert next(response.iter_content(None))
        session_id = response.headers["X-Session-ID"]
        assert service.post(f"/api/chat/{session_id}/stop", key=KEY).status_code == 200
    totals = counted(service, KEY)["totals"]
    assert (totals["answers"], totals["estimated"], totals["unknown"]) == (1, 1, 0)
    assert totals["output_tokens"] > 0


@pytest.mark.one_process("it is about a file that one process has")
def test_a_list_that_is_too_long_is_shortened_and_marked(serve: Serve) -> None:
    service = serve(CHATAPI_RATE_LIMIT="0")
    assert service.send("Count to 3").text
    service.stop()
    with closing(sqlite3.connect(service.folder / "chat.db")) as connection, connection:
        connection.execute(
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?) "
            "INSERT INTO usage SELECT owner, 'ses_' || n, day, model, 1, n, 0, 0, 0, 0, 0 FROM usage, n",
            (MAX_TOTALS,),
        )
    service.start()
    shown = counted(service, KEY, "?by=session")
    assert len(shown["data"]) == MAX_TOTALS
    assert shown["complete"] is False
    assert shown["totals"]["answers"] == MAX_TOTALS + 1
    assert counted(service, KEY)["complete"] is True
