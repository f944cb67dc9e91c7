"""Record of received requests, updated while each is answered."""

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
    """A request and the state of its response. The simulator's thread writes it, other threads read it.

    `left` is set when the client disconnects before the end of the response, at monotonic time `left_at`. `ended` is
    set when nothing more will be sent. `sent_chunks` and `sent_bytes` count body writes. Headers and body are not in
    the repr: they contain keys and user text.
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
        """The body as JSON, or None if it is not JSON."""
        try:
            return json.loads(self.raw)
        except ValueError:
            return None

    def note_sent(self, size: int) -> None:
        """Count one body write."""
        self.sent_chunks += 1
        self.sent_bytes += size

    def note_left(self) -> None:
        """Record a disconnect, unless the response has ended."""
        if not self.ended.is_set():
            self.left_at = time.monotonic()
            self.left.set()
