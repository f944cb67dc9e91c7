"""No client receives another's text: the short form of `tests.crosstalk_campaign`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from chatapi.simulator import Simulator
from tests.crosstalk_campaign import OUTAGES, Campaign

SECONDS = 2.0  # and then until every outage has happened once
CUTS = 300
SESSIONS = 64  # the campaign has more, which take longer to make and to check
WORKERS = 10  # which cut more than so many clients meanwhile
PEACE_SECONDS = 0.4  # between outages


def test_cut_clients_and_restarted_databases_show_no_client_the_text_of_another(
    simulator: Simulator, tmp_path: Path, figures: Callable[[str], None]
) -> None:
    # Promises 4, 5 and 9, across replicas.
    campaign = Campaign(tmp_path, simulator, sessions=SESSIONS, workers=WORKERS, peace_seconds=PEACE_SECONDS)
    try:
        campaign.run(SECONDS, CUTS)
    finally:
        campaign.end()
    figures(campaign.figures())
    assert not campaign.losses
    assert sum(campaign.cuts.values()) >= CUTS
    assert set(campaign.outages) == set(OUTAGES)
