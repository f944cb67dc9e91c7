"""The dates on which models shut down: as the upstream's list of models says, or as OpenAI has announced.

The announced dates matter at the start, when there is no key yet with which the list could be read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import Any

import msgspec
import structlog

from chatapi.errors import UpstreamError, UpstreamModelNotFound
from chatapi.wire.loose_json import UNREADABLE, read_json

WARN_DAYS = 90  # before the end of the default model
MODELS_AT_MOST = 10_000  # of a list that are looked at
_NAME_CHARACTERS = 256
_ENDED = frozenset({400, 404})  # statuses with which models are refused that have ended
_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$", re.ASCII)

logger = structlog.get_logger()


def _announced(day: str, *models: str) -> dict[str, date]:
    return dict.fromkeys(models, date.fromisoformat(day))


# https://developers.openai.com/api/docs/deprecations; a dated snapshot ends with its model unless it has its own entry.
ANNOUNCED: Mapping[str, date] = MappingProxyType(
    {
        **_announced("2026-10-23", "gpt-3.5-turbo", "gpt-4", "gpt-4-turbo", "gpt-4.1-nano", "o1", "o1-pro"),
        **_announced("2026-10-23", "o3-mini", "o4-mini", "gpt-4o-2024-05-13"),
        **_announced("2026-12-11", "gpt-5", "gpt-5-mini", "gpt-5-nano", "gpt-5-pro", "o3", "o3-pro"),
        **_announced("2027-01-14", "gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini"),
        **_announced("2027-04-01", "gpt-5.1", "gpt-5.3-codex", "gpt-5.4-nano"),
    }
)


def announced_end(model: str) -> date | None:
    """Return the day on which OpenAI shuts a model down, if that was announced."""
    return ANNOUNCED.get(model) or ANNOUNCED.get(_DATED.sub("", model))


def listed_end(body: bytes, model: str) -> date | None:
    """Return the `shutdown_date` of a model in the body of `GET /models`, or in its own entry."""
    try:
        value = read_json(body)
    except UNREADABLE:
        return None
    listed = value.get("data") if isinstance(value, dict) else None
    for entry in listed[:MODELS_AT_MOST] if isinstance(listed, list) else [value]:
        if isinstance(entry, dict) and entry.get("id") == model:
            return _read_date(entry.get("shutdown_date"))
    return None


def _read_date(value: Any) -> date | None:
    try:
        return msgspec.convert(value[:10], date) if isinstance(value, str) else None
    except msgspec.ValidationError:
        return None


class DefaultModel:
    """The default model of the settings, and its end as far as it is known."""

    def __init__(self, name: str, *, announced: bool, today: Callable[[], date]) -> None:
        """`announced`: the upstream is OpenAI's own service, whose announcements hold."""
        self.name = name
        self._end = announced_end(name) if announced else None
        self._today = today

    @property
    def notice(self) -> str | None:
        """A sentence if the model has ended, or ends soon."""
        return notice(self.name, self._end, self._today()) if self._end is not None else None

    def warn(self) -> None:
        """Log the notice, if there is one."""
        if self._end is not None and (sentence := self.notice) is not None:
            logger.warning("default model ends", shutdown_date=self._end.isoformat(), detail=sentence)

    def learn(self, body: bytes) -> None:
        """Learn from an upstream's list of models; log a warning if it tells of an end that was not known."""
        end = listed_end(body, self.name)
        if end is not None and end != self._end:
            self._end = end
            self.warn()

    def explain(self, model: str, error: UpstreamError) -> UpstreamError:
        """Return the error of a refusal; if the default model has ended, one that says so."""
        ended = self._end is not None and self._end <= self._today()
        if model != self.name or not ended or error.status not in _ENDED:
            return error
        assert self._end is not None, "it has ended"
        explained = UpstreamModelNotFound(notice(self.name, self._end, self._today()))
        explained.limit, explained.headers = error.limit, error.headers
        if error.said is not None:
            message = f"{error.said.message} {explained.detail}"
            explained.said = error.said._replace(message=message)
        return explained


def today() -> date:
    """Return the current day, UTC."""
    return datetime.now(UTC).date()


def notice(model: str, end: date, now: date) -> str | None:
    """Return a sentence about the end of the default model, with its remedy; None if the end is far away."""
    days = (end - now).days
    if days > WARN_DAYS:
        return None
    shown = model if model.isprintable() and len(model) <= _NAME_CHARACTERS else "the default model"
    when = f"was shut down on {end}" if days <= 0 else f"shuts down on {end}, in {days} day{'s' if days > 1 else ''}"
    return f"{shown} {when}. Set CHATAPI_DEFAULT_MODEL to another model."
