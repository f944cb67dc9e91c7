"""A few routes of the rest of OpenAI's API, with answers that are a function of the request."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any, Final

from .record import ReceivedRequest

DIMENSIONS: Final = 8  # of an embedding, unless the request names another number

Route = Callable[[ReceivedRequest], dict[str, Any]]


def other_route(method: str, path: str) -> Route | None:
    """Return the function that answers a request, or None if it is of another route."""
    if method == "DELETE" and path.startswith("/v1/files/"):
        return delete_file
    return _ROUTES.get((method, path))


def embed(request: ReceivedRequest) -> dict[str, Any]:
    """Return an embedding of each input."""
    body = request.body if isinstance(request.body, dict) else {}
    given = body.get("input", "")
    texts = given if isinstance(given, list) else [given]
    dimensions = body.get("dimensions") or DIMENSIONS
    data = [
        {"object": "embedding", "index": index, "embedding": _vector(str(text), dimensions)}
        for index, text in enumerate(texts)
    ]
    spent = sum(len(str(text).split()) for text in texts)
    usage = {"prompt_tokens": spent, "total_tokens": spent}
    return {"object": "list", "data": data, "model": body.get("model"), "usage": usage}


def _vector(text: str, dimensions: int) -> list[float]:
    """Return a vector of length 1 that depends on the text alone."""
    digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()
    numbers = [digest[place % len(digest)] - 127.5 for place in range(dimensions)]
    length = math.sqrt(sum(number * number for number in numbers))
    return [round(number / length, 6) for number in numbers]


def list_files(_: ReceivedRequest) -> dict[str, Any]:
    """Return an empty list of files."""
    return {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


def delete_file(request: ReceivedRequest) -> dict[str, Any]:
    """Return that a file is deleted."""
    return {"id": request.path.rpartition("/")[2], "object": "file", "deleted": True}


def count_tokens(request: ReceivedRequest) -> dict[str, Any]:
    """Return the number of words in the input and the instructions."""
    body = request.body if isinstance(request.body, dict) else {}
    given = body.get("input", "")
    texts = [str(body.get("instructions") or ""), *([given] if isinstance(given, str) else map(_text_of, given))]
    return {"object": "response.input_tokens", "input_tokens": sum(len(text.split()) for text in texts)}


def compact(request: ReceivedRequest) -> dict[str, Any]:
    """Return the messages of users, and an item that stands for the others."""
    body = request.body if isinstance(request.body, dict) else {}
    given = body.get("input", [])
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    kept = [
        {
            "id": f"msg_{index}",
            "type": "message",
            "role": "user",
            "status": "completed",
            "content": [{"type": "input_text", "text": _text_of(item)}],
        }
        for index, item in enumerate(items)
        if item.get("role") == "user"
    ]
    hidden = {"id": "cmp_1", "type": "compaction", "encrypted_content": f"opaque-{len(items)}-items"}
    spent = count_tokens(request)["input_tokens"]
    usage = {
        "input_tokens": spent,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 1,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": spent + 1,
    }
    created = {"id": "resp_compacted", "object": "response.compaction", "created_at": 1_700_000_000}
    return {**created, "output": [*kept, hidden], "usage": usage}


def _text_of(item: dict[str, Any]) -> str:
    content = item.get("content", "")
    return content if isinstance(content, str) else " ".join(str(part.get("text", "")) for part in content)


_ROUTES: Final[dict[tuple[str, str], Route]] = {
    ("POST", "/v1/embeddings"): embed,
    ("GET", "/v1/files"): list_files,
    ("POST", "/v1/responses/input_tokens"): count_tokens,
    ("POST", "/v1/responses/compact"): compact,
}
