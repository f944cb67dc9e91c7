"""kill -9 in mid-stream: the short form of `tests.kill_campaign`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from chatapi.simulator import Simulator
from tests.kill_campaign import Campaign

RECOVERY_SECONDS = 1.0  # that a start after a kill may take longer than the first start


@pytest.mark.parametrize(("workers", "rounds"), [(1, 4), (2, 2)], ids=["one process", "two workers"])
def test_a_killed_server_has_lost_no_byte_that_was_sent(
    simulator: Simulator, tmp_path: Path, figures: Callable[[str], None], workers: int, rounds: int
) -> None:
    # Promises 1, 2 and 6.
    campaign = Campaign(tmp_path, simulator, workers=workers)
    for _ in range(rounds):
        campaign.round()
    campaign.end()
    figures(campaign.figures())
    assert not campaign.losses
    assert campaign.outcomes["cut"] > rounds, "most streams must be killed in the middle"
    recovery = min(campaign.ready_seconds) - campaign.first_start_seconds
    assert recovery < RECOVERY_SECONDS  # the minimum, since other tests slow this machine down
