"""An upstream's answer as it arrives: chat completion chunks, read into deltas for a log.

`CompletionParser` is pure: bytes in, deltas out. An event in OpenAI's own form is decoded by one typed decoder. Any
other is read field by field, and three rules hold (docs/upstreams.md): one odd field costs only itself; a field that is
not understood is kept, to be sent back with its message, or refused by name; and an answer is complete only if the
upstream has declared it complete.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from chatapi.auth.credentials import Credential
from chatapi.errors import UpstreamBroken, UpstreamError
from chatapi.model import Kind, Usage
from chatapi.upstream.events import BROKE_OFF, EventParser
from chatapi.upstream.finish import STOP, TOOL_CALLS, Ending, read_finish
from chatapi.upstream.halves import Halves
from chatapi.upstream.provider import Deltas
from chatapi.upstream.refusals import error_in_stream, find_error
from chatapi.upstream.tool_calls import ToolCallAssembler
from chatapi.upstream.usage import read_usage
from chatapi.wire.extras import DEEPEST, EXTRAS_BYTES, encode_extras, merge
from chatapi.wire.loose_json import REPLACEMENT, UNREADABLE, nests_deeper_than, read_json, storable, write_json

NO_FINISH = "The model API ended its answer without saying that it was finished."
NOT_PROTOCOL = "The model API sent an event that is not in its protocol."
REASON_CHARACTERS = 64  # of a finish reason; those of OpenAI's protocol have at most 14


# OpenAI's own form. A member that is not listed in a delta or a call makes the decoder refuse the event, which is then
# read field by field, so that no field is skipped unread.


class _Function(msgspec.Struct, forbid_unknown_fields=True):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct, forbid_unknown_fields=True):
    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct, forbid_unknown_fields=True):
    content: str | None = None
    role: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_ToolCall] | None = None
    annotations: list[dict[str, Any]] | None = None
    reasoning_details: list[dict[str, Any]] | None = None  # of OpenRouter, beside every piece of reasoning


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None
    index: int = 0
    message: Any = None
    text: Any = None
    usage: Any = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice]
    usage: Any = None
    error: Any = None


# An event with text and nothing else, which nearly all are. Its decoder refuses every other event.


class _TextDelta(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    content: Annotated[str, msgspec.Meta(min_length=1)]
    role: str | None = None
    refusal: None = None


class _TextChoice(msgspec.Struct, gc=False):
    delta: _TextDelta
    finish_reason: None = None
    index: int = 0
    message: None = None
    text: None = None
    usage: None = None


class _TextChunk(msgspec.Struct, gc=False):
    choices: tuple[_TextChoice]
    usage: None = None
    error: None = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_decode_text = msgspec.json.Decoder(_TextChunk).decode

_TEXT = Kind.TEXT  # a member of an enumeration costs as much as a method call to read
_REASONING = ("reasoning_content", "reasoning", "reasoning_text", "thinking", "thinking_content", "thought", "thoughts")
_TEXT_PARTS = frozenset({"text", "output_text", "input_text"})
_REASONING_PARTS = frozenset(
    {"reasoning", "reasoning_text", "thinking", "thought", "summary_text", "redacted_thinking"}
)
_NO_CONTENT = ("role", "name", "object", "finish_reason", "index", "function_call", "tool_calls", "annotations")


class CompletionParser(EventParser):
    """Reads one answer. `feed` takes its bytes, however they are cut, and `end` its end; afterwards `error` tells.

    `origin` identifies the upstream to which kept fields may be sent back.
    """

    document_starts = (b"{", b"[")

    def __init__(self, credential: Credential, origin: str = "") -> None:
        super().__init__()
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.deltas = 0  # pieces of content, about one token each
        self._credential = credential
        self._origin = origin
        self._expects_text = False  # the last event had text
        self._calls: ToolCallAssembler | None = None
        self._failed_reason: str | None = None
        self._was_early = False  # content came behind a finish reason, which so was none
        self._halves = Halves()
        self._extras: dict[str, Any] = {}
        self._extras_bytes = 0
        self._message_text: str | None = None  # text that came in whole messages instead of deltas

    @property
    def is_complete(self) -> bool:
        """Whether the upstream has declared the answer complete, and no content came afterwards."""
        return self.finish_reason is not None and self._failed_reason is None and not self._was_early

    def cut_off(self, error: UpstreamError) -> Deltas:
        """Take a connection that broke. An answer that was complete by then is none the worse for it."""
        return self.conclude(BROKE_OFF) if self.is_complete else self._fail(error, self._flush())

    def conclude(self, no_end: str = NO_FINISH) -> Deltas:
        """End the answer here and return content that was held. `no_end` is the error without a finish reason."""
        if self.done:
            return []
        deltas = self._flush()
        self.done = True
        if self._failed_reason is not None:
            reason = self._credential.hide(self._failed_reason)
            self.error = UpstreamBroken(f"The model API ended its answer early, with the finish reason {reason!r}.")
        elif self.finish_reason is None:
            self.error = UpstreamBroken(no_end)
        elif self._calls is not None and self._calls.has_nameless:
            self.error = UpstreamBroken("The model API sent a tool call without a name.")
        return deltas

    def _flush(self) -> Deltas:
        """The content that was held: halves of characters, calls, and the fields to be sent back with the message."""
        deltas: Deltas = []
        deltas += [(place, REPLACEMENT, None) for place in self._halves.end() if isinstance(place, Kind)]
        if self._calls is not None:
            deltas += [(Kind.TOOL_CALL, text, call) for call, text in self._calls.end()]
            if self.finish_reason in {STOP, "function_call"}:
                self.finish_reason = TOOL_CALLS
            deltas += [(Kind.EXTRA, encode_extras(self._origin, extras), call) for call, extras in self._calls.extras()]
        if self._extras:
            deltas.append((Kind.EXTRA, encode_extras(self._origin, self._extras), None))
            self._extras = {}
        return deltas

    def _take_all(self, payloads: list[bytes], *, at_end: bool = False) -> Deltas:
        if self._expects_text and len(payloads) == 1:  # as nearly always, if the upstream is slower than this server
            try:
                text = _decode_text(payloads[0]).choices[0].delta.content
            except UNREADABLE:
                pass
            else:
                self.deltas += 1
                return [(_TEXT, text, None)] if (text := self._halves.join(_TEXT, text)) else []
        deltas: Deltas = []
        texts: list[str] = []  # of events with nothing else, which are joined
        try:
            for payload in payloads:
                if self._expects_text:
                    try:
                        texts.append(_decode_text(payload).choices[0].delta.content)
                        continue
                    except UNREADABLE:
                        self._add_joined(texts, deltas)
                try:
                    chunk = _decode_chunk(payload)
                except UNREADABLE:
                    if self._take_odd(payload, deltas, at_end=at_end):
                        deltas += self.conclude()
                        break
                else:
                    self._take(chunk, payload, deltas)
                self._expects_text = bool(deltas) and deltas[-1][0] is Kind.TEXT and self.finish_reason is None
            self._add_joined(texts, deltas)
        except UpstreamError as error:
            return self._fail(error, deltas + self._flush())
        except RecursionError:
            return self._fail(UpstreamBroken(NOT_PROTOCOL), deltas + self._flush())
        return deltas

    def _take(self, chunk: _Chunk, payload: bytes, deltas: Deltas) -> None:
        """Take an event in OpenAI's own form."""
        if chunk.error:
            self._refuse(read_json(payload))
        if chunk.usage is not None:
            self._take_usage(chunk.usage)
        choices = chunk.choices
        if not choices:
            return
        choice = choices[0] if len(choices) == 1 else min(choices, key=lambda one: one.index)
        delta = choice.delta
        if delta is None or choice.message is not None or choice.text is not None or choice.usage is not None:
            self._take_object(read_json(payload), deltas)
            return
        before = len(deltas)
        if reasoning := delta.reasoning_content or delta.reasoning:
            self._add(Kind.REASONING, reasoning, deltas)
        if delta.content:
            self._add(Kind.TEXT, delta.content, deltas)
        if delta.refusal:
            self._add(Kind.REFUSAL, delta.refusal, deltas)
        if delta.tool_calls:
            for one in delta.tool_calls:
                function = one.function or _Function()
                extras = {"type": one.type} if one.type not in {None, "", "function"} else None
                self._take_call(one.index, one.id, function.name, function.arguments, extras, deltas)
        if delta.annotations:
            self._annotate(delta.annotations, deltas)
        if delta.reasoning_details:
            self._keep({"reasoning_details": delta.reasoning_details})
        self._take_finish(choice.finish_reason, gained=len(deltas) > before)

    def _add(self, kind: Kind, text: str, deltas: Deltas) -> None:
        """Add a piece of content. A character whose halves come in two pieces is put together again."""
        self.deltas += 1
        text = self._halves.join(kind, text)
        if text:
            deltas.append((kind, text, None))

    def _add_joined(self, texts: list[str], deltas: Deltas) -> None:
        """Add the text of consecutive events as one piece of content."""
        if texts:
            self._add(Kind.TEXT, "".join(texts), deltas)
            self.deltas += len(texts) - 1
            texts.clear()

    def _annotate(self, annotations: list[dict[str, Any]], deltas: Deltas) -> None:
        deltas += [(Kind.ANNOTATION, write_json(annotation) + "\n", None) for annotation in annotations]

    def _take_call(
        self,
        index: int | None,
        call_id: str | None,
        name: str | None,
        arguments: str | None,
        extras: dict[str, Any] | None,
        deltas: Deltas,
    ) -> None:
        if self._calls is None:
            self._calls = ToolCallAssembler()
        self.deltas += 1
        if arguments:
            arguments = self._halves.join(("call", index), arguments)
        if self.finish_reason is not None:
            self._was_early = True
        writes = self._calls.take(index, call_id, name, arguments, extras)
        deltas += [(Kind.TOOL_CALL, text, call) for call, text in writes]

    def _take_finish(self, reason: Any, *, gained: bool) -> None:
        """Take a finish reason. It is not final: content may follow, and then another one."""
        if gained and self.finish_reason is not None:
            self._was_early = True
        if not reason:
            return
        finish = read_finish(storable(str(reason))[:REASON_CHARACTERS])
        if finish.ending is Ending.FAILED:
            self._failed_reason = finish.reason
        elif finish.ending is Ending.COMPLETE and (self.finish_reason, finish.reason) != (TOOL_CALLS, STOP):
            self.finish_reason = finish.reason

    def _take_usage(self, value: Any) -> None:
        self.usage = read_usage(value) or self.usage

    def _refuse(self, value: Any) -> None:
        """Raise the error that an event is, if it is one."""
        if (report := find_error(value)) is not None:
            raise error_in_stream(report, self._credential, started=self.deltas > 0)

    def _keep(self, fields: dict[str, Any]) -> None:
        """Keep members of the message that are not understood, to send them back with it."""
        if nests_deeper_than(fields, DEEPEST - 2):
            raise UpstreamBroken(f"The model API sent {next(iter(fields))!r:.80}, which nests too deeply to be kept.")
        self._extras_bytes += len(write_json(fields))
        if self._extras_bytes > EXTRAS_BYTES:
            raise UpstreamBroken(f"The model API sent more in {next(iter(fields))!r:.80} than this server keeps.")
        merge(self._extras, fields)

    # Events in other forms, read field by field

    def _take_odd(self, payload: bytes, deltas: Deltas, *, at_end: bool = False) -> bool:
        """Take an event in any other form; return whether it is the end.

        Raises:
            UpstreamBroken: it is meant to be JSON, and is not.
        """
        text = payload.decode("utf-8", "replace").strip()
        if not text:
            return False  # some keep a connection alive so
        if text.strip("[] ").upper() == "DONE":
            return True
        try:
            value = read_json(text)
        except UNREADABLE as error:
            if at_end:
                if self.is_complete:
                    return False  # it can only have been its usage
                raise UpstreamBroken(BROKE_OFF) from error
            if text[0] in "{[":
                raise UpstreamBroken(NOT_PROTOCOL) from error
            return False  # another way to keep a connection alive: content is always JSON
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                self._take_object(one, deltas)
        return False

    def _take_object(self, value: dict[str, Any], deltas: Deltas) -> None:
        self._refuse(value)
        choice = _only_choice(value.get("choices"))
        groq = value.get("x_groq")
        for holder in (value, choice, groq if isinstance(groq, dict) else {}):
            if holder.get("usage") is not None:
                self._take_usage(holder["usage"])
        before = len(deltas)
        delta, message = choice.get("delta"), choice.get("message")
        if delta:
            self._take_delta(delta if isinstance(delta, dict) else {"content": delta}, deltas)
        elif isinstance(message, dict):
            self._take_message(message, deltas)
        elif isinstance(choice.get("text"), str):
            self._take_delta({"content": choice["text"]}, deltas)
        reason = choice.get("finish_reason") or choice.get("finishReason") or choice.get("stop_reason")
        if isinstance(reason, dict):
            reason = reason.get("type") or reason.get("reason")
        self._take_finish("stop" if reason is True else reason, gained=len(deltas) > before)

    def _take_message(self, message: dict[str, Any], deltas: Deltas) -> None:
        """Take a whole message in place of a delta. Of a message that repeats earlier text, only the rest is new."""
        if self._message_text is None and self.deltas:  # it repeats the deltas, except for calls that only it has
            if self._calls is None:
                self._take_calls(message.get("tool_calls"), deltas, whole=True)
            return
        before = self._message_text or ""
        content = message.get("content")
        if isinstance(content, str):
            if before and content.startswith(before):
                message = {"content": content[len(before) :]}
                self._message_text = content
            else:
                self._message_text = before + content
        elif self._message_text is None:
            self._message_text = ""
        self._take_delta(message, deltas, whole=True)

    def _take_delta(self, delta: dict[str, Any], deltas: Deltas, *, whole: bool = False) -> None:
        reasoning = next((text for name in _REASONING if (text := _text_in(delta.get(name)))), None)
        if reasoning:
            self._add(Kind.REASONING, reasoning, deltas)
        self._take_content(delta.get("content"), deltas)
        if refusal := _text_in(delta.get("refusal")):
            self._add(Kind.REFUSAL, refusal, deltas)
        self._take_calls(delta.get("tool_calls"), deltas, whole=whole)
        legacy = delta.get("function_call")
        if isinstance(legacy, dict) and (legacy.get("name") or legacy.get("arguments")):
            self._take_calls([{"index": 0, "function": legacy}], deltas, whole=False)
        annotations = delta.get("annotations")
        if isinstance(annotations, list):
            self._annotate([one for one in annotations if isinstance(one, dict)], deltas)
        known = {*_REASONING, *_NO_CONTENT, "content", "refusal"}
        if kept := {name: value for name, value in delta.items() if name not in known and _is_something(value)}:
            self._keep(kept)

    def _take_content(self, content: Any, deltas: Deltas) -> None:
        """Take content as text, or as a list of parts, each of which is read for itself."""
        for part in content if isinstance(content, list) else [content]:
            if not isinstance(part, dict):
                if text := _text_in(part):
                    self._add(Kind.TEXT, text, deltas)
                continue
            kind = str(part.get("type", "text"))  # it may be anything
            if kind in _TEXT_PARTS:
                if text := _text_in(part.get("text", part.get("content"))):
                    self._add(Kind.TEXT, text, deltas)
                if isinstance(part.get("annotations"), list):
                    self._annotate([one for one in part["annotations"] if isinstance(one, dict)], deltas)
            elif kind in _REASONING_PARTS:
                if text := _text_in(part):
                    self._add(Kind.REASONING, text, deltas)
                if part.get("signature") or part.get("data"):
                    self._keep({"content_parts": [part]})
            elif kind == "refusal":
                if text := _text_in(part.get("refusal")):
                    self._add(Kind.REFUSAL, text, deltas)
            else:
                self._keep({"content_parts": [part]})

    def _take_calls(self, calls: Any, deltas: Deltas, *, whole: bool) -> None:
        for place, call in enumerate(calls if isinstance(calls, list) else [calls]):
            if not isinstance(call, dict):
                continue
            function = call.get("function")
            extras = {name: value for name, value in call.items() if name not in _CALL and _is_something(value)}
            kind = call.get("type") or ("custom" if isinstance(call.get("custom"), dict) else "function")
            if kind != "function":  # its later pieces may come without a type
                extras["type"] = kind
                function = extras.pop(str(kind), function)
            if not isinstance(function, dict):
                function = call
            elif inner := {k: v for k, v in function.items() if k not in _FUNCTION and _is_something(v)}:
                extras["function"] = inner
            index = _count(call.get("index"))
            call_id, name = call.get("id"), function.get("name")
            self._take_call(
                place if index is None and whole else index,
                str(call_id) if isinstance(call_id, str | int) and not isinstance(call_id, bool) else None,
                name if isinstance(name, str) else None,
                _arguments(function.get("arguments", function.get("input"))),
                extras or None,
                deltas,
            )


_CALL = frozenset({"index", "id", "type", "function", "name", "arguments", "input"})
_FUNCTION = frozenset({"name", "arguments", "input", "type", "id", "index"})


def _only_choice(choices: Any) -> dict[str, Any]:
    """The choice of an event. One answer was asked for, so a single choice is this one, with any index."""
    if isinstance(choices, dict):
        choices = [choices] if "delta" in choices or "message" in choices else list(choices.values())
    found = [one for one in choices if isinstance(one, dict)] if isinstance(choices, list) else []
    return min(found, key=lambda one: _count(one.get("index")) or 0) if found else {}


def _text_in(value: Any) -> str:
    """The text of a string, of an object that has one, or of a list of them."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(_text_in(one) for one in value)
    if isinstance(value, dict):
        names = ("text", "content", "value", "thinking", "reasoning", "summary", "thought", "refusal")
        return next((text for name in names if (text := _text_in(value.get(name)))), "")
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""


def _arguments(value: Any) -> str | None:
    """Arguments as JSON text; some send them as the value itself."""
    return value if isinstance(value, str) or value is None else write_json(value)


def _count(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _is_something(value: Any) -> bool:
    """Whether a member says anything: null, empty and false do not."""
    return value not in (None, "", [], {}, False)
