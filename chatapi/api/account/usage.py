"""What answers cost: GET /api/usage adds up the caller's own, and GET /api/prices tells what tokens cost."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from chatapi.api.http.services import owner_of, services_of
from chatapi.errors import InvalidRequest
from chatapi.model import GroupBy, UsageReport, UsageTotal
from chatapi.prices import COST_DIGITS, Prices

router = APIRouter(tags=["usage"])

DAYS = 30  # when nothing else is asked for
MOST_DAYS = 366
EPOCH = date(1970, 1, 1)


@router.get("/api/usage")
async def usage(
    request: Request,
    first: Annotated[str | None, Query(alias="from", max_length=10)] = None,
    last: Annotated[str | None, Query(alias="to", max_length=10)] = None,
    by: Annotated[str, Query(max_length=40)] = "day",
) -> Response:
    """What the answers of the key that comes along cost, added up `by` day, model or session, or by some of them, as in
    `day,model`. Days are UTC, and those on which the answers ended: the last 30, unless it is said which."""
    core = services_of(request)
    owner = owner_of(request)
    begin, end = _days(first, last)
    told_apart = _told_apart(by)
    request.state.limit = await core.rate_limit.take(owner)
    found = await core.store.usage_of(owner, (begin - EPOCH).days, (end - EPOCH).days, told_apart)
    return _json({"from": begin.isoformat(), "to": end.isoformat(), **_usage_json(found, told_apart, core.prices)})


@router.get("/api/prices")
async def prices(request: Request) -> Response:
    """What a million tokens of each model cost, by the operator's list, and of which day that is."""
    known = services_of(request).prices
    return _json({"as_of": known.as_of, "currency": known.currency, "models": known.models})


def _days(first: str | None, last: str | None) -> tuple[date, date]:
    """The first and the last day that a caller asks for.

    Raises:
        InvalidRequest: one is no day, or they are too many.
    """
    end = _day(last, "to") if last is not None else datetime.now(UTC).date()
    begin = _day(first, "from") if first is not None else max(EPOCH, end - timedelta(days=DAYS - 1))
    if not 0 <= (end - begin).days < MOST_DAYS:
        raise InvalidRequest.field("from", f"It must not be after `to`, and not {MOST_DAYS} days or more before it.")
    return begin, end


def _day(text: str, field: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or day.isoformat() != text or day < EPOCH:
        raise InvalidRequest.field(field, "It must be a day such as 2026-01-31.")
    return day


def _told_apart(by: str) -> frozenset[GroupBy]:
    try:
        return frozenset(map(GroupBy, by.split(",")))
    except ValueError:
        raise InvalidRequest.field("by", "It must be day, model or session, or some of them with commas.") from None


@dataclass(slots=True)
class _Sum:
    """Tallies of one row, added up: what is known of their cost, and how many answers have none that is."""

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
        """Count one more."""
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
    """What tells a row apart."""
    names: dict[str, Any] = {}
    if GroupBy.DAY in by and tally.day is not None:
        names["day"] = (EPOCH + timedelta(days=tally.day)).isoformat()
    if GroupBy.MODEL in by:
        names["model"] = tally.model
    if GroupBy.SESSION in by:
        names |= {"session_id": tally.session_id or None, "title": tally.title or None}
    return names


def _json(value: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
