"""kill -9 and SIGSTOP among replicas: the short form of `tests.replica_campaign`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from chatapi.simulator import Simulator
from tests.replica_campaign import SLEEP_EVERY, Campaign

ROUNDS = 4
STREAMS = 24  # in each round; the campaign has twice as many


def test_a_killed_or_paused_replica_loses_no_byte_and_no_session(
    simulator: Simulator, tmp_path: Path, figures: Callable[[str], None]
) -> None:
    # Promises 1, 3, 5 and 6, across replicas.
    campaign = Campaign(tmp_path, simulator, streams=STREAMS)
    for _ in range(ROUNDS):
        campaign.round()
    campaign.end()
    figures(campaign.figures())
    assert not campaign.losses
    assert campaign.rounds["sleep"] == ROUNDS // SLEEP_EVERY
    assert campaign.outcomes["streams"] == ROUNDS * STREAMS
    assert campaign.outcomes["resumed"] > ROUNDS * STREAMS / 10, "many streams must be killed in the middle"
    assert campaign.outcomes["taken over from a sleeper"] > ROUNDS
