"""Metrics: sums equal what clients counted, labels are bounded, and the settings protect them."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from chatapi.metrics import Metrics, ModelLabels
from chatapi.metrics.exposition import expose
from chatapi.metrics.models import MAX_MODELS
from chatapi.model import Generation, Microseconds, Status, Usage
from chatapi.simulator import Gate, Simulator, scripts
from tests.cluster import Cluster
from tests.reader import Reader
from tests.server_process import PROJECT, Serve, Service, fresh_key, run_command

TOKEN = "a-token-of-the-operators"
PRICES = {"as_of": "2026-01-01", "currency": "USD", "models": {"gpt-4.1-mini": {"input": 1.0, "output": 2.0}}}
Sample = tuple[str, frozenset[tuple[str, str]]]


def scrape(service: Service) -> Counter[Sample]:
    """Return the samples of all processes, added up."""
    found: Counter[Sample] = Counter()
    for process in service.replicas if isinstance(service, Cluster) else [service]:
        answer = process.get("/metrics")
        assert answer.status_code == 200, answer.text
        for name, labels, value in samples(answer.text):
            found[name, labels] += value  # type: ignore[assignment]
    return found


def samples(text: str) -> Iterator[tuple[str, frozenset[tuple[str, str]], float]]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield sample.name, frozenset(sample.labels.items()), sample.value


def total(found: Counter[Sample], name: str, **labels: str) -> float:
    """Return the sum of the samples with this name and these labels."""
    return sum(value for (one, has), value in found.items() if one == name and labels.items() <= dict(has).items())


def test_the_sums_are_those_that_clients_counted(serve: Serve, simulator: Simulator, tmp_path: Path) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps(PRICES))
    service = serve(CHATAPI_METRICS="on", CHATAPI_PRICES=str(prices))
    key = fresh_key("sums")
    answers = 5
    for number in range(answers):
        once = {"Idempotency-Key": f"once-{number}"}
        first = service.send(key=key, headers=once)
        again = service.send(key=key, headers=once)
        assert first.content == again.content
    session_id = first.headers["X-Session-ID"]
    bearer = {"Authorization": f"Bearer {key}"}
    assert Reader.resume(service, session_id, 5, headers=bearer).read_all() == first.content[5:]

    gate = Gate()
    simulator.script = scripts.held(gate)
    stopped = Reader.chat(service, key=key)
    stopped.read_until("Hello")
    assert service.post(f"/api/chat/{stopped.session_id}/stop", key=key).status_code == 200
    gate.open()
    simulator.script = scripts.refuse(404, code="model_not_found")
    for number in range(3):
        assert service.send(key=key, model=f"invented-{number}").status_code == 404
    simulator.script = scripts.in_turn(scripts.cut_before_headers(), None)
    assert service.send(key=key).content
    simulator.script = scripts.cut_after()
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        service.send(key=key).content  # noqa: B018
    for _ in range(2):
        assert service.get("/api/sessions/ses_unknown", key=key).status_code == 404
        assert service.get("/api/invented").status_code == 404

    found = scrape(service)
    usage = service.get("/api/usage", key=key).json()
    assert total(found, "chatapi_answers_total", status="completed") == answers + 1
    assert total(found, "chatapi_answers_total", status="stopped") == 1
    assert total(found, "chatapi_answers_total", status="failed") == 4
    assert total(found, "chatapi_answers_total", model="other") == 3, "a name that a caller invents is not a label"
    assert total(found, "chatapi_answer_failures_total", code="model_not_found") == 3
    assert total(found, "chatapi_answer_failures_total", code="upstream_broken") == 1
    assert total(found, "chatapi_first_text_seconds_count") == answers + 3
    assert total(found, "chatapi_replays_total") == 5
    assert total(found, "chatapi_resumes_total") == 1
    assert total(found, "chatapi_upstream_requests_total") == len(simulator.requests)
    assert total(found, "chatapi_upstream_requests_total", outcome="upstream_unavailable") == 1
    assert total(found, "chatapi_upstream_retries_total") == 1
    assert total(found, "chatapi_http_requests_total", route="/api/chat") == 5 * 2 + 1 + 3 + 2
    assert total(found, "chatapi_http_requests_total", route="unmatched", status="404") == 2
    assert total(found, "chatapi_rejected_requests_total", code="session_not_found") == 2
    assert total(found, "chatapi_rejected_requests_total", code="model_not_found") == 3
    for kind in ("input", "output"):
        counted = sum(model[f"{kind}_tokens"] for model in usage["data"])
        assert total(found, "chatapi_tokens_total", kind=kind) == counted > 0
    spent = sum(model["cost"] for model in usage["data"] if model["cost"] is not None)
    assert total(found, "chatapi_cost_total", currency="USD") == pytest.approx(spent)
    assert total(found, "chatapi_store_commits_total", outcome="failed") == 0
    assert total(found, "chatapi_store_commit_seconds_count") == total(found, "chatapi_store_commits_total") > 0
    assert total(found, "chatapi_running_answers") == total(found, "chatapi_draining") == 0
    assert key not in str(found)


@pytest.mark.one_process("about one process")
def test_a_port_and_a_token_of_their_own(serve: Serve) -> None:
    service = serve(CHATAPI_METRICS="on", CHATAPI_METRICS_PORT="0", CHATAPI_METRICS_TOKEN=TOKEN)
    port = service.wait_for_log("serving metrics")["port"]
    url = f"http://127.0.0.1:{port}/metrics"
    assert service.get("/metrics").status_code == 404
    for headers in ({}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": TOKEN}):
        refused = requests.get(url, headers=headers, timeout=10)
        assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
    token = {"Authorization": f"Bearer {TOKEN}"}
    answer = requests.get(url, headers=token, timeout=10)
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "chatapi_client_connections" in answer.text
    assert "chatapi_http_requests_total{" in answer.text, "scrapes of this port are not requests of the API"
    asked = token | {"Accept": "application/openmetrics-text;version=1.0.0"}
    openmetrics = requests.get(url, headers=asked, timeout=10)
    assert openmetrics.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert openmetrics.text.endswith("# EOF\n")
    assert requests.get(url.replace("/metrics", "/api/health"), headers=token, timeout=10).status_code == 404
    handshake = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    handshake["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
    assert requests.get(url.replace("/metrics", "/v1/responses"), headers=handshake, timeout=10).status_code == 403
    assert not [line for line in service.log if '"level":"error"' in line]
    assert TOKEN not in "".join(service.log)


@pytest.mark.one_process("about one process")
def test_the_port_of_the_api_serves_them_only_if_they_are_on_and_not_through_a_proxy_or_a_page(serve: Serve) -> None:
    assert serve().get("/metrics").status_code == 404, "they are off by default"
    service = serve(CHATAPI_METRICS="on")
    assert service.get("/metrics").status_code == 200
    for headers in ({"X-Forwarded-For": "192.0.2.1"}, {"Origin": "https://chat.example"}, {"Host": "rebound.example"}):
        assert service.get("/metrics", headers=headers).status_code == 404
    with_token = serve(CHATAPI_METRICS="on", CHATAPI_METRICS_TOKEN=TOKEN)
    forwarded = {"X-Forwarded-For": "192.0.2.1"}
    assert with_token.get("/metrics", headers=forwarded).json()["code"] == "metrics_token_required"
    token = forwarded | {"Authorization": f"Bearer {TOKEN}"}
    assert with_token.get("/metrics", headers=token).status_code == 200


def test_a_taken_port_of_the_metrics_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        settings = {"PORT": "0", "CHATAPI_METRICS": "on", "CHATAPI_METRICS_PORT": port}
        done = run_command(cwd=tmp_path, settings=settings)
    assert done.returncode == 2
    assert f"CHATAPI_METRICS_PORT: another program uses port {port}" in done.stderr


# In this process


def ended(model: str) -> Generation:
    usage = Usage(1, 1)
    times = Microseconds(1), Microseconds(2), Microseconds(3)
    return Generation("g", "s", "m", Status.COMPLETED, model, "chat", *times, length=1, usage=usage)


def test_callers_cannot_create_labels() -> None:
    metrics = Metrics(ModelLabels(["known"], lambda name: name.replace("secret", "…")))
    for number in range(1000):
        metrics.answer_ended(ended(f"invented-{number}"))
        metrics.request_ended(f"METHOD{number}", "", 405, 0.1, "method_not_allowed")
    for name in ("secret-model", "line\nbreak", "", "x" * 1000):
        metrics.upstream_responded(name)
    for number in range(1000):
        metrics.upstream_responded(f"served-{number}")
        metrics.answer_ended(ended(f"served-{number}"))
    body, _ = expose(metrics.snapshot(), "")
    assert b"secret" not in body
    models = {dict(labels).get("model") for _, labels, _ in samples(body.decode())} - {None}
    assert "other" in models
    assert len(models) <= MAX_MODELS + 1
    assert len(body.splitlines()) < 2500


def test_the_buckets_of_a_histogram_add_up() -> None:
    metrics = Metrics()
    for seconds in (0.0005, 0.003, 0.003, 99.0):
        metrics.committed(seconds, 1, 2)
    text = expose(metrics.snapshot(), "")[0].decode()
    found = Counter({(name, labels): value for name, labels, value in samples(text)})
    bucket = "chatapi_store_commit_seconds_bucket"
    counts = [total(found, bucket, le=bound) for bound in ("0.0005", "0.001", "0.0025", "0.005", "10.0", "+Inf")]
    assert counts == [1, 1, 1, 3, 3, 4]
    assert total(found, "chatapi_store_commit_seconds_sum") == pytest.approx(99.0065)
    assert total(found, "chatapi_store_committed_total", kind="text") == 8


# The files in deploy/ and the documents


def names_in(texts: Iterable[str]) -> set[str]:
    return {name for text in texts for name in re.findall(r"\bchatapi_[a-z_]+", text)}


def exposed_names(service: Service) -> set[str]:
    text = service.get("/metrics").text
    kinds = dict(re.findall(r"^# TYPE (\S+) (\w+)$", text, re.MULTILINE))
    parts = {
        f"{name}_{part}" for name, kind in kinds.items() if kind == "histogram" for part in ("bucket", "sum", "count")
    }
    return set(kinds) | parts


@pytest.mark.one_process("about files")
def test_rules_dashboard_and_document_name_the_metrics_that_exist(serve: Serve) -> None:
    service = serve(CHATAPI_METRICS="on")
    exposed = exposed_names(service)
    fresh = scrape(service)
    for name, label, value in (
        ("rejected_requests_total", "code", "internal_error"),
        ("rejected_requests_total", "code", "overloaded"),
        ("store_commits_total", "outcome", "failed"),
        ("journal_sync_failures_total", "", ""),
    ):
        sample = f"chatapi_{name}", frozenset({(label, value)} if label else ())
        assert fresh.get(sample) == 0, "a rate sees the first event only if there is a value before it"
    rules = (PROJECT / "deploy/prometheus/rules.yaml").read_text()
    dashboard = json.loads((PROJECT / "deploy/grafana/dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    document = (PROJECT / "docs/metrics.md").read_text()
    assert names_in([rules, *expressions]) <= exposed
    described = set(re.findall(r"^\| `(chatapi_\w+)` \|", document, re.MULTILINE))
    assert described == {name for name in exposed if name.startswith("chatapi_")} - {
        name for name in exposed if name.endswith(("_bucket", "_sum", "_count"))
    }
    labels = dict(re.findall(r"^\| `(chatapi_\w+)` \| (.*?) \|", document, re.MULTILINE))
    for expression in expressions + re.findall(r"expr: (?:>-\n)?((?:.|\n)*?)\n +(?:for|labels):", rules):
        for name, matchers in re.findall(r"(chatapi_[a-z_]+)\{([^}]*)\}", expression):
            family = re.sub("_(?:bucket|sum|count)$", "", name)
            for label in set(re.findall(r"(\w+)=", matchers)) - {"job", "instance", "le"}:
                assert f"`{label}`" in labels[family], f"{name} has no label {label}"


PROMTOOL = shutil.which("promtool")


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed; on Debian: apt install prometheus")
def test_every_rule_fires_on_its_fault_and_none_in_an_hour_of_normal_load() -> None:
    rules = (PROJECT / "deploy/prometheus/rules.yaml").read_text()
    cases = PROJECT / "tests/data/prometheus/rules.test.yaml"
    for alert in re.findall(r"alert: (\w+)", rules):
        fires = (
            rf'alertname="{alert}",alertstate="firing"}}\) or vector\(0\)\', eval_time: \S+, exp_samples: \[.*value: 1'
        )
        assert re.search(fires, cases.read_text()), f"no case makes {alert} fire"
    for arguments in (
        ["check", "config", "--syntax-only", "deploy/prometheus/prometheus.yaml"],
        ["check", "rules", "deploy/prometheus/rules.yaml"],
        ["test", "rules", str(cases)],
    ):
        assert PROMTOOL is not None
        done = subprocess.run([PROMTOOL, *arguments], cwd=PROJECT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
