"""The OpenAPI document as a contract: every response that the test client receives is checked against it.

An undocumented status, content type or field fails the test, as does a missing header that is documented as required.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import jsonschema_rs
import requests

from chatapi.api.ops.openapi import make_document, operations_of
from chatapi.app import create_app
from chatapi.settings import Settings

PASSED_ON = (
    "/v1/chat/completions",
    "/v1/models",
    "/v1/models/{model}",
    "/v1/{path}",
)  # bodies that an upstream may have made


_URI = "urn:contract"


class Contract:
    """The document, with schemas that reject unknown members; each is compiled once."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._components = {**document["components"], "schemas": _closed(document["components"]["schemas"])}
        self._operations: dict[tuple[str, str], dict[str, Any]] = {}
        paths: dict[str, None] = {}
        for method, path, operation in operations_of(document):
            self._operations[method, path] = operation
            paths[path] = None
        # A literal path before one with a parameter that also matches it, as the router has them.
        self._paths = [(path, _pattern(path)) for path in sorted(paths, key=lambda path: path.count("{"))]
        self._registry = jsonschema_rs.Registry(
            [(_URI, {"components": {"schemas": self._components["schemas"]}})], draft=jsonschema_rs.Draft202012
        )
        self._validators: dict[str, Any] = {}

    def check(self, response: requests.Response, *, body: bool = True) -> None:
        """Check a response to a documented path; with `body`, its body too, which is read for that."""
        method, path = response.request.method or "", urlsplit(response.url).path
        template = next((template for template, pattern in self._paths if pattern.fullmatch(path)), None)
        operation = self._operations.get((method, template or ""))
        if operation is None or template is None:
            return
        where = f"{method} {template} -> {response.status_code}"
        status = str(response.status_code)
        documented = operation["responses"].get(status) or operation["responses"].get(f"{status[0]}XX")
        assert documented is not None, f"{where}: the status is not documented: {response.text[:300]}"
        self._check_headers(response, documented, where)
        media_type = response.headers.get("content-type", "").lower()
        contents = documented.get("content", {})
        if not contents:
            return
        assert media_type in contents, f"{where}: {media_type} is not documented"
        content = contents[media_type]
        if not body or (template in PASSED_ON and "X-Generation-ID" not in response.headers):
            return
        if media_type.endswith("json"):
            self.check_value(response.json(), content["schema"], where)
        elif media_type == "text/event-stream":
            self.check_events(response.text, content, where)

    def check_events(self, text: str, content: dict[str, Any], where: str) -> None:
        """Check the data of each event."""
        schemas = content.get("x-events", {})
        for name, data in _events(text):
            schema = schemas.get(name) or schemas.get("")
            assert schema is not None, f"{where}: the event {name!r} is not documented"
            self.check_value(data, schema, f"{where} {name}")

    def check_value(self, value: Any, schema: dict[str, Any], where: str) -> None:
        """Check a JSON value."""
        name = json.dumps(schema)
        validator = self._validators.get(name)
        if validator is None:
            validator = self._validators[name] = jsonschema_rs.Draft202012Validator(
                json.loads(name.replace('"#/', f'"{_URI}#/')), validate_formats=True, registry=self._registry
            )
        if not validator.is_valid(value):
            errors = [f"{list(error.instance_path)}: {error.message[:300]}" for error in validator.iter_errors(value)]
            raise AssertionError(f"{where}: the body is not as documented: {errors}")

    def _check_headers(self, response: requests.Response, documented: dict[str, Any], where: str) -> None:
        for name, reference in documented.get("headers", {}).items():
            header = self._components["headers"][reference["$ref"].rpartition("/")[2]]
            value = response.headers.get(name)
            assert value is not None or not header["required"], f"{where}: the header {name} is missing"
            if value is not None and header["schema"]["type"] == "integer":
                assert value.isdecimal(), f"{where}: {name} is {value}"


@cache
def document() -> dict[str, Any]:
    """Return the OpenAPI document of this version of the service. It must not be changed."""
    return make_document(create_app(Settings()))


@cache
def contract() -> Contract:
    """Return the contract of this version of the service."""
    return Contract(document())


def _closed(schema: Any) -> Any:
    """Return a schema in which an object has no members but the documented ones."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(value) for name, value in schema.items() if name not in {"description", "examples"}}
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
        closed["additionalProperties"] = False
    return closed


def _pattern(path: str) -> re.Pattern[str]:
    literals = re.split(r"\{\w+\}", path)
    parameter = ".+" if path.endswith("{model}") else "[^/]+"
    return re.compile(parameter.join(map(re.escape, literals)))


def _events(text: str) -> Iterator[tuple[str, Any]]:
    """Yield the name (or the `type` of the data) and the data of each event."""
    for block in text.split("\n\n"):
        lines = [line.partition(": ") for line in block.split("\n") if line and not line.startswith(":")]
        fields = {name: value for name, _, value in lines}
        if fields.get("data", "[DONE]") == "[DONE]":
            continue
        data = json.loads(fields["data"])
        yield fields.get("event") or str(data.get("type", "")), data
