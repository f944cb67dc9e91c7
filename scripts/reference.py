"""Write docs/http.md from the OpenAPI document: `python -m scripts.reference`.

It first runs all examples against a server with the simulator, and records the responses for the document.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chatapi.api.http.openapi import Example
from chatapi.api.ops.docs import as_text, curl, type_name
from chatapi.api.ops.openapi import RECORDED, examples_of, make_document, operations_of
from chatapi.app import create_app
from chatapi.errors import every_error
from chatapi.settings import Settings
from chatapi.simulator import Simulator, running
from tests.examples import record, respond
from tests.server_process import PROJECT, Service

HTTP = PROJECT / "docs/http.md"
INTRODUCTION = """\
# HTTP reference

<!-- Made by `python -m scripts.reference` from the OpenAPI document. Edit `chatapi/api/**/schemas.py` and run it. -->

A running server has this reference at `/docs`, with forms to try each request, and the OpenAPI document at
`/openapi.json`. In the examples, `$URL` is the server's address, such as `http://127.0.0.1:8000`, `$KEY` your key, and
`$SESSION_ID`, `$MESSAGE_ID`, … are ids from earlier responses. Tests run every example.
"""


def main() -> int:
    """Record the examples and write the reference."""
    with tempfile.TemporaryDirectory() as folder, running(Simulator()) as simulator:
        simulator.script = respond
        service = Service(Path(folder), simulator.url, CHATAPI_RATE_LIMIT="0").start()
        try:
            recorded = record(service, Path(folder))
        finally:
            service.stop()
    RECORDED.write_text(json.dumps(recorded, indent=1, ensure_ascii=False) + "\n")
    HTTP.write_text(reference())
    return 0


def reference() -> str:
    """Return docs/http.md."""
    app = create_app(Settings())
    return _Reference(make_document(app), examples_of(app)).write()


class _Reference:
    """Writes the reference as Markdown."""

    def __init__(self, document: dict[str, Any], examples: dict[str, list[Example]]) -> None:
        self._document = document
        self._schemas: dict[str, Any] = document["components"]["schemas"]
        self._examples = examples

    def write(self) -> str:
        blocks = [INTRODUCTION, self._document["info"]["description"].partition("\n\n")[2]]
        for tag in self._document["tags"]:
            operations = [one for one in operations_of(self._document) if one[2]["tags"][0] == tag["name"]]
            if operations:
                blocks += [f"# {tag['name'].capitalize()}\n", tag["description"]]
                blocks += [self._operation(*one) for one in operations]
        blocks += ["# Objects\n", *self._objects(), "# Errors\n", _all_errors()]
        return "\n".join(block.rstrip("\n") + "\n" for block in blocks)

    def _operation(self, method: str, path: str, operation: dict[str, Any]) -> str:
        blocks = [f"## {method} {path}", f"**{operation['summary']}.** {operation['description']}"]
        if parameters := operation.get("parameters", ()):
            rows = [
                (f"`{one['name']}`", one["in"], _type(one["schema"], one["required"]), one.get("description", ""))
                for one in parameters
            ]
            blocks.append(_table(("parameter", "in", "type", ""), rows))
        for content in operation.get("requestBody", {}).get("content", {}).values():
            for schema in self._alternatives(content["schema"]):
                blocks.append(f"Body: {' '.join(schema.get('description', '').split())}")
                blocks.append(_table(("field", "type", ""), _fields(schema)))
        blocks += [*self._contents(operation), self._errors(operation)]
        for example in self._examples.get(operation["operationId"], ()):
            blocks.append(_fence("sh", curl(method, path, example)))
            for response in operation["responses"].values():
                for media_type, content in response.get("content", {}).items():
                    if example.name in content.get("examples", {}):
                        shown = as_text(content["examples"][example.name]["value"])
                        blocks.append(_fence("json" if media_type.endswith("json") else "text", shown))
        return "\n\n".join(blocks) + "\n"

    def _alternatives(self, schema: dict[str, Any]) -> list[dict[str, Any]]:
        found = self._schemas[schema["$ref"].rpartition("/")[2]]
        return (
            [found] if "properties" in found else [one for other in found["anyOf"] for one in self._alternatives(other)]
        )

    def _contents(self, operation: dict[str, Any]) -> list[str]:
        """Describe the successful responses and their events."""
        rows, events = [], []
        for status, response in operation["responses"].items():
            if not status.startswith("2"):
                continue
            headers = ", ".join(f"`{name}`" for name in response.get("headers", {}) if name != "X-Request-ID")
            for media_type, content in response.get("content", {"": {}}).items():
                name = type_name(content.get("schema", {}))
                body = " ".join(filter(None, (f"`{media_type}`" if media_type else "", name * name[:1].isupper())))
                rows.append((status, response["description"], body, headers))
                events += [
                    (f"`{event}`" if event else "(data)", ", ".join(f"`{field}`" for field in self._event_fields(one)))
                    for event, one in content.get("x-events", {}).items()
                ]
        blocks = [_table(("status", "", "body", "headers"), rows)]
        return [*blocks, _table(("event", "data"), events)] if events else blocks

    def _event_fields(self, schema: dict[str, Any]) -> list[str]:
        return list(dict.fromkeys(field for one in self._alternatives(schema) for field in one["properties"]))

    def _errors(self, operation: dict[str, Any]) -> str:
        listed = []
        for status, response in operation["responses"].items():
            codes = [code for content in response.get("content", {}).values() for code in content.get("examples", {})]
            if codes := [f"`{code}`" for code in dict.fromkeys(codes) if code in _CODES]:
                listed.append(f"{status} {', '.join(codes)}")
            elif status.endswith("XX"):
                listed.append(f"{status} {response['description']}")
        return f"Errors: {'; '.join(listed)}."

    def _objects(self) -> list[str]:
        shown = []
        for name, schema in self._schemas.items():
            if "properties" in schema and not self._is_body(name):
                table = _table(("field", "type", ""), _fields(schema))
                shown.append(f"**{name}.** {schema.get('description', '')}\n\n{table}")
        return shown

    def _is_body(self, name: str) -> bool:
        reference = {"$ref": f"#/components/schemas/{name}"}
        return any(
            content["schema"] == reference
            for _, _, operation in operations_of(self._document)
            for content in operation.get("requestBody", {}).get("content", {}).values()
        )


_CODES = {error.code for error in every_error()}


def _all_errors() -> str:
    return _table(
        ("code", "status", "meaning"), [(f"`{one.code}`", str(one.status), one.message) for one in every_error()]
    )


def _fields(schema: dict[str, Any]) -> list[tuple[str, ...]]:
    required = schema.get("required", ())
    return [
        (f"`{name}`", _type(field, name in required), field.get("description", "").replace("|", "\\|"))
        for name, field in schema.get("properties", {}).items()
    ]


def _type(schema: dict[str, Any], required: bool) -> str:
    return type_name(schema).replace("|", "\\|") + (", required" if required else "")


def _table(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [" | ".join(headings), "|".join("---" for _ in headings), *(" | ".join(row) for row in rows)]
    return "\n".join(f"|{line}|" if line.startswith("---") else f"| {line} |" for line in lines)


def _fence(language: str, text: str) -> str:
    return f"```{language}\n{text.rstrip()}\n```"


if __name__ == "__main__":
    sys.exit(main())
