"""Generated responses: valid ones in any pieces, cut-off ones, and others with changed bytes."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.http_client_fuzz import Sample, changes, check_changed, check_truncated, check_valid, samples

cuts = st.lists(st.integers(0), max_size=4)
briefly = settings(deadline=None, derandomize=True, max_examples=150, suppress_health_check=list(HealthCheck))


@briefly
@given(samples(), cuts)
def test_a_valid_response_is_read_in_any_pieces(sample: Sample, where: list[int]) -> None:
    check_valid(sample, where)


@briefly
@given(samples(), st.integers(0), cuts)
def test_a_response_that_is_cut_off_is_never_complete(sample: Sample, length: int, where: list[int]) -> None:
    check_truncated(sample, length, where)


@briefly
@given(samples(), changes, cuts)
def test_a_changed_response_is_read_as_another_parser_reads_it_or_is_an_error(
    sample: Sample, edits: list[tuple[int, str, bytes]], where: list[int]
) -> None:
    check_changed(sample, edits, where)
