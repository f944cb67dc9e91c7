"""Tool calls in the order in which a log takes them: one after the other, each whole.

An upstream may send the arguments of parallel calls in turns. A log only grows at its end, so the call that began first
is written as it arrives, and the others are held until it is complete: its arguments are one JSON value by then, or the
answer has ended. Calls that arrive one after the other, as they nearly always do, are never held up.

Upstreams tell calls apart by index, by id, by both, or by neither, and send the name, the id and some arguments in any
order. The rules are in docs/upstreams.md.
"""

from __future__ import annotations

import re
import secrets
from typing import Any

from chatapi.errors import UpstreamBroken
from chatapi.model import ToolCall
from chatapi.wire.loose_json import REPLACEMENT, storable

NAME_CHARACTERS = 256  # of a call's id or name; OpenAI's have at most 64
CALLS_AT_MOST = 256  # in one answer
HELD_BYTES = 1024 * 1024  # of arguments that wait for another call to be complete, or for their own call's name
NO_ARGUMENTS = "{}"  # the arguments of a call that came without any: a part of a log is never empty
OWN_ID = "call_"  # prefix of the ids that are made here

Writes = list[tuple[ToolCall, str]]

_STRUCTURE = re.compile(r'["\\{}\[\]]')
_IN_STRING = re.compile(r'["\\]')


class JSONEnd:
    """Finds the end of the first JSON object, array or string in text that arrives in pieces.

    Every character is looked at once. Only brackets and strings are followed: text that is not JSON may end too early
    or never, and nothing worse.
    """

    __slots__ = ("_depth", "_escaped", "_in_string", "_started", "ended")

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = self._escaped = self._started = False
        self.ended = False

    def feed(self, text: str) -> int | None:
        """Return where in `text` the value ends, or None if it goes on."""
        at = 0
        if self._escaped and text:
            self._escaped = False
            at = 1
        while True:
            found = (_IN_STRING if self._in_string else _STRUCTURE).search(text, at)
            if found is None:
                return None
            at = found.end()
            character = found[0]
            if character == '"':
                self._in_string = not self._in_string
                if self._in_string or self._depth:
                    continue
            elif character == "\\":
                if not self._in_string:
                    continue
                if at == len(text):
                    self._escaped = True
                    return None
                at += 1
                continue
            elif character in "{[":
                self._depth += 1
                continue
            else:
                self._depth -= 1
                if self._depth > 0:
                    continue
            self.ended = True
            return at


class _Call:
    """One call. `call` is made when its first text is written: from then on its id and name are fixed."""

    __slots__ = ("arguments", "call", "end", "extras", "held", "id", "index", "is_custom", "name", "own_id")

    def __init__(self, index: int, name: str) -> None:
        self.index = index
        self.id: str | None = None
        self.name = name
        self.call: ToolCall | None = None
        self.own_id = False  # the id was made here; the upstream's may still come
        self.arguments: list[str] = []  # that are not in the log yet
        self.held = 0  # their length
        self.end = JSONEnd()
        self.extras: dict[str, Any] = {}
        self.is_custom = False  # its input is free text

    @property
    def has_arguments(self) -> bool:
        return bool(self.arguments) or self.call is not None


class ToolCallAssembler:
    """The calls of one answer."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._open: list[_Call] = []  # in the order in which they began; the first is the one being written
        self._at: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}
        self._held = 0
        self.has_nameless = False  # a call ended without a name; it cannot be kept

    def take(
        self,
        index: int | None,
        call_id: str | None,
        name: str | None,
        arguments: str | None,
        extras: dict[str, Any] | None = None,
    ) -> Writes:
        """Take one delta of a call and return the text for the log. `extras` are further members to send back with it.

        Raises:
            UpstreamBroken: it cannot belong to a call, or there are too many.
        """
        if len(name or "") > NAME_CHARACTERS or len(call_id or "") > NAME_CHARACTERS:
            raise UpstreamBroken("The model API sent a tool call whose id or name is too long.")
        call = self._find(index, call_id, name, arguments)
        if call is None:
            call = self._begin(index, call_id, name)
        elif call.call is None:
            self._complete_head(call, call_id, name)
        if extras:
            call.is_custom = call.is_custom or extras.get("type") == "custom"
            call.extras.update(extras)
        if arguments:
            self._add(call, index, arguments)
        writes: Writes = []
        self._write_open(writes)
        return writes

    def end(self) -> Writes:
        """Return all text that was held, when the answer has ended. See `has_nameless`."""
        writes: Writes = []
        for call in self._open:
            if not call.name:
                self.has_nameless = True
                continue
            self._write(call, writes)
            if call.call is None:
                writes.append((self._fix(call), NO_ARGUMENTS))
        self._open = []
        return writes

    def extras(self) -> list[tuple[ToolCall, dict[str, Any]]]:
        """Return the calls that have members to send back with them."""
        return [(call.call, call.extras) for call in self._calls if call.extras and call.call is not None]

    def _find(self, index: int | None, call_id: str | None, name: str | None, arguments: str | None) -> _Call | None:
        """Find the call that a delta continues; None where it begins one."""
        if index is None:
            if call_id:
                return self._by_id.get(call_id)
            last = self._calls[-1] if self._calls else None
            # Without index and id, a name begins a call, unless the last one still waits for its own.
            return None if last is None or (name and last.name and last.has_arguments) else last
        call = self._at.get(index)
        if call is None or not call_id or call.id == call_id:
            return call
        if (known := self._by_id.get(call_id)) is not None:
            return known if known.index == index else call  # some give all calls one index, others all one id
        if call.id is None and not (call.end.ended and name):
            return call  # the id comes after the name, or after arguments
        if call.own_id and not call.end.ended:
            self._by_id[call_id] = call
            return call
        return None  # the upstream gives every call the same index: a new id begins a new call

    def _begin(self, index: int | None, call_id: str | None, name: str | None) -> _Call:
        if len(self._calls) >= CALLS_AT_MOST:
            raise UpstreamBroken("The model API sent too many tool calls.")
        call = _Call(len(self._calls) if index is None else index, name or "")
        self._calls.append(call)
        self._open.append(call)
        self._at[call.index] = call
        if call_id and call_id not in self._by_id:
            call.id = call_id
            self._by_id[call_id] = call
        return call

    def _complete_head(self, call: _Call, call_id: str | None, name: str | None) -> None:
        """Add the id and the name of a call of which nothing is written yet."""
        if call_id and call.id is None and call_id not in self._by_id:
            call.id = call_id
            self._by_id[call_id] = call
        if name and name != call.name:
            # In pieces, or repeated with more of it each time.
            call.name = name if name.startswith(call.name) else call.name + name
            if len(call.name) > NAME_CHARACTERS:
                raise UpstreamBroken("The model API sent a tool call whose id or name is too long.")

    def _add(self, call: _Call, index: int | None, arguments: str) -> None:
        if call.is_custom:
            self._hold(call, arguments)
            return
        end = 0 if call.end.ended else call.end.feed(arguments)
        if end is None:
            end = len(arguments)
        if end:
            self._hold(call, arguments[:end])
        if end < len(arguments):
            self._add_behind(call, index, arguments[end:])

    def _add_behind(self, call: _Call, index: int | None, arguments: str) -> None:
        """Add text behind arguments that are complete: a second object is a second call of the same tool."""
        text = arguments.strip()
        if not text.startswith("{"):
            if call in self._open:
                self._hold(call, arguments)  # malformed, and kept as the model wrote them
            elif text:
                raise UpstreamBroken("The model API added to the arguments of a tool call that were complete.")
            return
        if call.call is None and "".join(call.arguments).strip() == NO_ARGUMENTS:
            self._held -= call.held  # a placeholder before the arguments themselves
            call.arguments, call.held, call.end = [], 0, JSONEnd()
            self._add(call, index, text)
            return
        self._add(self._begin(index, None, call.name), index, text)

    def _hold(self, call: _Call, text: str) -> None:
        call.arguments.append(text)
        call.held += len(text)
        self._held += len(text)

    def _write_open(self, writes: Writes) -> None:
        """Write the first open call, and those behind it if it is complete."""
        while self._open:
            call = self._open[0]
            if not call.name or (call.call is None and self._must_wait(call)):
                break
            self._write(call, writes)
            if len(self._open) == 1 or not call.end.ended or call.is_custom:
                break
            self._open.pop(0)
        if self._held > HELD_BYTES:
            raise UpstreamBroken("The model API sent too many tool calls at once.")

    def _must_wait(self, call: _Call) -> bool:
        """Whether the call's first text may still be a placeholder, or there is none."""
        return not call.arguments or (
            len(self._open) == 1
            and call.held <= len(NO_ARGUMENTS) + 2
            and "".join(call.arguments).strip() in {"{}", ""}
        )

    def _write(self, call: _Call, writes: Writes) -> None:
        if text := "".join(call.arguments):
            writes.append((self._fix(call), storable(text)))
            self._held -= call.held
            call.arguments, call.held = [], 0

    def _fix(self, call: _Call) -> ToolCall:
        """Return the call under which text is written; its id and name do not change any more."""
        if call.call is None:
            if call.id is None:
                call.own_id = True
                call.id = OWN_ID + secrets.token_urlsafe(18)
                self._by_id[call.id] = call
            call.call = ToolCall(_printable(call.id), _printable(call.name))
        return call.call


def _printable(name: str) -> str:
    return name if name.isprintable() else "".join(c if c.isprintable() else REPLACEMENT for c in name)
