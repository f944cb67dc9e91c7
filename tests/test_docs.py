"""The documents say what is true: every setting, route, error code and name in them is held to the code."""

from __future__ import annotations

import re

import pytest

from chatapi.app import create_app
from chatapi.errors import every_error
from chatapi.settings import Settings, variable_name
from tests.service import PROJECT, Service

HTTP = (PROJECT / "docs/http.md").read_text()
SETTINGS = (PROJECT / "docs/settings.md").read_text()
ARCHITECTURE = (PROJECT / "ARCHITECTURE.md").read_text()


@pytest.mark.parametrize("field", Settings.model_fields)
def test_every_setting_is_documented_with_its_default(field: str) -> None:
    info = Settings.model_fields[field]
    default = "" if info.default is None else f"`{info.default}`"
    assert f"| `{variable_name(field)}` | {default} | {info.description} |" in SETTINGS


def test_no_setting_is_documented_that_is_not_there() -> None:
    documented = set(re.findall(r"^\| `(\w+)` \|", SETTINGS, re.MULTILINE))
    assert documented == {variable_name(field) for field in Settings.model_fields}


def test_every_error_code_is_documented_with_its_status() -> None:
    documented = dict(re.findall(r"^\| `(\w+)` \| (\d{3}) \|", HTTP, re.MULTILINE))
    assert documented == {error.code: str(error.status) for error in every_error()}


def test_every_route_is_documented() -> None:
    document = create_app(Settings()).openapi()
    routes = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    assert set(re.findall(r"^## ((?:GET|POST|PATCH|DELETE) \S+)$", HTTP, re.MULTILINE)) == routes


def test_every_field_of_a_route_is_documented() -> None:
    document = create_app(Settings()).openapi()
    for methods in document["paths"].values():
        for operation in methods.values():
            for body in operation.get("requestBody", {}).get("content", {}).values():
                for field in body["schema"]["properties"]:
                    assert f"`{field}`" in HTTP or f'"{field}"' in HTTP, field


def test_the_reference_page_is_whole_and_needs_nothing_from_elsewhere(shared: Service) -> None:
    page = shared.get("/docs")
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "<script" not in page.text
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page.text)
    for error in every_error():
        assert f'id="{error.code}"' in page.text
    for path in shared.get("/openapi.json").json()["paths"]:
        assert path in page.text


SOURCES = {file: file.read_text() for file in (PROJECT / "chatapi").rglob("*.py") if "simulator" not in file.parts}


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`((?:\w+\.)+[A-Za-z_]\w*)`", ARCHITECTURE))))
def test_every_name_in_the_architecture_exists(name: str) -> None:
    *holders, last = name.split(".")
    if last == "py":
        assert any(path.name == name for path in PROJECT.rglob("*.py")), name
        return
    holder = holders[-1]
    homes = [text for file, text in SOURCES.items() if file.stem == holder or f"class {holder}" in text]
    assert any(re.search(rf"(?:def |class |self\.|^ *){last}\b", text, re.MULTILINE) for text in homes), name


def test_the_tests_that_the_architecture_names_exist() -> None:
    for name in set(re.findall(r"`(test_\w+\.py)`", ARCHITECTURE)):
        assert (PROJECT / "tests" / name).exists(), name


def test_links_between_the_documents_lead_somewhere() -> None:
    for document in [*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert target.startswith("http") or (document.parent / target).exists(), f"{document.name}: {target}"
