"""The events of a streamed answer of OpenAI's Responses API."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from . import wire

ENCRYPTED: Final = "gAAAAAB"  # the beginning of everything that is encrypted here


class Events:
    """The events of one streamed response, numbered from 0. Items are opened and closed one after the other."""

    def __init__(self, model: str = wire.DEFAULT_SNAPSHOT, request: Mapping[str, Any] | None = None) -> None:
        self._number = 0
        self._output: list[dict[str, Any]] = []
        self._response = {
            "id": f"resp_{secrets.token_hex(24)}",
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "max_output_tokens": None,
            "metadata": {},
            "model": model,
            "output": [],
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": False,
            "temperature": 1.0,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "truncation": "disabled",
            "usage": None,
            **{name: value for name, value in (request or {}).items() if name in _REPEATED},
        }

    def event(self, kind: str, **fields: Any) -> bytes:
        """Return one event with the next number."""
        number, self._number = self._number, self._number + 1
        return wire.to_bytes(
            f"event: {kind}\ndata: {wire.encode({'type': kind, **fields, 'sequence_number': number})}\n\n"
        )

    def skip(self, count: int = 1) -> None:
        """Leave numbers out, as a server that loses events does."""
        self._number += count

    def begin(self) -> bytes:
        """Return the first two events."""
        return self.event("response.created", response=self._response) + self.event(
            "response.in_progress", response=self._response
        )

    def added(self, item: Mapping[str, Any]) -> bytes:
        """Return the event that opens an item."""
        return self.event("response.output_item.added", output_index=len(self._output), item=item)

    def progress(self, kind: str, item_id: str, **fields: Any) -> bytes:
        """Return an event of the open item."""
        return self.event(kind, output_index=len(self._output), item_id=item_id, **fields)

    def done(self, item: dict[str, Any]) -> bytes:
        """Return the event that closes the open item."""
        closed = self.event("response.output_item.done", output_index=len(self._output), item=item)
        self._output.append(item)
        return closed

    def message(
        self,
        pieces: Sequence[str],
        *,
        annotations: Sequence[dict[str, Any]] = (),
        refusal: bool = False,
        phase: str | None = None,
        status: str = "completed",
    ) -> Iterator[bytes]:
        """Yield a message: a text in these deltas with its annotations, or a refusal."""
        name = f"msg_{secrets.token_hex(16)}"
        item: dict[str, Any] = {
            "id": name,
            "type": "message",
            "status": "in_progress",
            "role": "assistant",
            "content": [],
        }
        item |= {"phase": phase} if phase else {}
        yield self.added(item)
        kind, member = ("response.refusal", "refusal") if refusal else ("response.output_text", "text")
        part: dict[str, Any] = {"type": "refusal", "refusal": ""}
        if not refusal:
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        logprobs: dict[str, Any] = {} if refusal else {"logprobs": []}
        yield self.progress("response.content_part.added", name, content_index=0, part=part)
        for piece in pieces:
            yield self.progress(f"{kind}.delta", name, content_index=0, delta=piece, **logprobs)
        for index, annotation in enumerate(annotations):
            yield self.progress(
                "response.output_text.annotation.added",
                name,
                content_index=0,
                annotation_index=index,
                annotation=annotation,
            )
        whole = "".join(pieces)
        yield self.progress(f"{kind}.done", name, content_index=0, **{member: whole}, **logprobs)
        part = {**part, member: whole} | ({} if refusal else {"annotations": list(annotations)})
        yield self.progress("response.content_part.done", name, content_index=0, part=part)
        yield self.done(item | {"status": status, "content": [part]})

    def reasoning(self, pieces: Sequence[str], *, encrypted: bool = True, summary: bool = True) -> Iterator[bytes]:
        """Yield a reasoning item with a summary in these deltas, and its encrypted content."""
        name = f"rs_{secrets.token_hex(16)}"
        hidden = {"encrypted_content": ENCRYPTED + secrets.token_urlsafe(60)} if encrypted else {}
        item: dict[str, Any] = {"id": name, "type": "reasoning", "summary": [], **hidden}
        yield self.added(item)
        whole = "".join(pieces)
        if summary and whole:
            part = {"type": "summary_text", "text": ""}
            yield self.progress("response.reasoning_summary_part.added", name, summary_index=0, part=part)
            for piece in pieces:
                yield self.progress("response.reasoning_summary_text.delta", name, summary_index=0, delta=piece)
            yield self.progress("response.reasoning_summary_text.done", name, summary_index=0, text=whole)
            part = {"type": "summary_text", "text": whole}
            yield self.progress("response.reasoning_summary_part.done", name, summary_index=0, part=part)
            item = item | {"summary": [part]}
        yield self.done(item)

    def call(self, call_id: str, name: str, pieces: Sequence[str], *, custom: bool = False) -> Iterator[bytes]:
        """Yield a call of a function, or of a custom tool, with its arguments in these deltas."""
        item_id = f"{'ctc' if custom else 'fc'}_{secrets.token_hex(16)}"
        kind, member = ("custom_tool_call", "input") if custom else ("function_call", "arguments")
        event = "response.custom_tool_call_input" if custom else "response.function_call_arguments"
        item = {"id": item_id, "type": kind, "call_id": call_id, "name": name, member: "", "status": "in_progress"}
        yield self.added(item)
        for piece in pieces:
            yield self.progress(f"{event}.delta", item_id, delta=piece)
        whole = "".join(pieces)
        yield self.progress(f"{event}.done", item_id, **{member: whole})
        yield self.done(item | {member: whole, "status": "completed"})

    def end(
        self,
        status: str = "completed",
        *,
        usage: wire.Usage | None = None,
        reason: str | None = None,
        error: dict[str, str] | None = None,
    ) -> bytes:
        """Return the last event."""
        return self.event(f"response.{status}", response=self.whole(status, usage=usage, reason=reason, error=error))

    def whole(
        self,
        status: str = "completed",
        *,
        usage: wire.Usage | None = None,
        reason: str | None = None,
        error: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """Return the response as an object."""
        spent = usage or wire.Usage()
        return self._response | {
            "status": status,
            "output": self._output,
            "error": error,
            "incomplete_details": {"reason": reason} if reason else None,
            "usage": {
                "input_tokens": spent.prompt_tokens,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens": spent.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": spent.reasoning_tokens},
                "total_tokens": spent.prompt_tokens + spent.completion_tokens,
            },
        }


_REPEATED = frozenset(
    {
        "instructions",
        "max_output_tokens",
        "metadata",
        "reasoning",
        "store",
        "temperature",
        "text",
        "tool_choice",
        "tools",
    }
)
