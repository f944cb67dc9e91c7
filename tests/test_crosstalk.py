"""No client receives another's text: the short form of `tests.crosstalk_campaign`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from chatapi.simulator import Simulator
from tests.crosstalk_campaign import OUTAGES, Campaign

SECONDS = 5.0
CUTS = 300
SESSIONS = 64  # more than workers; the campaign has more, which take longer to make and to check


def test_cut_clients_and_restarted_databases_show_no_client_the_text_of_another(
    simulator: Simulator, tmp_path: Path, figures: Callable[[str], None]
) -> None:
    # Promises 4, 5 and 9, across replicas.
    campaign = Campaign(tmp_path, simulator, sessions=SESSIONS)
    try:
        campaign.run(SECONDS, CUTS)
    finally:
        campaign.end()
    figures(campaign.figures())
    assert not campaign.losses
    assert sum(campaign.cuts.values()) >= CUTS
    assert set(campaign.outages) == set(OUTAGES)
