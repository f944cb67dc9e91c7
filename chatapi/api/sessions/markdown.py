"""A session as Markdown: its active path, for people to read.

Each message is a block quotation, so no fence or heading in it can affect the text after it or imitate another message.
Text outside quotations is ours or has its Markdown escaped.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from urllib.parse import quote

from chatapi.api.http.streaming import Aborted
from chatapi.model import Generation, Kind, Message, Microseconds, Part, Role, Session, Status
from chatapi.store import Store

_LINE_ENDS = re.compile(r"\r\n|\r|\n")
_OF_URLS = "!#$%&'()*+,/:;=?@[]~"  # all that a link in angle brackets may have: there, a backslash would not escape
_NAMES = {
    Role.USER: "User",
    Role.ASSISTANT: "Assistant",
    Role.TOOL: "Tool",
    Role.SYSTEM: "System",
    Role.DEVELOPER: "Developer",
}


async def write_markdown(store: Store, session: Session, now: Microseconds) -> AsyncGenerator[bytes, None]:
    """Yield the active path of a session, page by page.

    Raises:
        Aborted: messages were deleted meanwhile, so the path cannot be completed.
    """
    yield _head(session, now).encode()
    depth, last = -1, None
    for checkpoint in (
        await store.messages.path_checkpoints(session.id, session.head) if session.head is not None else ()
    ):
        while last != checkpoint:
            page = await store.messages.path_segment(session.id, checkpoint, depth)
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
    """Return the line under a message's heading: model, time, status, usage and durations."""
    generation = message.generation
    if generation is None:
        return time_of(message.created_at)
    facts = [plain(generation.model), time_of(message.created_at), _ending(generation)]
    usage = generation.usage
    if usage is not None:
        about = "about " if usage.estimated else ""
        facts.append(f"{_number(usage.input_tokens)} tokens in, {about}{_number(usage.output_tokens)} out")
        if usage.reasoning_tokens:
            facts[-1] += f" ({usage.reasoning_tokens} of reasoning)"
        if usage.cached_tokens:
            facts[-1] += f", {usage.cached_tokens} from the cache"
    if generation.first_token_at is not None:
        facts.append(f"first token after {(generation.first_token_at - generation.created_at) / 1_000_000:.1f} s")
    if generation.ended_at is not None:
        facts.append(f"ended after {(generation.ended_at - generation.created_at) / 1_000_000:.1f} s")
    return " · ".join(facts)


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
            assert part.call is not None, "a call has an id and a name"
            about = f"*Call of {plain(part.call.name)} ({plain(part.call.id)})*"
            return f"{about}\n\n{quoted(fenced(part.text))}"
        case Kind.TOOL_RESULT:
            assert part.call is not None, "a result names its call"
            return f"*Result of {plain(part.call.id)}*\n\n{quoted(fenced(part.text))}"
        case Kind.EXTRA:
            return ""
        case Kind.ANNOTATION:
            return f"*Annotations*\n\n{quoted(fenced(part.text))}"
    media = part.media
    facts = [part.kind.value.capitalize()]
    if media is not None:
        facts += [plain(value) for value in (media.filename, media.format, media.file_id) if value]
        if media.url is not None and not media.url.lower().startswith("data:"):
            facts.append(f"<{quote(media.url, safe=_OF_URLS)}>")
    return f"*({' · '.join(facts)})*"


def quoted(text: str) -> str:
    """Return `text` as a block quotation."""
    return "> " + _LINE_ENDS.sub("\n> ", text)


def fenced(text: str) -> str:
    """Return `text` as a code block whose fence is longer than any run of backticks in it."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def plain(text: str) -> str:
    """Return `text` on one line with its Markdown escaped."""
    line = re.sub(r"([\\`*_{}\[\]<>#~|&!()$])", r"\\\1", " ".join(text.split()))
    return re.sub(r"^([0-9]*)([-+.])(?= |$)", r"\1\\\2", line)  # else it would begin a list


def time_of(at: Microseconds) -> str:
    """Return a time in UTC, to the second."""
    return datetime.fromtimestamp(at // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
