"""What the simulator saw: one `ReceivedRequest` for each request, filled in further while it is answered."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any


@dataclass(eq=False)
class ReceivedRequest:
    """A request, and what became of its answer. Written by the simulator's thread, read by any other.

    `left` is set when the client closes the connection before the answer's end, `left_at` says when; `ended` is set
    when nothing more will be sent, for whatever reason. `sent_chunks` and `sent_bytes` count writes of the body.
    Headers and body stay out of the repr: they hold a key and what a user said.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str] = field(repr=False)  # case-insensitive
    raw: bytes = field(repr=False)
    at: float = field(default_factory=time.monotonic)
    sent_chunks: int = 0
    sent_bytes: int = 0
    left: threading.Event = field(default_factory=threading.Event, repr=False)
    left_at: float | None = None
    ended: threading.Event = field(default_factory=threading.Event, repr=False)

    @cached_property
    def body(self) -> Any:
        """The body as JSON, or None when it is none."""
        try:
            return json.loads(self.raw)
        except ValueError:
            return None

    def note_sent(self, size: int) -> None:
        """One more write of the body has been made."""
        self.sent_chunks += 1
        self.sent_bytes += size

    def note_left(self) -> None:
        """The client is gone; that matters only when the answer had not ended."""
        if not self.ended.is_set():
            self.left_at = time.monotonic()
            self.left.set()
