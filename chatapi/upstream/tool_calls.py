"""Tool calls in the order in which a log takes them: one after the other, each whole.

An upstream may send the arguments of parallel calls in turns, told apart by `index`. A log only grows at its end, so
the call that began first is written as it comes, and what comes of the others is held until it is complete: its
arguments are a JSON value by then, or the answer has ended. Calls that come one after the other, as they nearly always
do, are never held up.
"""

from __future__ import annotations

import secrets

import msgspec

from chatapi.errors import UpstreamBroken
from chatapi.model import ToolCall

NAME_CHARACTERS = 256  # of a call's id or name; OpenAI's are at most 64
CALLS_AT_MOST = 256  # in one answer
HELD_BYTES = 1024 * 1024  # of arguments that wait for another call to be complete
CHECKS_AT_MOST = 1000  # whether one is complete, each of which reads all of it; after that all wait for the end
NO_ARGUMENTS = "{}"  # what stands for none at all: a part of a log is never empty

Writes = list[tuple[ToolCall, str]]


class _Open:
    """A call that is not complete."""

    __slots__ = ("arguments", "call", "written")

    def __init__(self, call: ToolCall) -> None:
        self.call = call
        self.arguments: list[str] = []  # all of them, to tell when they are complete
        self.written = 0  # how many of them are in the log

    def is_complete(self) -> bool:
        """Whether the arguments are a JSON value, to which nothing can be added."""
        try:
            msgspec.json.decode("".join(self.arguments))
        except (msgspec.DecodeError, RecursionError):
            return False
        return True


class ToolCallAssembler:
    """The calls of one answer."""

    def __init__(self) -> None:
        self._open: list[_Open] = []  # in the order in which they began; the first is the one being written
        self._at: dict[int, _Open] = {}
        self._ids: set[str] = set()
        self._held = 0
        self._checks = 0

    def take(self, index: int, call_id: str | None, name: str | None, arguments: str | None) -> Writes:
        """What the log gains by a delta.

        Raises:
            UpstreamBroken: it cannot be a call's, or there are too many.
        """
        writes: Writes = []
        call = self._at.get(index)
        # Some upstreams give every call the same index: then a new id tells a new call.
        if call is None or (call_id and call.call.id != call_id and call_id not in self._ids):
            call = self._begin(index, call_id, name)
        if arguments:
            if call not in self._open:
                if arguments.isspace():
                    return writes
                raise UpstreamBroken("The model API added to the arguments of a tool call that were complete.")
            call.arguments.append(arguments)
        while len(self._open) > 1 and self._checks < CHECKS_AT_MOST:  # there is another to go on with
            self._checks += 1
            if not self._open[0].is_complete():
                break
            self._write(self._open.pop(0), writes)
        if call is not self._open[0] and arguments:
            self._held += len(arguments)
            if self._held > HELD_BYTES:
                raise UpstreamBroken("The model API sent too many tool calls at once.")
        self._write(self._open[0], writes)
        return writes

    def end(self) -> Writes:
        """What the log gains when the answer has ended: all that was held."""
        writes: Writes = []
        for call in self._open:
            self._write(call, writes, ended=True)
        self._open = []
        return writes

    def _begin(self, index: int, call_id: str | None, name: str | None) -> _Open:
        if not name or len(name) > NAME_CHARACTERS or len(call_id or "") > NAME_CHARACTERS:
            raise UpstreamBroken("The model API sent a tool call without a name, or with one that is too long.")
        if len(self._ids) >= CALLS_AT_MOST:
            raise UpstreamBroken("The model API sent too many tool calls.")
        if not call_id or call_id in self._ids:  # some name none, or all alike: the client answers by id
            call_id = f"call_{secrets.token_urlsafe(18)}"
        self._ids.add(call_id)
        call = _Open(ToolCall(_plain(call_id), _plain(name)))
        self._at[index] = call
        self._open.append(call)
        return call

    def _write(self, call: _Open, writes: Writes, ended: bool = False) -> None:
        if text := "".join(call.arguments[call.written :]):
            writes.append((call.call, text.replace("\0", "\ufffd")))
            call.written = len(call.arguments)
        elif ended and not call.written:
            writes.append((call.call, NO_ARGUMENTS))


def _plain(name: str) -> str:
    return name if name.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in name)
