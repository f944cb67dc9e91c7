"""Usage: the tokens of each answer, added up as it ends and kept when its session is deleted.

The SQLite migration `0006_usage.sql` counts the answers that were stored before it by the same rules.
"""

from __future__ import annotations

from msgspec.structs import replace

from chatapi.errors import (
    ContextTooLarge,
    UpstreamContextExceeded,
    UpstreamForbidden,
    UpstreamModelNotFound,
    UpstreamRateLimited,
    UpstreamRejectedKey,
    UpstreamRejectedRequest,
    UpstreamUnavailable,
    UpstreamUnsupported,
)
from chatapi.model import DAY_MICROSECONDS, GroupBy, Microseconds, Outcome, Status, Usage, UsageReport, UsageTotal
from chatapi.store.drivers.driver import Statement, Transaction
from chatapi.store.repository import Repository, read
from chatapi.store.rows import check_is

MAX_TOKENS = 1_000_000_000  # counted for one answer: an upstream may send any number, and sums must fit
MAX_TOTALS = 5_000  # in one report
REFUSALS = frozenset(
    error.code
    for error in (
        ContextTooLarge,
        UpstreamContextExceeded,
        UpstreamForbidden,
        UpstreamModelNotFound,
        UpstreamRateLimited,
        UpstreamRejectedKey,
        UpstreamRejectedRequest,
        UpstreamUnavailable,
        UpstreamUnsupported,
    )
)  # error codes of turns that no model received: they cost nothing

_COUNTS = ("answers", "input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens", "estimated", "unknown")
_SUMMED = ", ".join(_COUNTS)
_COLUMNS = f"owner, session_id, day, model, {', '.join(_COUNTS)}"
_ADD = "ON CONFLICT (owner, session_id, day, model) DO UPDATE SET " + ", ".join(
    f"{count} = usage.{count} + excluded.{count}" for count in _COUNTS
)
_UPSTREAM_COLUMNS = f"owner, upstream, day, model, {_SUMMED}"
_ADD_TO_UPSTREAM = "ON CONFLICT (owner, upstream, day, model) DO UPDATE SET " + ", ".join(
    f"{count} = upstream_usage.{count} + excluded.{count}" for count in _COUNTS
)
_GROUP_COLUMNS = {
    GroupBy.DAY: "u.day",
    GroupBy.SESSION: "u.session_id",
    GroupBy.MODEL: "u.model",
    GroupBy.UPSTREAM: "u.upstream",
}
# The usage of each upstream, and the rest of the owner's usage without one: of servers with one upstream, of summaries.
_BY_UPSTREAM = (
    f"(SELECT owner, upstream, day, model, {_SUMMED} FROM upstream_usage WHERE owner = $1 "
    f"UNION ALL SELECT owner, '', day, model, {_SUMMED} FROM usage WHERE owner = $1 "
    f"UNION ALL SELECT owner, '', day, model, {', '.join(f'-{count}' for count in _COUNTS)} FROM upstream_usage "
    "WHERE owner = $1)"
)


class Usages(Repository):
    """The usage of owners."""

    @read
    def report(
        self, owner: str, first_day: int, last_day: int, group_by: frozenset[GroupBy]
    ) -> Transaction[UsageReport]:
        """Return this owner's usage on these days, which count from the epoch: grouped, and in total for each model.

        `group_by` has not both `SESSION` and `UPSTREAM`, which are counted apart.
        """
        totals = yield from _totals(owner, first_day, last_day, frozenset())
        within_model = group_by - {GroupBy.MODEL}
        found = (yield from _totals(owner, first_day, last_day, within_model)) if within_model else totals
        complete = len(found) <= MAX_TOTALS and len(totals) <= MAX_TOTALS
        return UsageReport(found[:MAX_TOTALS], totals[:MAX_TOTALS], complete)


def _totals(owner: str, first_day: int, last_day: int, group_by: frozenset[GroupBy]) -> Transaction[list[UsageTotal]]:
    """Return a total for each model and, within it, for each group; those with the most tokens first.

    At most `MAX_TOTALS`, and one more where there are more.
    """
    day, session_id = (_GROUP_COLUMNS[one] if one in group_by else "NULL" for one in (GroupBy.DAY, GroupBy.SESSION))
    title, session = "NULL", ""
    if GroupBy.SESSION in group_by:
        title = "max(s.title)"
        session = " LEFT JOIN session s ON s.id = u.session_id AND s.owner = u.owner"
    table, upstream, left = "usage", "NULL", ""
    if GroupBy.UPSTREAM in group_by:
        table, upstream, left = _BY_UPSTREAM, "u.upstream", "HAVING sum(u.answers) > 0 "
    groups = ", ".join(column for one, column in _GROUP_COLUMNS.items() if one in group_by or one is GroupBy.MODEL)
    sums = ", ".join(f"sum(u.{count})" for count in _COUNTS)
    rows = yield (
        f"SELECT u.owner, {day}, {session_id}, {title}, u.model, {upstream}, {sums} FROM {table} u{session} "
        f"WHERE u.owner = $1 AND u.day BETWEEN $2 AND $3 GROUP BY u.owner, {groups} {left}"
        f"ORDER BY sum(u.input_tokens) + sum(u.output_tokens) DESC, {groups} LIMIT {MAX_TOTALS + 1}",
        (owner, first_day, last_day),
    )
    for row in rows:
        check_is(row[0], owner)
    return [replace(UsageTotal(*row[1:5], *map(int, row[6:])), upstream=row[5]) for row in rows]


def is_counted(outcome: Outcome, length: int) -> bool:
    """Return whether an answer of this outcome and length may have cost something."""
    refused = outcome.status is Status.FAILED and outcome.usage is None and not length
    return not (refused and outcome.error_code in REFUSALS)


def count_answer(generation_id: str, outcome: Outcome, now: Microseconds) -> list[Statement]:
    """Add an answer that ends now to the usage of its owner, and to that of its upstream if there are several."""
    usage = outcome.usage
    tokens = (
        (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens, usage.cached_tokens)
        if usage is not None
        else (0, 0, 0, 0)
    )
    counts = (
        *(min(max(count or 0, 0), MAX_TOKENS) for count in tokens),
        int(usage is not None and usage.estimated),
        int(usage is None),
    )
    day = now // DAY_MICROSECONDS
    of_owner = (
        f"INSERT INTO usage ({_COLUMNS}) "
        "SELECT g.owner, g.session_id, $2, g.model, 1, $3, $4, $5, $6, $7, $8 FROM generation g WHERE g.id = $1 "
        f"{_ADD}",
        (generation_id, day, *counts),
    )
    if outcome.upstream is None:
        return [of_owner]
    of_upstream = (
        f"INSERT INTO upstream_usage ({_UPSTREAM_COLUMNS}) "
        "SELECT g.owner, $9, $2, g.model, 1, $3, $4, $5, $6, $7, $8 FROM generation g WHERE g.id = $1 "
        f"{_ADD_TO_UPSTREAM}",
        (generation_id, day, *counts, outcome.upstream),
    )
    return [of_owner, of_upstream]


def count_tokens(owner: str, session_id: str, model: str, usage: Usage | None, now: Microseconds) -> Statement:
    """Add the tokens of a request that is no answer, such as a summary, to the usage of its owner."""
    tokens = (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens, usage.cached_tokens) if usage else ()
    counts = [min(max(count or 0, 0), MAX_TOKENS) for count in tokens] or [0, 0, 0, 0]
    unknown = usage is None or usage.input_tokens is None
    return (
        f"INSERT INTO usage ({_COLUMNS}) VALUES ($1, $2, $3, $4, 1, $5, $6, $7, $8, $9, $10) {_ADD}",
        (
            *(owner, session_id, now // DAY_MICROSECONDS, model),
            *counts,
            int(usage is not None and usage.estimated),
            int(unknown),
        ),
    )


def keep_usage(owner: str, session_id: str) -> list[Statement]:
    """Move the usage of a session that is being deleted to the owner's row for deleted sessions.

    In the order of the key, so that two deletions never wait for each other.
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
