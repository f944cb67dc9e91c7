"""kill -9 in mid-stream: the short form of `tests.kill_campaign`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from chatapi.simulator import Simulator
from tests.kill_campaign import Campaign

ROUNDS = 12
RECOVERY_SECONDS = 1.0  # that a start after a kill may take longer than one with nothing to look through


def test_a_killed_server_has_lost_nothing_that_was_shown(
    simulator: Simulator, tmp_path: Path, figures: Callable[[str], None]
) -> None:
    # Promises 1, 2 and 6.
    campaign = Campaign(tmp_path, simulator)
    for _ in range(ROUNDS):
        campaign.round()
    campaign.end()
    figures(campaign.figures())
    assert not campaign.losses
    assert campaign.outcomes["cut"] > ROUNDS, "most streams are to be killed in the middle"
    recovery = min(campaign.ready_seconds) - campaign.first_start_seconds
    assert recovery < RECOVERY_SECONDS  # the least, and not by the clock alone: others are busy on the same machine
