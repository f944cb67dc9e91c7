"""The answers of the source, which every reader must receive byte for byte.

The name of the model is the script: `bench-200-20` answers 200 chunks, one every 20 ms; `bench-200-0` sends them as
fast as possible. The text of a chunk begins with its index. The frames have the shape and the size of OpenAI's.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

WORDS = (" of", " to", " in", " is", " it", " on", " as", " at", " by", " or", " an", " we", " if")
ENDINGS = (*WORDS, ".\n\n", '"a"', " \u00e9")  # as in prose: few that JSON must escape, few beyond ASCII
MODEL = re.compile(rb'"model"\s*:\s*"bench-(\d{1,5})-(\d{1,5})"')
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class Script:
    """One answer: how many chunks (at least one), and how many milliseconds from one to the next."""

    chunks: int
    pace_ms: int

    @property
    def model(self) -> str:
        return f"bench-{self.chunks}-{self.pace_ms}"

    @classmethod
    def asked_for(cls, request: bytes) -> Script | None:
        """The script that a request body names, or None when it names none."""
        found = MODEL.search(request)
        return cls(max(1, int(found[1])), int(found[2])) if found else None


@dataclass(frozen=True)
class Transcript:
    """An answer's bytes, and for each chunk the number of bytes after which a reader has all of it."""

    body: bytes
    ends: list[int]


def chunk_text(index: int) -> str:
    """The text of one chunk."""
    return f"{index:05d}{ENDINGS[index % len(ENDINGS)]}"


def plain(script: Script) -> Transcript:
    """Return the answer as plain text, which the service's client receives."""
    texts = [chunk_text(index).encode() for index in range(script.chunks)]
    return Transcript(b"".join(texts), list(accumulate(len(text) for text in texts)))


def raw(script: Script) -> Transcript:
    """Return the answer as OpenAI's events, which the source's own client receives, with or without nginx."""
    opening, contents, closing = frames(script)
    ends = list(accumulate((len(frame) for frame in contents), initial=len(opening)))[1:]
    return Transcript(b"".join((opening, *contents, *closing)), ends)


@lru_cache(maxsize=64)
def steps(script: Script, *, responses: bool = False) -> tuple[bytes, ...]:
    """The answer as HTTP chunks, a frame in each, joined to one write for every moment at which something is due."""
    opening, contents, closing = response_frames(script) if responses else frames(script)
    writes = [http_chunk(frame) for frame in contents]
    writes[0] = http_chunk(opening) + writes[0]
    writes[-1] += b"".join(map(http_chunk, closing)) + b"0\r\n\r\n"
    return tuple(writes)


@lru_cache(maxsize=64)
def frames(script: Script) -> tuple[bytes, list[bytes], list[bytes]]:
    """Return the role frame, the content frames, and the frames after them: finish, usage, end."""
    usage = {"prompt_tokens": 20, "completion_tokens": script.chunks, "total_tokens": 20 + script.chunks}
    opening = frame(script, [choice({"role": "assistant", "content": ""})])
    contents = [frame(script, [choice({"content": chunk_text(index)})]) for index in range(script.chunks)]
    return opening, contents, [frame(script, [choice({}, "stop")]), frame(script, [], usage), DONE]


def response_frames(script: Script) -> tuple[bytes, list[bytes], list[bytes]]:
    """Return the same answer as events of Responses: those before the text, its deltas, and those after it."""
    texts = [chunk_text(index) for index in range(script.chunks)]
    response = {"id": "resp_" + "b" * 48, "object": "response", "created_at": 1754000000, "model": script.model}
    item = {"id": "msg_" + "b" * 48, "type": "message", "role": "assistant", "phase": "final_answer"}
    part = {"type": "output_text", "annotations": [], "logprobs": []}
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    whole = part | {"text": "".join(texts)}
    done = item | {"status": "completed", "content": [whole]}
    usage = {"input_tokens": 20, "output_tokens": script.chunks, "total_tokens": 20 + script.chunks}
    before: list[tuple[str, dict[str, object]]] = [
        ("created", {"response": response | {"status": "in_progress", "output": []}}),
        ("in_progress", {"response": response | {"status": "in_progress", "output": []}}),
        ("output_item.added", {"output_index": 0, "item": item | {"status": "in_progress", "content": []}}),
        ("content_part.added", {**place, "part": part | {"text": ""}}),
    ]
    deltas: list[tuple[str, dict[str, object]]] = [
        ("output_text.delta", {**place, "delta": text, "logprobs": [], "obfuscation": "b" * 11}) for text in texts
    ]
    after: list[tuple[str, dict[str, object]]] = [
        ("output_text.done", {**place, "text": whole["text"], "logprobs": []}),
        ("content_part.done", {**place, "part": whole}),
        ("output_item.done", {"output_index": 0, "item": done}),
        ("completed", {"response": response | {"status": "completed", "output": [done], "usage": usage}}),
    ]
    events = [event(kind, number, fields) for number, (kind, fields) in enumerate([*before, *deltas, *after])]
    begun, ended = len(before), len(before) + len(deltas)
    return b"".join(events[:begun]), events[begun:ended], events[ended:]


def event(kind: str, number: int, fields: dict[str, object]) -> bytes:
    """One event of Responses; one of a delta has about 330 bytes."""
    data = {"type": f"response.{kind}", **fields, "sequence_number": number}
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"event: response.{kind}\ndata: {text}\n\n".encode()


def frame(script: Script, choices: list[dict[str, object]], usage: dict[str, int] | None = None) -> bytes:
    """One `data:` frame of about 230 bytes."""
    chunk = {
        "id": "chatcmpl-BenchBenchBenchBenchBenchBench",
        "object": "chat.completion.chunk",
        "created": 1754000000,
        "model": script.model,
        "choices": choices,
        "usage": usage,
    }
    return b"data: " + json.dumps(chunk, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def choice(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, object]:
    """The only choice of a frame."""
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def http_chunk(data: bytes) -> bytes:
    """`data` as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
