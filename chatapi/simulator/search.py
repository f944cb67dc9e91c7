"""A search of the web that finds the same page for every question. Nothing leaves the process."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .response_events import Events

ASKS_TO_SEARCH: Final = re.compile(r"\bsearch(?:es|ing)?\b", re.IGNORECASE)
PAGE: Final = "https://example.org/"
FOUND: Final = f"I searched the web and found {PAGE}"

_TOOLS: Final = ("web_search", "web_search_preview")  # and their dated versions


def is_offered(body: Mapping[str, Any]) -> bool:
    """Return whether a request of Responses has the tool, and allows its use."""
    kinds = (str(tool.get("type")) for tool in body.get("tools") or () if isinstance(tool, dict))
    return body.get("tool_choice") != "none" and any(kind.startswith(_TOOLS) for kind in kinds)


def events_of_search(events: Events, query: str) -> Iterator[bytes]:
    """Yield the item of the search, with its progress."""
    name = f"ws_{secrets.token_hex(16)}"
    action: dict[str, Any] = {"type": "search", "query": query, "queries": [query]}
    item: dict[str, Any] = {"id": name, "type": "web_search_call", "status": "in_progress", "action": action}
    yield events.added(item)
    for step in ("in_progress", "searching", "completed"):
        yield events.progress(f"response.web_search_call.{step}", name)
    action = action | {"sources": [{"type": "url", "url": PAGE}]}
    yield events.done(item | {"status": "completed", "action": action})


def citation(text: str) -> list[dict[str, Any]]:
    """Return the annotation of the page in the text, if it is whole there."""
    place = text.find(PAGE)
    if place < 0:
        return []
    span = {"start_index": place, "end_index": place + len(PAGE)}
    return [{"type": "url_citation", "url": PAGE, "title": "Example", **span}]
