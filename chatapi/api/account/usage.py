"""Usage and price routes."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from chatapi.api.account.schemas import GET_PRICES, GET_USAGE
from chatapi.api.http.identity import owner_of
from chatapi.api.http.services import services_of
from chatapi.errors import InvalidRequest
from chatapi.model import GroupBy, UsageReport, UsageTotal
from chatapi.prices import COST_DIGITS, Prices

router = APIRouter(tags=["usage"])

DEFAULT_DAYS = 30
MAX_DAYS = 366
EPOCH = date(1970, 1, 1)


@router.get("/api/usage", **GET_USAGE)
async def usage(
    request: Request,
    first: Annotated[str | None, Query(alias="from", max_length=10)] = None,
    last: Annotated[str | None, Query(alias="to", max_length=10)] = None,
    by: Annotated[str, Query(max_length=40)] = "day",
) -> Response:
    """Return the usage of the caller's answers, grouped `by` day, model, session, upstream, or several as in
    `day,model`. An answer counts on the UTC day on which it ended. The default is the last 30 days."""
    core = services_of(request)
    owner = owner_of(request)
    begin, end = _days(first, last)
    groups = _groups(by)
    request.state.limit = await core.rate_limit.take(owner)
    found = await core.store.usage.report(owner, (begin - EPOCH).days, (end - EPOCH).days, groups)
    return _json({"from": begin.isoformat(), "to": end.isoformat(), **_usage_json(found, groups, core.prices)})


@router.get("/api/prices", **GET_PRICES)
async def prices(request: Request) -> Response:
    """Return the operator's price list: the price of a million tokens of each model."""
    known = services_of(request).prices
    return _json({"as_of": known.as_of, "currency": known.currency, "models": known.models})


def _days(first: str | None, last: str | None) -> tuple[date, date]:
    """Return the first and the last day of the report.

    Raises:
        InvalidRequest: one is not a day, or the range is empty or too long.
    """
    end = _day(last, "to") if last is not None else datetime.now(UTC).date()
    begin = _day(first, "from") if first is not None else max(EPOCH, end - timedelta(days=DEFAULT_DAYS - 1))
    if not 0 <= (end - begin).days < MAX_DAYS:
        raise InvalidRequest.field("from", f"It must be a day up to `to`, at most {MAX_DAYS - 1} days before it.")
    return begin, end


def _day(text: str, field: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or day.isoformat() != text or day < EPOCH:
        raise InvalidRequest.field(field, "It must be a day such as 2026-01-31.")
    return day


def _groups(by: str) -> frozenset[GroupBy]:
    try:
        groups = frozenset(map(GroupBy, by.split(",")))
    except ValueError:
        names = "It must be `day`, `model`, `session` or `upstream`, or several with commas."
        raise InvalidRequest.field("by", names) from None
    if {GroupBy.SESSION, GroupBy.UPSTREAM} <= groups:
        raise InvalidRequest.field("by", "It must not have both `session` and `upstream`.")
    return groups


class _Sum(msgspec.Struct):
    """The sums of one row. `cost` covers the answers with a known price; `unpriced` counts the others."""

    answers: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    estimated: int = 0
    unknown: int = 0
    cost: float | None = None
    unpriced: int = 0

    def add(self, tally: UsageTotal, prices: Prices) -> None:
        """Add the usage of some answers."""
        for name in _SUMMED:
            setattr(self, name, getattr(self, name) + getattr(tally, name))
        cost = prices.cost(tally)
        if cost is None:
            self.unpriced += tally.answers
        else:
            self.cost = round((self.cost or 0.0) + cost, COST_DIGITS)


_SUMMED = ("answers", "input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens", "estimated", "unknown")


def _usage_json(usage: UsageReport, by: frozenset[GroupBy], prices: Prices) -> dict[str, Any]:
    rows: dict[tuple[Any, ...], tuple[dict[str, Any], _Sum]] = {}
    for tally in usage.tallies:
        names = _names(tally, by)
        _, row = rows.setdefault(tuple(names.values()), (names, _Sum()))
        row.add(tally, prices)
    totals = _Sum()
    for tally in usage.totals:
        totals.add(tally, prices)
    data = [names | msgspec.to_builtins(row) for names, row in rows.values()]
    data.sort(key=lambda row: (row.get("day", ""), -row["input_tokens"] - row["output_tokens"]))
    known = {"as_of": prices.as_of, "currency": prices.currency} if prices.as_of is not None else None
    return {"data": data, "complete": usage.complete, "totals": totals, "prices": known}


def _names(tally: UsageTotal, by: frozenset[GroupBy]) -> dict[str, Any]:
    """Return the fields that identify a row."""
    names: dict[str, Any] = {}
    if GroupBy.DAY in by and tally.day is not None:
        names["day"] = (EPOCH + timedelta(days=tally.day)).isoformat()
    if GroupBy.MODEL in by:
        names["model"] = tally.model
    if GroupBy.UPSTREAM in by:
        names["upstream"] = tally.upstream or None
    if GroupBy.SESSION in by:
        names |= {"session_id": tally.session_id or None, "title": tally.title or None}
    return names


def _json(value: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
