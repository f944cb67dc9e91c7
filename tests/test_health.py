"""Health checks: what supervisors and balancers ask, and that it depends on nothing else."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import requests

from chatapi.simulator import Simulator, scripts
from tests.server_process import Service

NO_TOKENS = {"Authorization": "Basic dXNlcjpwYXNzd29yZA==", "Host": "10.1.2.3:8000"}  # as probes of clusters send


def test_a_ready_server_says_so_without_a_key_and_also_to_head(shared: Service) -> None:
    readiness = shared.get("/readyz")
    assert readiness.status_code == 200
    body = readiness.json()
    assert (body["status"], body["store"], body["draining"]) == ("ready", "ok", False)
    assert shared.get("/livez").json() == {"status": "alive"}
    for path in ("/livez", "/readyz"):
        assert shared.get(path, headers=NO_TOKENS).status_code == 200
        head = requests.head(shared.url + path, timeout=10)
        assert (head.status_code, head.content) == (200, b"")


@pytest.mark.one_process("each replica shows its own")
def test_readiness_shows_the_last_success_of_the_model_api(service: Service, simulator: Simulator) -> None:
    assert service.get("/readyz").json()["last_upstream_success"] is None
    simulator.script = scripts.refuse(500)
    assert service.send().status_code == 503
    readiness = service.get("/readyz")
    assert readiness.status_code == 200, "an outage of the model API makes no server unready"
    assert readiness.json()["last_upstream_success"] is None
    simulator.script = None
    before = datetime.now(UTC)
    assert service.send().text
    succeeded_at = datetime.fromisoformat(service.get("/readyz").json()["last_upstream_success"])
    assert before <= succeeded_at <= datetime.now(UTC)
