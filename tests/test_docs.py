"""The documents say what is true: every setting, route, error code and name in them is held to the code."""

from __future__ import annotations

import json
import re

import pytest

from chatapi.errors import every_error
from chatapi.settings import Settings, variable_name
from scripts.reference import reference
from tests.contract import document
from tests.prose import files, prose, prose_and_more, whole
from tests.server_process import PROJECT, Service

HTTP = (PROJECT / "docs/http.md").read_text()
SETTINGS = (PROJECT / "docs/settings.md").read_text()
ARCHITECTURE = (PROJECT / "ARCHITECTURE.md").read_text()
SCALING = (PROJECT / "docs/scaling.md").read_text()
COMPOSE = (PROJECT / "compose.yaml").read_text()
BALANCER = (PROJECT / "deploy/haproxy.cfg").read_text()


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_setting_is_documented_with_its_default(field: str) -> None:
    info = Settings.model_fields[field]
    default = "" if info.default in {None, ""} else f"`{info.default}`"
    assert f"| `{variable_name(field)}` | {default} | {info.description} |" in SETTINGS


def test_no_setting_is_documented_that_is_not_there() -> None:
    documented = set(re.findall(r"^\| `(\w+)` \|", SETTINGS, re.MULTILINE))
    assert documented == {variable_name(field) for field in Settings.model_fields}


def test_every_error_code_is_documented_with_its_status() -> None:
    documented = dict(re.findall(r"^\| `(\w+)` \| (\d{3}) \|", HTTP, re.MULTILINE))
    assert documented == {error.code: str(error.status) for error in every_error()}


def test_every_route_is_documented() -> None:
    routes = {f"{method.upper()} {path}" for path, methods in document()["paths"].items() for method in methods}
    assert set(re.findall(r"^## ((?:GET|POST|PATCH|DELETE) \S+)$", HTTP, re.MULTILINE)) == routes


def test_the_reference_is_made_from_the_openapi_document() -> None:
    assert reference() == HTTP, "run `python -m scripts.reference`"


def test_the_reference_names_the_types_that_a_field_can_have() -> None:
    assert "| `attachments` | list of ImageAttachment or FileAttachment or null |" in HTTP
    assert "| `match` | list of integer, required |" in HTTP
    for name in ("ImageAttachment", "FileAttachment"):
        assert f"\n**{name}.** " in HTTP


@pytest.mark.one_process("the page is the same on any of them")
def test_the_reference_page_is_whole_and_needs_nothing_from_elsewhere(shared: Service) -> None:
    page = shared.get("/docs")
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "'unsafe" not in page.headers["Content-Security-Policy"]
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page.text)
    for error in every_error():
        assert f'id="{error.code}"' in page.text
    for path in shared.get("/openapi.json").json()["paths"]:
        assert path in page.text


SOURCES = {
    file: file.read_text()
    for file in (PROJECT / "chatapi").rglob("*.*")
    if file.suffix in {".py", ".js"} and not {"simulator", "vendor"} & set(file.parts)
}


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?:\w+\.)+[A-Za-z_]\w*)`", ARCHITECTURE))))
def test_every_name_in_the_architecture_exists(name: str) -> None:
    *holders, last = name.split(".")
    if last in {"py", "js"}:
        assert name in {path.name for path in (*SOURCES, *(PROJECT / "tests").glob("*.py"))}, name
        return
    holder = holders[-1]
    homes = [
        text for file, text in SOURCES.items() if holder in (file.stem, file.parent.name) or f"class {holder}" in text
    ]
    assert any(re.search(rf"(?:def |class |self\.|async |^ *){last}\b", text, re.MULTILINE) for text in homes), name


def test_the_tests_that_the_architecture_names_exist() -> None:
    for name in set(re.findall(r"`(test_\w+\.py)`", ARCHITECTURE)):
        assert (PROJECT / "tests" / name).exists(), name


def test_links_between_the_documents_lead_somewhere() -> None:
    for page in [*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"


DEPLOYMENT = [
    "compose.yaml",
    "Dockerfile",
    ".env.example",
    "deploy/Caddyfile",
    "deploy/chatapi.service",
    "deploy/compose.single.yaml",
    "deploy/haproxy.cfg",
    "deploy/kubernetes/chatapi.yaml",
    "deploy/prometheus/prometheus.yaml",
    "deploy/traefik.yaml",
    "deploy/nginx.conf",
    "README.md",
    "SECURITY.md",
    "docs/scaling.md",
    "docs/operating.md",
    "docs/metrics.md",
]
RESERVED = 3  # of PostgreSQL's connections, by default, for superusers


@pytest.mark.parametrize("name", DEPLOYMENT)
def test_the_settings_that_a_deployment_names_are_there_with_the_defaults_that_it_tells(name: str) -> None:
    text = (PROJECT / name).read_text()
    fields = {variable_name(field): info for field, info in Settings.model_fields.items()}
    for variable, told in re.findall(r"\b(CHATAPI_[A-Z_]+)`?(?: \((\d+)\))?", text):
        assert variable in fields, variable
        if told:
            assert float(told) == fields[variable].default, variable


def test_the_arithmetic_of_connections_is_that_of_the_settings() -> None:
    counted = re.search(r"With the default of (\d+) that is (\d+) for each replica", SCALING)
    assert counted
    default = Settings.model_fields["database_connections"].default
    assert (int(counted[1]), int(counted[2])) == (default, 1.5 * default + 2)
    for word, replicas, connections in (("six replicas", 6, 100), ("fourteen", 14, 200)):
        assert word in SCALING
        assert (connections - RESERVED - 1) // int(counted[2]) == replicas
    assert "max_connections=200" in COMPOSE


def test_a_deployment_has_no_secret_of_its_own() -> None:
    for name in ("CHATAPI_SECRET", "POSTGRES_PASSWORD"):
        uses = re.findall(rf"\$\{{{name}(.*?)\}}", COMPOSE)
        assert uses
        assert all(use.startswith(":?Set ") for use in uses), "unset, it must stop with a sentence"
        assert f"{name}=\n" in (PROJECT / ".env.example").read_text()
        assert name not in (PROJECT / "Dockerfile").read_text()
    assert ".env" in (PROJECT / ".gitignore").read_text().split()


def test_the_image_is_made_of_what_is_named_and_nothing_else() -> None:
    copied = re.findall(r"^COPY (\S+) ", (PROJECT / "Dockerfile").read_text(), re.MULTILINE)
    everything, *named = [
        line
        for line in (PROJECT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith(("#", "**"))
    ]
    assert everything == "*"
    assert {f"!{path.rstrip('/')}" for path in copied} == set(named)
    assert all((PROJECT / path).exists() for path in copied)


def test_the_balancer_refuses_as_the_service_does() -> None:
    found = re.search(r"http-error status (\d+) content-type (\S+) hdr Retry-After 1 string '(.*)'", BALANCER)
    assert found
    body = json.loads(found[3])
    statuses = {error.code: error.status for error in every_error()}
    assert found[2] == "application/problem+json"
    assert int(found[1]) == body["status"] == statuses[body["code"]]


def test_probes_ask_for_paths_that_exist_and_a_pod_has_time_to_drain() -> None:
    paths = set(document()["paths"])
    manifest = (PROJECT / "deploy/kubernetes/chatapi.yaml").read_text()
    probes = re.findall(r"httpGet: \{path: (\S+), port: http\}", manifest)
    assert probes == ["/livez", "/livez", "/readyz"]
    others = [
        re.findall(pattern, (PROJECT / name).read_text())
        for name, pattern in (
            ("deploy/traefik.yaml", r"path: (/\S+)"),
            ("deploy/haproxy.cfg", r"meth GET uri (\S+)"),
            ("Dockerfile", r"\]\}(/\w+)"),
        )
    ]
    assert others == [["/readyz"]] * 3
    assert {*probes, "/readyz"} <= paths
    (grace,) = re.findall(r"terminationGracePeriodSeconds: (\d+)", manifest)
    (pause,) = re.findall(r'command: \[sleep, "(\d+)"\]', manifest)
    assert float(grace) >= float(pause) + Settings().drain_seconds + 20


# The language of comments, docstrings, messages and documents. A limit is a number of uses per 1,000 words; one use in
# a file is always accepted.
BUDGETS = {r"what|whatever": 2, r"told|said": 1}
NEVER = re.compile(r"\b(whoever|nobody|somebody|anew|no longer what)\b", re.IGNORECASE)


def uses(pattern: str, text: str) -> int:
    return len(re.findall(rf"\b(?:{pattern})\b", text, re.IGNORECASE))


def excess(name: str) -> list[str]:
    """Return a sentence for each limit that a file exceeds."""
    for find in (whole, prose_and_more, prose):
        text = find(name)
        if not NEVER.search(text) and all(uses(pattern, text) <= 1 for pattern in BUDGETS):
            return []
    words = len(re.findall(r"[A-Za-z][A-Za-z'-]*", text))
    found = [f"{word}: use another word" for word in sorted(set(NEVER.findall(text)))]
    for pattern, limit in BUDGETS.items():
        used = uses(pattern, text)
        if used > 1 and used * 1000 >= limit * words:
            found.append(f"{pattern}: {used} times in {words} words")
    return found


def test_the_language_stays_within_its_budget() -> None:
    assert not {name: found for name in files() if (found := excess(name))}


def test_the_files_that_the_guide_for_contributors_names_exist() -> None:
    text = (PROJECT / "CONTRIBUTING.md").read_text()
    for path in re.findall(r"`((?:tests|chatapi|docs|scripts)/[\w/.]+)`", text):
        assert (PROJECT / path).exists(), path
    for name in ("GET_PRICES", "TurnRequest", "LogResponse", "authorize", "Generations.send"):
        assert f"`{name}`" in text
        assert any(name.rpartition(".")[2] in source for source in SOURCES.values()), name
