"""The OpenAPI document is valid, complete and usable: examples, generated clients and generated requests."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from fastapi.routing import APIRoute
from openapi_spec_validator import validate

from chatapi.api.ops.openapi import RECORDED, operations_of
from chatapi.app import create_app
from chatapi.settings import Settings
from chatapi.simulator import Simulator
from tests import openapi_campaign
from tests.contract import document
from tests.examples import record, respond
from tests.node_clients import FOLDER, TYPESCRIPT, node
from tests.server_process import KEY, PROJECT, Serve, Service

SECONDS = 120
DOCUMENT = document()
OPERATIONS = {operation["operationId"]: operation for _, _, operation in operations_of(DOCUMENT)}

pytestmark = pytest.mark.one_process("it is about the document, which no deployment changes")


def test_the_document_follows_the_specification() -> None:
    validate(DOCUMENT)


def test_every_operation_is_described_with_its_responses_and_security() -> None:
    for route in create_app(Settings()).routes:
        if isinstance(route, APIRoute) and route.include_in_schema:
            operation = OPERATIONS[route.operation_id or ""]
            assert operation["summary"], route.path
            assert operation["description"], route.path
            assert "security" in operation, route.path
            assert {"500", "503", "429"} <= operation["responses"].keys(), route.path
            for status, response in operation["responses"].items():
                assert response["description"], (route.path, status)
                assert response.get("content") or status == "204", (route.path, status)
            for parameter in operation.get("parameters", ()):
                assert parameter.get("description"), (route.path, parameter["name"])


def _schemas_with_examples() -> Iterator[tuple[str, dict[str, Any], Any]]:
    for name, operation in OPERATIONS.items():
        contents = [operation.get("requestBody", {}), *operation["responses"].values()]
        for content in [one for part in contents for one in part.get("content", {}).values()]:
            for example, value in content.get("examples", {}).items():
                found = (
                    DOCUMENT["components"]["examples"][value["$ref"].rpartition("/")[2]] if "$ref" in value else value
                )
                yield f"{name} {example}", content["schema"], found["value"]


def test_every_example_is_valid() -> None:
    examples = list(_schemas_with_examples())
    assert len(examples) > 100
    registry = jsonschema_rs.Registry([("urn:document", DOCUMENT)], draft=jsonschema_rs.Draft202012)
    for name, schema, value in examples:
        absolute = json.loads(json.dumps(schema).replace('"#/', '"urn:document#/'))
        validator = jsonschema_rs.Draft202012Validator(absolute, registry=registry)
        errors = [error.message for error in validator.iter_errors(value)]
        assert not errors, (name, errors)


def test_the_examples_have_the_documented_responses(serve: Serve, simulator: Simulator, tmp_path: Path) -> None:
    simulator.script = respond
    recorded = record(serve(CHATAPI_RATE_LIMIT="0"), tmp_path)
    assert recorded == json.loads(RECORDED.read_text()), "run `python -m scripts.reference`"


def test_generated_requests_get_documented_responses(serve: Serve, simulator: Simulator, tmp_path: Path) -> None:
    simulator.script = respond
    service = serve(CHATAPI_RATE_LIMIT="0")
    options = ["--phases", "fuzzing", "--max-examples", "2", "--seed", "1", "--generation-deterministic"]
    done = openapi_campaign.run(service.url, tmp_path, *options)
    assert done.returncode == 0, done.stdout


# Generated clients


@pytest.fixture(scope="module")
def home(pytestconfig: pytest.Config) -> Path:
    """A folder for clients that stays: compilers check the files again that have changed since the last run."""
    return pytestconfig.cache.mkdir("openapi-clients")


@pytest.fixture(scope="module")
def document_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("openapi") / "openapi.json"
    file.write_text(json.dumps(DOCUMENT))
    return file


def test_a_generated_python_client_drives_a_server(
    home: Path, document_file: Path, shared: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = home / "generated_client"
    configuration = document_file.with_name("generator.json")
    configuration.write_text('{"post_hooks": []}')  # formatters of the machine must not rewrite the client's types
    arguments = ["generate", "--path", str(document_file), "--config", str(configuration)]
    arguments += ["--meta", "none", "--output-path", str(folder), "--overwrite"]
    generator = Path(sys.executable).with_name("openapi-python-client")
    checker = document_file.with_name("mypy.ini")
    checker.write_text("[mypy]\nfollow_imports = silent\n[mypy-httpx.*]\nfollow_imports = skip\n")  # half of the time
    made = subprocess.run([str(generator), *arguments], capture_output=True, text=True, timeout=SECONDS, check=True)
    assert "Unable to" not in made.stdout + made.stderr
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", f"--config-file={checker}", folder.name],
        cwd=home,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout
    monkeypatch.syspath_prepend(str(home))
    client_module = importlib.import_module("generated_client")
    create = importlib.import_module("generated_client.api.sessions.create_session")
    read = importlib.import_module("generated_client.api.sessions.get_session")
    models = importlib.import_module("generated_client.models")
    with client_module.AuthenticatedClient(base_url=shared.url, token=KEY) as client:
        body = models.SessionBody(developer_message="Be brief.")
        created = create.sync(client=client, body=body)
        assert isinstance(created, models.CreatedSession)
        session = read.sync(created.session_id, client=client)
        assert isinstance(session, models.Session)
        assert session.developer_message == "Be brief."
        missing = read.sync("ses_" + "x" * 32, client=client)
        assert missing is not None
        assert missing.detail == "Session not found"


NOUNS = {"Session", "Message", "Part", "Usage", "Hit", "Config", "Price", "Prices", "UsageRow"}


@pytest.mark.needs_node
def test_generated_typescript_types_compile_and_are_those_of_the_page(home: Path, document_file: Path) -> None:
    types = home / "types.ts"
    packages = FOLDER / "node_modules"
    generate = [node(), str(packages / "openapi-typescript/bin/cli.js"), str(document_file), "-o", str(types)]
    subprocess.run(generate, capture_output=True, timeout=SECONDS, check=True)
    use = home / "use.ts"
    use.write_text(
        'import type { components, operations } from "./types";\n'
        'type Sent = operations["sendMessage"]["responses"][200]["content"]["application/json"];\n'
        "export const text = (answer: Sent): string => answer.text;\n"
        'export const title = (session: components["schemas"]["Session"]): string | null => session.title;\n'
    )
    page = home / "page.d.ts"
    text = (PROJECT / "chatapi/web/types.d.ts").read_text()
    page.write_text(re.sub(r"annotation\?: .*;", "annotation?: unknown;", text))  # the upstream's, of any type
    lines = ['import type { components } from "./types";', 'import type * as page from "./page";']
    for noun in sorted(NOUNS):
        lines.append(f'export const from{noun} = (one: components["schemas"]["{noun}"]): page.{noun} => one;')
    check = home / "check.ts"
    check.write_text("\n".join(lines) + "\n")
    options = ["--noEmit", "--strict", "--target", "es2022", "--skipDefaultLibCheck"]
    compiler = [node(), str(TYPESCRIPT), *options, str(use), str(check)]
    done = subprocess.run(compiler, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout
