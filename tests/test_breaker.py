"""The circuit breaker of one upstream, on a clock that the test moves."""

from __future__ import annotations

import pytest

from chatapi.upstream.routing.breaker import FAILURES, MOST_OPEN_SECONDS, OPEN_SECONDS, Breaker, State


class Clock:
    """A time that only the test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(clock)
    assert [breaker.fail() for _ in range(FAILURES) if breaker.enter()] == [False] * (FAILURES - 1) + [True]
    return breaker


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not(clock: Clock) -> None:
    breaker = Breaker(clock)
    for _ in range(3):
        for _ in range(FAILURES - 1):
            breaker.fail()
        assert breaker.state is State.CLOSED
        assert not breaker.succeed()
    breaker = opened(clock)
    assert breaker.state is State.OPEN
    assert breaker.wait_seconds == OPEN_SECONDS
    clock.now += OPEN_SECONDS - 0.1
    assert not breaker.enter()


def test_one_probe_at_a_time_decides(clock: Clock) -> None:
    breaker = opened(clock)
    clock.now += OPEN_SECONDS
    assert breaker.state is State.HALF_OPEN
    assert [breaker.enter(), breaker.is_probing, breaker.enter()] == [True, True, False]
    breaker.leave()  # its client left
    assert breaker.enter()
    assert breaker.succeed()
    assert breaker.wait_seconds == 0
    assert [breaker.enter(), breaker.enter(), breaker.is_probing] == [True, True, False]


def test_each_probe_that_fails_doubles_the_pause_up_to_a_limit(clock: Clock) -> None:
    breaker = opened(clock)
    pauses = []
    for _ in range(6):
        pauses.append(breaker.wait_seconds)
        clock.now += breaker.wait_seconds
        assert breaker.enter()
        assert breaker.fail()
        assert not breaker.enter()
    assert pauses == [OPEN_SECONDS, 30, 60, 120, MOST_OPEN_SECONDS, MOST_OPEN_SECONDS]
    assert not breaker.fail()  # a request from before: the pause is not prolonged
    assert breaker.wait_seconds == MOST_OPEN_SECONDS
