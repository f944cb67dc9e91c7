"""deploy/upstreams.example.toml: loaded as it is, and each of its upstreams driven against the simulator."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chatapi.simulator import ReceivedRequest, Script, Simulator, refuse, running
from chatapi.simulator.demo import Demo
from tests.server_process import KEY, PROJECT, SECRETS, Serve, Service, run_command

pytestmark = pytest.mark.one_process("nothing of it is stored or shared")

EXAMPLE = (PROJECT / "deploy" / "upstreams.example.toml").read_text()
TABLES: dict[str, dict[str, Any]] = tomllib.loads(EXAMPLE)["upstreams"]
KEYS = {one["key_env"]: f"key-for-{one['key_env'].lower()}" for one in TABLES.values() if "key_env" in one}
VENDORS = {"azure", "openrouter", "gemini", "anthropic", "mistral", "deepseek", "vllm-1", "llama-cpp", "ollama"}
DEMO = Demo(0)


def answer_as_a_vendor(request: ReceivedRequest) -> Script:
    """Refuse fields as strict vendors do, and answer any model as the demo does."""
    vendor = str(request.headers.get("X-Vendor"))
    if request.method == "GET":
        key = KEYS.get(TABLES[vendor].get("key_env", ""), "")
        if not any(key in value for value in request.headers.values()):
            return refuse(401)
        return DEMO(replace(request, headers={"Authorization": f"Bearer {KEY}"}))
    rejected = request.body.keys() & set(TABLES[vendor].get("rejected_fields", ()))
    roles = {message["role"] for message in request.body.get("messages", ())}
    if rejected or (TABLES[vendor].get("developer_role") == "system" and "developer" in roles):
        return refuse(422, message=f"Extra inputs are not permitted: {rejected} {roles}")
    body = json.dumps(request.body | {"model": "gpt-4.1-mini"}).encode()
    return DEMO(replace(request, raw=body, headers={"Authorization": f"Bearer {KEY}"}))


@pytest.fixture(scope="module")
def vendors() -> Iterator[Simulator]:
    with running(Simulator(answer_as_a_vendor)) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def settings(vendors: Simulator, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("example")
    text = re.sub(r'(?m)^base_url = ".*"$', f'base_url = "{vendors.url}"', EXAMPLE)
    for name, table in TABLES.items():  # one simulator plays all of them, and has to know which
        headers = "".join(f', {header} = "{value}"' for header, value in table.get("headers", {}).items())
        text = text.replace(
            f"[upstreams.{name}]\n", f'[upstreams.{name}]\nheaders = {{ X-Vendor = "{name}"{headers} }}\n'
        )
    text = re.sub(r"(?m)^headers = \{ (?!X-Vendor).*\n", "", text)
    (folder / "upstreams.toml").write_text(text)
    (folder / "callers.txt").write_text(f"{KEY}\n")
    SECRETS.extend(KEYS.values())
    return {"CHATAPI_UPSTREAMS": str(folder / "upstreams.toml"), **KEYS}


@pytest.fixture(scope="module")
def service(serve_module: Serve, settings: dict[str, str]) -> Service:
    return serve_module(OPENAI_BASE_URL="", CHATAPI_RATE_LIMIT="0", **settings)


def test_the_example_has_each_common_vendor() -> None:
    assert TABLES.keys() >= VENDORS


@pytest.mark.parametrize(
    ("model", "vendor", "name"),
    [
        ("gpt-4.1-mini", "openai", "gpt-4.1-mini"),
        ("large", "azure", "gpt-5-4"),
        ("gpt-5.4-spare", "openrouter", "openai/gpt-5.4"),
        ("openrouter/meta/llama", "openrouter", "meta/llama"),
        ("gemini-flash", "gemini", "gemini-flash-latest"),
        ("claude", "anthropic", "claude-opus-4-6"),
        ("mistral-large", "mistral", "mistral-large-latest"),
        ("deepseek", "deepseek", "deepseek-chat"),
        ("qwen-small", "llama-cpp", "qwen"),
        ("ollama/llama3.2:1b", "ollama", "llama3.2:1b"),
    ],
)
def test_each_vendor_gets_requests_that_it_takes(
    service: Service, vendors: Simulator, model: str, vendor: str, name: str
) -> None:
    before = len(vendors.requests)
    answer = service.send("Hi", model=model, max_completion_tokens=50)
    assert (answer.status_code, answer.headers.get("X-Upstream-Name")) == (200, vendor), answer.text
    (request,) = vendors.requests[before:]  # at once, without a refusal to learn from
    assert request.body["model"] == name
    table = TABLES[vendor]
    expected = {"openai": KEY}.get(vendor, KEYS.get(table.get("key_env", "")))
    header = table.get("key_header", "Authorization")
    sent = request.headers.get(header, "").removeprefix("Bearer ") or None
    assert sent == expected
    assert header == "Authorization" or "Authorization" not in request.headers


def test_equal_machines_share_conversations(service: Service) -> None:
    answering = {service.send(f"Hi {number}", model="qwen").headers["X-Upstream-Name"] for number in range(12)}
    assert answering == {"vllm-1", "vllm-2"}


def test_doctor_checks_each_upstream(settings: dict[str, str], vendors: Simulator, tmp_path: Path) -> None:
    ended = run_command("doctor", cwd=tmp_path, settings=settings)
    for name in TABLES:
        assert f"ok       Model API {name}: it answers" in ended.stdout
    assert ended.stdout.count("it accepts its key") == len(KEYS)
    assert "Model API openai: no end of the default model gpt-4.1-mini is known" in ended.stdout
    assert not [key for key in KEYS.values() if key in ended.stdout]
    vendors.script = refuse(401)
    ended = run_command("doctor", cwd=tmp_path, settings=settings)
    vendors.script = answer_as_a_vendor
    assert ended.returncode == 1
    assert ended.stdout.count("it refuses its key") == len(KEYS)
    assert not [key for key in KEYS.values() if key in ended.stdout]


def test_the_list_of_models_has_those_of_the_file_and_of_the_upstreams(service: Service) -> None:
    models = {one["id"]: one["owned_by"] for one in service.get("/v1/models", key=KEY).json()["data"]}
    assert models["gpt-5.4"] == "azure"  # the default upstream has one of that name, too
    assert {"claude", "qwen", "gpt-4.1", "openrouter/gpt-4.1", "ollama/gpt-4.1"} <= models.keys()
    assert models.keys().isdisjoint({"gpt-5.4-spare", "large"})
    assert service.get("/v1/models/ollama/gpt-4.1", key=KEY).json()["id"] == "ollama/gpt-4.1"
    assert service.get("/v1/models/large", key=KEY).json()["id"] == "large"
