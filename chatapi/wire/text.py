"""Text that every database and every upstream accepts: Unicode without NUL and without unpaired surrogates."""

from __future__ import annotations

from chatapi.errors import InvalidRequest

MESSAGE_LIMIT = "CHATAPI_MAX_MESSAGE_BYTES"  # the setting, for errors about the length of a message


def text_fault(text: str) -> str | None:
    """Return the fault of `text`, as the end of a sentence about a field, or None."""
    if "\0" in text:
        return "must not contain a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "must not contain an unpaired surrogate"
    return None


def check_text(text: str, field: str) -> str:
    """Return `text`.

    Raises:
        InvalidRequest: it contains NUL or an unpaired surrogate; the error names `field`.
    """
    if (fault := text_fault(text)) is not None:
        raise InvalidRequest.field(field, f"It {fault}.")
    return text


def check_length(text: str, field: str, max_bytes: int) -> None:
    """Raise `InvalidRequest` naming `field` if `text` is longer than `max_bytes` of UTF-8, the limit of a message."""
    if len(text) > max_bytes or len(text.encode()) > max_bytes:
        raise InvalidRequest.field(field, f"It must have at most {max_bytes} bytes of UTF-8 ({MESSAGE_LIMIT}).")
