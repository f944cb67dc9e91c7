"""Generated answers of an upstream: none is an internal error, and none looks complete that is not."""

from __future__ import annotations

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.upstream_fuzz import bodies, check

cuts = st.lists(st.integers(0), max_size=4)


@settings(deadline=None, derandomize=True, max_examples=150, suppress_health_check=list(HealthCheck))
@given(bodies, cuts, cuts)
@example(b'data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]}', [], [3])
def test_any_answer_is_read_or_refused(body: bytes, first: list[int], second: list[int]) -> None:
    check(body, first, second)
