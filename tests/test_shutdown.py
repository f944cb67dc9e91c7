"""SIGTERM: readiness ends first, running answers get their time, the rest is stored, and then the process ends."""

from __future__ import annotations

import itertools
import signal
import subprocess
import time
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
import requests

from chatapi.simulator import Gate, Simulator, scripts
from tests.database_view import SQLiteFile
from tests.reader import EVENTS, Reader
from tests.server_process import Serve, Service

pytestmark = pytest.mark.one_process("it is about the end of a process")

LONG_DRAIN = "60"  # seconds, longer than a test: only a drain that ends early passes
SHORT_DRAIN = "0.5"
BETWEEN_SIGNALS_SECONDS = 0.005
SOON_SECONDS = 15.0  # much less than a long drain


def draining(service: Service) -> Service:
    """Send the first SIGTERM, and wait until the server drains."""
    service.signal(signal.SIGTERM)
    service.wait_for_log("draining")
    return service


def test_a_running_answer_completes_and_new_ones_are_refused(serve: Serve, simulator: Simulator) -> None:
    gate = Gate()
    simulator.script = scripts.held(gate)
    service = serve(CHATAPI_DRAIN_SECONDS=LONG_DRAIN)
    readers = [Reader.chat(service, headers=headers) for headers in ({}, EVENTS)]
    for reader in readers:
        reader.read_until("Hello")
    idle = requests.Session()  # its connection stays open, and must not delay the end
    assert idle.get(f"{service.url}/api/health").json()["status"] == "ok"

    draining(service)
    health = service.get("/api/health")
    assert (health.status_code, health.json()["status"]) == (503, "draining")
    readiness = service.get("/readyz")
    assert (readiness.status_code, readiness.json()["draining"]) == (503, True)
    assert int(readiness.headers["Retry-After"]) >= 1
    assert service.get("/livez").status_code == 200, "a supervisor must not kill a server that drains"
    refused = service.send()
    assert (refused.status_code, refused.json()["code"]) == (503, "draining")
    assert int(refused.headers["Retry-After"]) >= 1
    late = Reader.resume(service, readers[0].session_id)
    assert service.get(f"/api/sessions/{readers[0].session_id}").status_code == 200, "reading works to the end"
    assert len(simulator.requests) == 2

    gate.open()
    begun = time.monotonic()
    assert readers[0].read_all() == late.read_all() == b"Hello there."
    readers[1].read_all()
    assert readers[1].events()[-1][0] == "done"
    assert all(reader.ended for reader in (*readers, late))
    assert service.wait() == 0
    assert time.monotonic() - begun < SOON_SECONDS
    idle.close()
    assert [service.database.answer(reader.generation_id).status for reader in readers] == ["completed"] * 2


@pytest.mark.parametrize("hurry", [signal.SIGTERM, signal.SIGINT, None])
def test_an_answer_that_still_runs_is_interrupted_and_stored(
    serve: Serve, simulator: Simulator, hurry: signal.Signals | None
) -> None:
    simulator.script = scripts.held(Gate(), before="Grüße, 東京")
    service = serve(CHATAPI_DRAIN_SECONDS=LONG_DRAIN if hurry else SHORT_DRAIN)
    text, told = Reader.chat(service), Reader.chat(service, headers=EVENTS)
    for reader in (text, told):
        reader.read_until("東京")

    begun = time.monotonic()
    draining(service)
    if hurry:
        service.signal(hurry)  # a second signal ends the drain
    assert text.read_all().decode() == "Grüße, 東京"
    assert not text.ended, "a plain-text reader sees a cut"
    told.read_all()
    name, _, data = told.events()[-1]
    assert (name, data["code"], data["status"], told.ended) == ("error", "interrupted", "interrupted", True)
    assert service.wait() == 0
    assert time.monotonic() - begun < SOON_SECONDS
    if not hurry:
        assert time.monotonic() - begun > float(SHORT_DRAIN), "they had their time"
    assert all(request.left.wait(5) for request in simulator.requests), "the upstream connection is closed"
    for reader in (text, told):
        stored = service.database.answer(reader.generation_id)
        assert (stored.status, stored.text) == ("interrupted", "Grüße, 東京")


def test_many_signals_cut_no_write(service: Service) -> None:
    assert service.send().content
    with service.database.locked():  # closing the file waits for that
        for number in itertools.cycle([signal.SIGTERM, signal.SIGINT]):
            service.signal(number)
            with suppress(subprocess.TimeoutExpired):
                assert service.wait(BETWEEN_SIGNALS_SECONDS) == 0
                break
    assert any('"event":"stopped"' in line for line in service.log)


def test_the_end_leaves_a_whole_file_and_a_free_port(service: Service, simulator: Simulator) -> None:
    session_id = service.send().headers["X-Session-ID"]
    port = urlsplit(service.url).port
    service.signal(signal.SIGINT)
    assert service.wait() == 0
    database = SQLiteFile(service.environment["DATABASE_URL"])
    assert not database.path.with_name("chat.db-wal").exists(), "everything is in the one file"
    assert database.rows("PRAGMA integrity_check") == [("ok",)]
    service.environment["PORT"] = str(port)
    service.start()
    assert service.send(session_id=session_id).status_code == 200
    assert len(service.messages(session_id)) == 4
