"""Generated answers of an upstream: none is an internal error, and none looks complete that is not."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chatapi.api.openai.items import close_item, write_annotation
from chatapi.upstream.responses.input import _without_loose_ends
from tests.upstream_fuzz import bodies, check

cuts = st.lists(st.integers(0), max_size=4)


@settings(deadline=None, derandomize=True, max_examples=150, suppress_health_check=list(HealthCheck))
@given(bodies, cuts, cuts)
@example(b'data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]}', [], [3])
@example(
    b'data: {"choices":[{"delta":{"content":[{"type":[]}]}}]}\n\ndata: {"choices":[{"finish_reason":"stop"}]}', [], []
)
@example(
    b'data: {"choices":[{"delta":{"function_call":{"name":"f","arguments":"0"}}}]}\n\n'
    b'data: {"choices":[{"delta":{"content":"0","function_call":{"arguments":"0"}},"finish_reason":"stop"}]}',
    [],
    [],
)
def test_any_answer_is_read_or_refused(body: bytes, first: list[int], second: list[int]) -> None:
    check(body, first, second)


def test_names_that_are_no_strings_are_no_errors() -> None:
    """Annotations and items are kept as an upstream sent them, and read again with every answer that shows them."""
    odd: dict[str, Any] = {"type": ["file_citation"], "file_id": "file_1", "call_id": ["a"], "status": ["completed"]}
    assert write_annotation(odd) is None
    assert close_item(odd, "incomplete")["status"] == "failed"
    assert _without_loose_ends([odd]) == [odd]
