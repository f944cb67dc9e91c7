"""Choose the messages of a path that are sent to a model whose context is smaller than the conversation.

The oldest turns are left out first, from the beginning of the path up to a *cut*. Messages of the system and the
developer are always sent, and so is the newest message of the user. A cut is before a message of the user, or in the
newest turn before an answer, and never between a call and its result.

The context is never guessed. A cut is chosen when the tokens that the upstream counted for the last answer come near
to a limit that the operator or the upstream states, or when the upstream refuses the request. It is kept for the turns
that follow, so that a request begins as the one before it did: upstreams reuse the work on an equal beginning.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import accumulate

import msgspec
from msgspec.structs import replace

from chatapi.errors import ContextTooLarge, UpstreamContextExceeded
from chatapi.generations.history import select_history
from chatapi.model import Kind, LeftOut, NewMessage, Part, PathMessage, Role, Summary
from chatapi.upstream.request import ModelRequest

SUMMARY_HEAD = "A summary of the conversation before this message:"
SUMMARY_BEGIN = f"{SUMMARY_HEAD}\n\n<summary>\n"
KEPT = 0.7  # of the limit, at most, is used after a cut: each one costs the upstream the work that it had reused
KEPT_UNKNOWN = 0.5  # of a refused request, where no number says how much is too much
_ALWAYS_SENT = frozenset({Role.SYSTEM, Role.DEVELOPER})


class ContextPlan(msgspec.Struct, frozen=True):
    """A request, and the path that it is made from; the messages before `cut` are left out.

    `request` has the instructions and the parameters, and no messages. `truncates`: messages may be left out. `limit`
    is the stated number of tokens that the model takes, if there is one.
    """

    request: ModelRequest
    path: tuple[PathMessage, ...]
    truncates: bool = False
    limit: int | None = None
    cut: int = 0
    summary: Summary | None = None

    @property
    def sent(self) -> list[NewMessage]:
        """The messages to send, without the summary."""
        return select_history(one.message for one in sent_messages(self.path, self.cut))

    @property
    def model_request(self) -> ModelRequest:
        """The request to send."""
        return self.request.with_messages(tuple(self._after_summary(self.sent)), self.request.instructions)

    @property
    def left_out(self) -> LeftOut | None:
        """The messages that are left out or summarised, if there are any."""
        covered = self.summarised
        left = left_out_messages(self.path, self.cut)[len(covered) :]
        if not left and not covered:
            return None
        ends = (left[0].id, left[-1].id) if left else (None, None)
        return LeftOut(len(left), *ends, self.summary.id if self.summary is not None else None, len(covered))

    @property
    def summarised(self) -> list[PathMessage]:
        """The messages for which the summary stands, from the beginning of the path."""
        if self.summary is None:
            return []
        return left_out_messages(self.path, _index_of(self.path, self.summary.last) + 1)

    @property
    def to_summarise(self) -> list[PathMessage]:
        """The messages of whole turns that are left out, and for which no summary stands."""
        cut = min(self.cut, max(newest_user_message(self.path), 0))
        return left_out_messages(self.path, cut)[len(self.summarised) :]

    def with_summary(self, summaries: Iterable[Summary]) -> ContextPlan:
        """Return the plan with the summary that stands for the most messages of the path before its newest turn.

        One that was made on another branch may end between a call and its result on this one, or between a question
        and its answer: it is not used here.
        """
        newest = newest_user_message(self.path)
        places = {one.id: index for index, one in enumerate(self.path[: max(newest, 0)]) if one.id is not None}
        known = [one for one in summaries if one.last in places]
        open_calls = _open_calls(self.path) if known else []
        usable = [
            one
            for one in known
            if not open_calls[places[one.last] + 1] and _continues_with_user(self.path, places[one.last] + 1)
        ]
        found = max(usable, key=lambda one: places[one.last], default=None)
        if found is None:
            return self
        return replace(self, summary=found, cut=max(self.cut, places[found.last] + 1))

    def fit(self) -> ContextPlan:
        """Return the plan with the cut of the last answer, moved on if the counted tokens come near to the limit.

        Raises:
            ContextTooLarge: the conversation is larger than this server sends, whatever is left out.
        """
        answers = [index for index, one in enumerate(self.path) if one.model == self.request.model]
        kept = _cut_after(self.path, self.path[answers[-1]].left_out) if answers else 0
        plan = replace(self, cut=max(kept, self.cut))
        unread = max([index + 1 for index, one in enumerate(self.path) if not one.is_read], default=0)
        if plan.cut < unread:
            cut = next((cut for cut in allowed_cuts(self.path) if cut >= unread), None)
            if cut is None:
                raise ContextTooLarge
            plan = replace(plan, cut=cut)
        measured = next((index for index in reversed(answers) if _counted(self.path[index]) is not None), None)
        if self.limit is None or measured is None:
            return plan
        before = max(_cut_after(self.path, self.path[measured].left_out), self.cut)
        size = self._size_with(sent_messages(self.path[: measured + 1], before))
        tokens = (_counted(self.path[measured]) or 0) * plan._sent_size / max(size, 1)
        room = max(self.limit - self.answer_tokens, 0)
        return plan if tokens <= room else plan.shrink(KEPT * room / tokens) or plan

    def after_refusal(self, error: UpstreamContextExceeded) -> ContextPlan | None:
        """Return the plan with a later cut after the upstream refused it; None if nothing more can be left out."""
        limit, requested = error.limit_tokens or self.limit, error.requested_tokens
        if not self.truncates:
            return None
        if limit is None or requested is None:
            return self.shrink(KEPT_UNKNOWN)
        return self.shrink(KEPT * min(max(limit - self.answer_tokens, 0) / requested, 1.0))

    def shrink(self, share: float) -> ContextPlan | None:
        """Return the plan with the first later cut at which this share of the request is left, or else with the last.

        None if no later cut leaves out more.
        """
        size = self._sent_size
        most, left_out, found = share * size, 0, None
        newest = newest_user_message(self.path)
        allowed = set(allowed_cuts(self.path))
        for index in range(self.cut, len(self.path)):
            if index in allowed and left_out:
                found = replace(self, cut=index)
                if size - left_out <= most:
                    break
            if index != newest and not _is_always_sent(self.path[index]):
                left_out += max(message_size(self.path[index].message), 1)
        return found

    @property
    def answer_tokens(self) -> int:
        """The tokens that the request reserves for its answer."""
        limits = [self.request.parameters.get(name) for name in ("max_completion_tokens", "max_tokens")]
        return max([limit for limit in limits if isinstance(limit, int)], default=0)

    def _after_summary(self, messages: list[NewMessage]) -> list[NewMessage]:
        """Return the messages, the first one of the user with the summary before its text.

        The summary has text of the user's, so it speaks with no more authority. A message of its own would make two of
        the user in a row, which the templates of some models refuse.
        """
        if self.summary is None:
            return messages
        head = Part(Kind.TEXT, f"{quote_summary(self.summary.text)}\n\n")
        first = next((index for index, one in enumerate(messages) if one.role is Role.USER), None)
        if first is None:
            return [*messages, NewMessage(Role.USER, (head,))]
        parts = messages[first].parts
        if parts and parts[0].kind is Kind.TEXT:
            parts = (replace(parts[0], text=head.text + parts[0].text), *parts[1:])
        else:
            parts = (head, *parts)
        return [*messages[:first], replace(messages[first], parts=parts), *messages[first + 1 :]]

    @property
    def _sent_size(self) -> int:
        return self._size_with(sent_messages(self.path, self.cut))

    def _size_with(self, messages: Iterable[PathMessage]) -> int:
        """Return the size of a request with these messages in characters."""
        instructions = [*self.request.instructions, self.summary.text if self.summary is not None else ""]
        return sum(map(len, instructions)) + sum(message_size(one.message) for one in messages)


def quote_summary(text: str) -> str:
    """Return a summary as it stands in a message of the user."""
    return f"{SUMMARY_BEGIN}{text}\n</summary>"


async def send_fitting(
    plan: ContextPlan,
    send: Callable[[ModelRequest], Awaitable[None]],
    note: Callable[[LeftOut], Awaitable[None]],
    compact: Callable[[ContextPlan], Awaitable[ContextPlan]] | None = None,
) -> None:
    """Send a request; once more, without its oldest messages, if the upstream says that it is too long.

    `note` is called with the messages that are left out, before they are. `compact` has a summary stand for them.

    Raises:
        ChatError: as `send` does, the second time.
    """
    if compact is not None:
        plan = await compact(plan)
    if (left_out := plan.left_out) is not None:
        await note(left_out)
    try:
        return await send(plan.model_request)
    except UpstreamContextExceeded as error:
        later = plan.after_refusal(error)
        if later is not None and compact is not None:
            later = await compact(later)
        if later is None or (left_out := later.left_out) is None:
            raise
    await note(left_out)
    await send(later.model_request)


def sent_messages(path: Sequence[PathMessage], cut: int) -> list[PathMessage]:
    """Return the messages that are sent."""
    if not cut:  # nearly every turn
        return list(path)
    newest = newest_user_message(path)
    return [one for index, one in enumerate(path) if index >= cut or index == newest or _is_always_sent(one)]


def left_out_messages(path: Sequence[PathMessage], cut: int) -> list[PathMessage]:
    """Return the messages that are not sent."""
    if not cut:
        return []
    newest = newest_user_message(path)
    return [one for index, one in enumerate(path[:cut]) if index != newest and not _is_always_sent(one)]


def newest_user_message(path: Sequence[PathMessage]) -> int:
    """Return the index of the newest message of the user, or -1."""
    return max([index for index, one in enumerate(path) if one.message.role is Role.USER], default=-1)


def allowed_cuts(path: Sequence[PathMessage]) -> list[int]:
    """Return the indexes at which a path may be cut, in order."""
    newest = newest_user_message(path)
    last_answer = max([index for index, one in enumerate(path) if one.message.role is Role.ASSISTANT], default=-1)
    open_calls = _open_calls(path)
    return [
        index
        for index, one in enumerate(path)
        if not open_calls[index]
        and (
            (index <= newest and one.message.role is Role.USER)
            or (newest < index <= last_answer and one.message.role is Role.ASSISTANT)
        )
    ]


def _continues_with_user(path: Sequence[PathMessage], start: int) -> bool:
    rest = (path[index] for index in range(start, len(path)))
    return next((one.message.role is Role.USER for one in rest if not _is_always_sent(one)), False)


def _is_always_sent(one: PathMessage) -> bool:
    return one.message.role in _ALWAYS_SENT and one.is_read


def _open_calls(path: Sequence[PathMessage]) -> list[int]:
    """Return for each index how many calls before it have a result at it or behind it."""
    changes = [0] * (len(path) + 1)
    for call, result in _call_pairs(path):
        changes[call + 1] += 1
        changes[result + 1] -= 1
    return list(accumulate(changes))


def _call_pairs(path: Sequence[PathMessage]) -> list[tuple[int, int]]:
    """Return the index of each call and that of its result, as `history.select_history` pairs them."""
    called: dict[str, int] = {}
    pairs = []
    for index, one in enumerate(path):
        for part in one.message.parts:
            if part.call is None:
                continue
            if part.kind is Kind.TOOL_CALL and one.message.role is Role.ASSISTANT:
                called[part.call.id] = index
            elif part.kind is Kind.TOOL_RESULT and (caller := called.get(part.call.id)) is not None:
                pairs.append((caller, index))
    return pairs


def _cut_after(path: Sequence[PathMessage], left_out: LeftOut | None) -> int:
    """Return the cut of an earlier request in this path: behind the last message that it left out."""
    if left_out is None or left_out.last is None:
        return 0
    last = next((index for index, one in enumerate(path) if one.id == left_out.last), len(path))
    return next((cut for cut in allowed_cuts(path) if cut > last), 0)


def _counted(answer: PathMessage) -> int | None:
    """Return the tokens up to and with an answer, if the upstream counted them."""
    usage = answer.usage
    if usage is None or usage.estimated or usage.input_tokens is None:
        return None
    return usage.input_tokens + (usage.output_tokens or 0)


def _index_of(path: Sequence[PathMessage], message_id: str) -> int:
    return next((index for index, one in enumerate(path) if one.id == message_id), -1)


def message_size(message: NewMessage) -> int:
    """Return the size of a message in characters, media as base64."""
    media = [part.media for part in message.parts if part.media is not None]
    texts = sum(len(part.text) + (len(part.call.name) if part.call is not None else 0) for part in message.parts)
    return texts + sum(len(one.data or "") + len(one.url or "") for one in media)
