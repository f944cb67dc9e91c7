"""A moment of the soak campaign: mixed load leaves neither answers nor files open. The command runs it for minutes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chatapi.simulator import Simulator, running
from tests.server_process import Serve
from tests.soak_campaign import PACE_SECONDS, Soak

MINUTES = 0.03


@pytest.mark.one_process("it is about the memory and the files of one process")
def test_mixed_load_leaves_nothing_open(serve: Serve, figures: Callable[[str], None]) -> None:
    with running(Simulator(pace_seconds=PACE_SECONDS)) as upstream:
        soak = Soak(serve(upstream_url=upstream.url, CHATAPI_RATE_LIMIT="0", CHATAPI_METRICS="on"))
        soak.run(MINUTES, seed=0)
    figures(soak.figures())
    assert soak.losses == []
