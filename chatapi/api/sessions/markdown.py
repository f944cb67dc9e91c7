"""A session as a text to read: its active path in Markdown.

What somebody said stands in a quotation: whatever fences and headings it opens end with it, and nothing in it can pass
for another's words. What stands outside of quotations is ours, or has its marks taken away.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

from chatapi.api.http.streaming import Aborted
from chatapi.model import Generation, Kind, Message, Microseconds, Part, Role, Session, Status
from chatapi.store import Store

_LINE_ENDS = re.compile(r"\r\n|\r|\n")
_NAMES = {
    Role.USER: "User",
    Role.ASSISTANT: "Assistant",
    Role.TOOL: "Tool",
    Role.SYSTEM: "System",
    Role.DEVELOPER: "Developer",
}


async def write(store: Store, session: Session, now: Microseconds) -> AsyncGenerator[bytes, None]:
    """The active path of a session, as it is now, page by page.

    Raises:
        Aborted: messages were taken away meanwhile: what was written is not the whole of anything.
    """
    yield _head(session, now).encode()
    depth, last = -1, None
    for stop in await store.stops(session.id, session.head) if session.head is not None else ():
        while last != stop:
            page = await store.stretch(session.id, stop, depth)
            for message in page:
                if message.parent != last:
                    raise Aborted
                last = message.id
            if not page:
                raise Aborted
            yield "".join(map(_message, page)).encode()
            depth = page[-1].depth
    if last != session.head:
        raise Aborted


def _head(session: Session, now: Microseconds) -> str:
    title = plain(session.title or "") or "Conversation"
    begun, used = time_of(session.created_at), time_of(session.updated_at)
    head = f"# {title}\n\nBegun {begun}, last used {used}, exported {time_of(now)}.\n"
    if session.developer_message:
        head += f"\n## Developer message\n\n{quoted(session.developer_message)}\n"
    return head


def _message(message: Message) -> str:
    parts = [part for part in map(_part, message.parts) if part] or ["*(nothing)*"]
    about = _about(message)
    return "\n".join([f"\n## {_NAMES[message.role]}\n", f"{about}\n", "\n\n".join(parts), ""])


def _about(message: Message) -> str:
    """Who said it, when, and what it cost."""
    generation = message.generation
    if generation is None:
        return time_of(message.created_at)
    told = [plain(generation.model), time_of(message.created_at), _ending(generation)]
    usage = generation.usage
    if usage is not None:
        about = "about " if usage.estimated else ""
        told.append(f"{_number(usage.input_tokens)} tokens in, {about}{_number(usage.output_tokens)} out")
        if usage.reasoning_tokens:
            told[-1] += f" ({usage.reasoning_tokens} of reasoning)"
        if usage.cached_tokens:
            told[-1] += f", {usage.cached_tokens} from the cache"
    if generation.first_token_at is not None:
        told.append(f"first token after {(generation.first_token_at - generation.created_at) / 1_000_000:.1f} s")
    if generation.ended_at is not None:
        told.append(f"ended after {(generation.ended_at - generation.created_at) / 1_000_000:.1f} s")
    return " · ".join(told)


def _ending(generation: Generation) -> str:
    if generation.status is Status.COMPLETED:
        return f"completed ({plain(generation.finish_reason)})" if generation.finish_reason else "completed"
    detail = f": {plain(generation.error_detail)}" if generation.error_detail else ""
    return f"**{generation.status.value}**{detail}"


def _number(tokens: int | None) -> str:
    return "?" if tokens is None else str(tokens)


def _part(part: Part) -> str:
    match part.kind:
        case Kind.TEXT | Kind.REFUSAL:
            return quoted(part.text) if part.text else ""
        case Kind.REASONING:
            return f"*Reasoning*\n\n{quoted(part.text)}"
        case Kind.TOOL_CALL:
            name = plain(part.call.name) if part.call is not None else ""
            return f"*Call of {name}*\n\n{quoted(fenced(part.text))}"
        case Kind.TOOL_RESULT:
            return f"*Result*\n\n{quoted(fenced(part.text))}"
        case Kind.ANNOTATION:
            return f"*Annotations*\n\n{quoted(fenced(part.text))}"
    media = part.media
    told = [part.kind.value.capitalize()]
    if media is not None:
        url = media.url if media.url is not None and not media.url.lower().startswith("data:") else None
        told += [plain(value) for value in (media.filename, media.format, media.file_id, url) if value]
    return f"*({' · '.join(told)})*"


def quoted(text: str) -> str:
    """`text` as a quotation."""
    return "> " + _LINE_ENDS.sub("\n> ", text)


def fenced(text: str) -> str:
    """`text` as code: the fence is longer than any in it."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def plain(text: str) -> str:
    """`text` on one line, without meaning to Markdown."""
    line = re.sub(r"([\\`*_{}\[\]<>#~|&!()$])", r"\\\1", " ".join(text.split()))
    return re.sub(r"^([0-9]*)([-+.])(?= |$)", r"\1\\\2", line)  # no list begins with it


def time_of(at: Microseconds) -> str:
    """A time, to the second."""
    return datetime.fromtimestamp(at // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
