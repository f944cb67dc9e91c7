"""What of a conversation is sent upstream again.

Two rules (docs/decisions/refused-turns.md, docs/decisions/tool-calls.md). A turn whose answer says nothing is left
out with its messages. And an upstream wants each tool call answered, right after it: so results are put behind their
calls, wherever on the path they came, and a call that nobody answered is left out.
"""

from __future__ import annotations

from collections.abc import Iterable

from chatapi.model import VISIBLE_KINDS, Kind, NewMessage, Part, Role

_SAYS = VISIBLE_KINDS | {Kind.TOOL_CALL}


def has_content(message: NewMessage) -> bool:
    """Whether an answer has anything that its reader was told or asked; its thoughts alone are nothing."""
    return any(part.kind in _SAYS for part in message.parts)


def select_history(path: Iterable[NewMessage]) -> list[NewMessage]:
    """The messages of a path, in order, as an upstream is to see them; what follows the last answer is kept."""
    path = list(path)
    results = {
        part.call.id: part
        for message in path
        for part in message.parts
        if part.kind is Kind.TOOL_RESULT and part.call is not None
    }
    told: list[NewMessage] = []
    asked: list[NewMessage] = []  # since the last answer
    for message in path:
        if message.role is not Role.ASSISTANT:
            if message.role is not Role.TOOL:  # its results come behind their calls
                asked.append(message)
        elif has_content(message):
            told += asked
            told += _answered(message, results)
            asked = []
        else:
            asked = []
    return told + asked


def _answered(message: NewMessage, results: dict[str, Part]) -> list[NewMessage]:
    """An answer with those of its calls that have a result, and the results."""
    parts = [part for part in message.parts if part.kind in _SAYS and (part.call is None or part.call.id in results)]
    if not parts:
        return []
    answers = [NewMessage(Role.TOOL, (results[part.call.id],)) for part in parts if part.call is not None]
    return [NewMessage(Role.ASSISTANT, tuple(parts)), *answers]
