"""A chat completion's request: the fields that decide how it is served, and its messages as a turn of a session.

A stateless completion goes upstream byte for byte, so of its fields only these few are read. In a session, the fields
that are not read here are passed on as they are.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from chatapi.api.http.request_body import Body, Metadata, validate
from chatapi.api.openai.common import check_if_busy, check_sizes
from chatapi.errors import InvalidRequest
from chatapi.model import NewMessage, Role, TurnRequest, visible_text
from chatapi.settings import Settings
from chatapi.wire.chat_messages import read_message
from chatapi.wire.json_values import optional_flag, require_object

DIALECT = "completions"
NEW = "new"  # as a session's id: create one
MAX_CHOICES = 128  # as in OpenAI's API
MAX_MESSAGES = 2048  # the same; in a session each becomes a row
OWN_FIELDS = frozenset(  # not passed on
    {"messages", "model", "stream", "stream_options", "metadata", "on_disconnect", "if_busy"}
)
MARK_CHARACTERS = 32
NOT_IN_SESSIONS = ("logprobs", "functions", "function_call", "audio")
_INSTRUCTING = frozenset({Role.SYSTEM, Role.DEVELOPER})


def wants_stream(body: dict[str, Any]) -> bool:
    """Return whether the answer is to be streamed."""
    return optional_flag(body.get("stream"), "stream")


def wants_usage(body: dict[str, Any]) -> bool:
    """Return whether the stream is to end with a chunk of usage."""
    options = body.get("stream_options")
    return bool(require_object(options, "stream_options").get("include_usage")) if options is not None else False


def choice_count(body: dict[str, Any]) -> int:
    """Return how many answers are asked for."""
    count = body.get("n")
    if count is None:
        return 1
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MAX_CHOICES:
        raise InvalidRequest.field("n", f"Must be a number from 1 to {MAX_CHOICES}.")
    return count


def wants_storage(body: dict[str, Any]) -> bool:
    """Return whether the completion is to be stored, and listed among the stored ones."""
    return optional_flag(body.get("store"), "store")


class StoredFields(Body):
    """The metadata of a stored completion."""

    metadata: Metadata | None


def read_stored_metadata(value: Any) -> dict[str, str]:
    """Return the metadata of a stored completion.

    Raises:
        InvalidRequest: it has too many entries, or one that is not a short text.
    """
    return validate(StoredFields, {"metadata": value}).metadata or {}


def metadata_mark(name: str, value: str) -> str:
    """Return a text of letters and digits that stands for an entry of metadata, to find completions by."""
    entry = msgspec.json.encode([name, value])
    return hashlib.sha256(entry).hexdigest()[:MARK_CHARACTERS]


def encode_stored_fields(metadata: dict[str, str]) -> str:
    """Return the metadata of a stored completion as `TurnRequest.dialect_data`, with a mark for each entry."""
    marks = [metadata_mark(name, value) for name, value in metadata.items()]
    return msgspec.json.encode({"metadata": metadata, "marks": marks}).decode()


def decode_stored_fields(data: str | None) -> dict[str, str] | None:
    """Return the metadata of a stored completion; None if the completion was not asked to be stored."""
    return msgspec.json.decode(data, type=dict[str, Any])["metadata"] if data is not None else None


def metadata_of(body: dict[str, Any]) -> dict[str, Any]:
    """Return the request's metadata."""
    metadata = body.get("metadata")
    return require_object(metadata, "metadata") if metadata is not None else {}


def read_turn(body: dict[str, Any], settings: Settings, owner: str, session_id: str) -> TurnRequest:
    """Read a completion as a turn of a session, or of a new one if `session_id` is `NEW`.

    Raises:
        InvalidRequest: a field cannot be served in a session; the error names it.
    """
    for name in NOT_IN_SESSIONS:
        if body.get(name):
            raise InvalidRequest.field(name, "Not supported in a stored session. Omit it, or the session's id.")
    check_if_busy(body.get("if_busy"))
    if choice_count(body) != 1:
        raise InvalidRequest.field("n", "Must be 1 in a stored session. Omit it, or the session's id.")
    model = body.get("model", settings.default_model)
    if not isinstance(model, str) or not 0 < len(model) <= 256 or not model.isprintable():
        raise InvalidRequest.field("model", "Must be the name of a model.")
    developer_message, messages = _split_instructions(_read_messages(body.get("messages"), settings))
    if session_id != NEW:
        messages = _after_last_answer(messages)
    if not messages or messages[-1].role is Role.ASSISTANT:
        raise InvalidRequest.field("messages", "Must end with a message to answer.")
    parameters = {name: value for name, value in body.items() if name not in OWN_FIELDS}
    metadata = {name: value for name, value in metadata_of(body).items() if name != "session_id"}
    stored = wants_storage(body)
    if stored:
        del parameters["store"]  # it is stored here, and metadata is refused upstream for what is not stored there
    elif metadata:
        parameters["metadata"] = metadata
    return TurnRequest(
        owner=owner,
        session_id=None if session_id == NEW else session_id,
        developer_message=developer_message,
        input=tuple(messages),
        model=model,
        dialect=DIALECT,
        parameters=parameters,
        dialect_data=encode_stored_fields(read_stored_metadata(metadata)) if stored else None,
    )


def _read_messages(values: Any, settings: Settings) -> list[NewMessage]:
    if not isinstance(values, list) or not 0 < len(values) <= MAX_MESSAGES:
        raise InvalidRequest.field("messages", f"Must be a list of 1 to {MAX_MESSAGES} messages.")
    messages = [read_message(value, f"messages.{index}") for index, value in enumerate(values)]
    check_sizes(messages, "messages", settings.max_message_bytes)
    return messages


def _split_instructions(messages: list[NewMessage]) -> tuple[str | None, list[NewMessage]]:
    """Return the developer message that a history contains, and the other messages."""
    instructions = [visible_text(message.parts) for message in messages if message.role in _INSTRUCTING]
    rest = [message for message in messages if message.role not in _INSTRUCTING]
    return "\n\n".join(instructions) if instructions else None, rest


def _after_last_answer(messages: list[NewMessage]) -> list[NewMessage]:
    """Return the new messages of a history: those after its last answer."""
    answers = [index for index, message in enumerate(messages) if message.role is Role.ASSISTANT]
    return messages[answers[-1] + 1 :] if answers else messages
