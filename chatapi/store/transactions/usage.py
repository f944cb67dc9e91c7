"""What answers cost: counted as they end, kept when their sessions go, and added up for their owner.

The migration of SQLite counts the answers that were there before by the same rules.
"""

from __future__ import annotations

from chatapi.errors import (
    ContextTooLarge,
    UpstreamForbidden,
    UpstreamModelNotFound,
    UpstreamRateLimited,
    UpstreamRejectedKey,
    UpstreamRejectedRequest,
    UpstreamUnavailable,
)
from chatapi.model import DAY_MICROSECONDS, GroupBy, Microseconds, Outcome, Status, UsageReport, UsageTotal
from chatapi.store.drivers.driver import Statement, Transaction
from chatapi.store.transactions.rows import check_is

MOST_TOKENS = 1_000_000_000  # counted of one answer: an upstream may say anything, and sums must fit
MOST_TALLIES = 5_000  # read at once
REFUSALS = frozenset(
    error.code
    for error in (
        ContextTooLarge,
        UpstreamForbidden,
        UpstreamModelNotFound,
        UpstreamRateLimited,
        UpstreamRejectedKey,
        UpstreamRejectedRequest,
        UpstreamUnavailable,
    )
)  # of a turn that no model saw: it cost nothing

_COUNTS = ("answers", "input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens", "estimated", "unknown")
_ADD = "ON CONFLICT (owner, session_id, day, model) DO UPDATE SET " + ", ".join(
    f"{count} = usage.{count} + excluded.{count}" for count in _COUNTS
)
_COLUMNS = f"owner, session_id, day, model, {', '.join(_COUNTS)}"


def is_counted(ending: Outcome, length: int) -> bool:
    """Whether an answer that ended so may have cost something."""
    refused = ending.status is Status.FAILED and ending.usage is None and not length
    return not (refused and ending.error_code in REFUSALS)


def count_answer(generation_id: str, ending: Outcome, now: Microseconds) -> Statement:
    """Add an answer that ends now to its owner's usage."""
    usage = ending.usage
    tokens = (
        (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens, usage.cached_tokens)
        if usage is not None
        else (0, 0, 0, 0)
    )
    return (
        f"INSERT INTO usage ({_COLUMNS}) "
        "SELECT g.owner, g.session_id, $2, g.model, 1, $3, $4, $5, $6, $7, $8 FROM generation g WHERE g.id = $1 "
        f"{_ADD}",
        (
            generation_id,
            now // DAY_MICROSECONDS,
            *(min(max(count or 0, 0), MOST_TOKENS) for count in tokens),
            int(usage is not None and usage.estimated),
            int(usage is None),
        ),
    )


def fold_usage(owner: str, session_id: str) -> list[Statement]:
    """Keep the usage of a session that goes, without the session.

    In order, so that no two that go at once wait for each other.
    """
    return [
        (
            f"INSERT INTO usage ({_COLUMNS}) SELECT u.owner, '', u.day, u.model, "
            f"{', '.join(f'u.{count}' for count in _COUNTS)} FROM usage u WHERE u.owner = $1 AND u.session_id = $2 "
            f"ORDER BY u.day, u.model {_ADD}",
            (owner, session_id),
        ),
        ("DELETE FROM usage WHERE owner = $1 AND session_id = $2", (owner, session_id)),
    ]


_BY = {GroupBy.DAY: "u.day", GroupBy.SESSION: "u.session_id", GroupBy.MODEL: "u.model"}


def usage_of(owner: str, first_day: int, last_day: int, by: frozenset[GroupBy]) -> Transaction[UsageReport]:
    """This owner's usage on these days, added up as `by` says, and in all."""
    totals = yield from _tallies(owner, first_day, last_day, frozenset())
    told_apart = by - {GroupBy.MODEL}
    found = (yield from _tallies(owner, first_day, last_day, told_apart)) if told_apart else totals
    complete = len(found) <= MOST_TALLIES and len(totals) <= MOST_TALLIES
    return UsageReport(found[:MOST_TALLIES], totals[:MOST_TALLIES], complete)


def _tallies(owner: str, first_day: int, last_day: int, by: frozenset[GroupBy]) -> Transaction[list[UsageTotal]]:
    """A tally for each model, and within it as `by` says; those with the most tokens, first.

    At most `MOST_TALLIES`, and one more where there are more.
    """
    day, session_id = (_BY[one] if one in by else "NULL" for one in (GroupBy.DAY, GroupBy.SESSION))
    title, session = "NULL", ""
    if GroupBy.SESSION in by:
        title = "max(s.title)"
        session = " LEFT JOIN session s ON s.id = u.session_id AND s.owner = u.owner"
    groups = ", ".join(column for one, column in _BY.items() if one in by or one is GroupBy.MODEL)
    sums = ", ".join(f"sum(u.{count})" for count in _COUNTS)
    rows = yield (
        f"SELECT u.owner, {day}, {session_id}, {title}, u.model, {sums} FROM usage u{session} "
        f"WHERE u.owner = $1 AND u.day BETWEEN $2 AND $3 GROUP BY u.owner, {groups} "
        f"ORDER BY sum(u.input_tokens) + sum(u.output_tokens) DESC, {groups} LIMIT {MOST_TALLIES + 1}",
        (owner, first_day, last_day),
    )
    for row in rows:
        check_is(row[0], owner)
    return [UsageTotal(*row[1:5], *map(int, row[5:])) for row in rows]
