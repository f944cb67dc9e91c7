"""GET /docs: the HTTP reference as a page made from the OpenAPI document, and GET /openapi.json: the document.

The page loads nothing from elsewhere and runs nothing inline. A key typed into it stays in its input field.
"""

from __future__ import annotations

import asyncio
import json
from html import escape
from pathlib import Path
from typing import Any

import msgspec
from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response

from chatapi.api.http.openapi import Example
from chatapi.api.ops.markup import to_html, to_inline_html
from chatapi.api.ops.openapi import examples_of, make_document, operations_of
from chatapi.errors import every_error

router = APIRouter(include_in_schema=False)

FOLDER = Path(__file__).resolve().parent.parent.parent / "web" / "docs"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
HEADERS = {"Cache-Control": "no-cache"}
STYLES = ("/web/style/tokens.css", "/web/style/elements.css", "/docs.css")  # the first two are those of the chat page


@router.get("/docs")
async def docs(request: Request) -> Response:
    """Return the reference."""
    headers = {**HEADERS, "Content-Security-Policy": POLICY, "Cross-Origin-Opener-Policy": "same-origin"}
    return Response((await _rendered(request.app)).page, headers=headers, media_type="text/html")


@router.get("/openapi.json")
async def document(request: Request) -> Response:
    """Return the OpenAPI document."""
    return Response((await _rendered(request.app)).document, headers=HEADERS, media_type="application/json")


@router.get("/docs.css")
async def style(_: Request) -> Response:
    """Return the style of the reference."""
    return Response((FOLDER / "docs.css").read_bytes(), headers=HEADERS, media_type="text/css")


@router.get("/docs.js")
async def script(_: Request) -> Response:
    """Return the script of the reference."""
    return Response((FOLDER / "docs.js").read_bytes(), headers=HEADERS, media_type="text/javascript")


class Rendered(msgspec.Struct, frozen=True):
    """The document as JSON and as a page."""

    document: bytes
    page: bytes


async def _rendered(app: FastAPI) -> Rendered:
    """Return the document of an application; the first request makes it, on a thread."""
    task: asyncio.Task[Rendered] | None = getattr(app.state, "reference", None)
    if task is None:
        task = app.state.reference = asyncio.create_task(asyncio.to_thread(_render, app), name="reference")
    return await asyncio.shield(task)


def _render(app: FastAPI) -> Rendered:
    found = make_document(app)
    return Rendered(msgspec.json.encode(found), _Page(found, examples_of(app)).write().encode())


class _Page:
    """Writes the page."""

    def __init__(self, document: dict[str, Any], examples: dict[str, list[Example]]) -> None:
        self._document = document
        self._schemas: dict[str, Any] = document["components"]["schemas"]
        self._examples = examples
        self._tagged: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
        for method, path, operation in operations_of(document):
            self._tagged.setdefault(operation["tags"][0], []).append((method, path, operation))

    def write(self) -> str:
        info = self._document["info"]
        title = escape(info["title"])
        groups = "".join(self._group(tag) for tag in self._document["tags"] if tag["name"] in self._tagged)
        contents = "".join(
            f"<h4>{escape(name)}</h4><ul>"
            + "".join(f'<li><a href="#{one["operationId"]}">{escape(one["summary"])}</a></li>' for _, _, one in found)
            + "</ul>"
            for name, found in self._tagged.items()
        )
        errors = "".join(
            f'<tr id="{error.code}"><td><code>{error.code}</code></td><td>{error.status}</td>'
            f"<td>{escape(error.message)}</td></tr>"
            for error in every_error()
        )
        return (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}: reference</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta name="color-scheme" content="light dark"><link rel="icon" href="/web/icon.svg" type="image/svg+xml">'
            '<script src="/docs.js"></script>'
            + "".join(f'<link rel="stylesheet" href="{address}">' for address in STYLES)
            + "</head><body>"
            f'<header><strong>{title}</strong><a href="/">Chat</a><a href="/openapi.json">openapi.json</a>'
            '<label for="key">Key <input id="key" type="password" autocomplete="off" spellcheck="false" '
            'placeholder="for “Try it”; stays on this page"></label></header>'
            f"<main><h1>{title}</h1>{to_html(info['description'])}"
            f'<nav aria-label="Operations"><h2>Contents</h2>{contents}<h4><a href="#errors">errors</a></h4></nav>'
            f'{groups}<h2 id="errors">Errors</h2>{_table(("Code", "Status", "Meaning"), errors)}</main></body></html>'
        )

    def _group(self, tag: dict[str, Any]) -> str:
        operations = "".join(self._operation(*one) for one in self._tagged[tag["name"]])
        return f'<h2 id="tag-{tag["name"]}">{escape(tag["name"])}</h2>{to_html(tag["description"])}{operations}'

    def _operation(self, method: str, path: str, operation: dict[str, Any]) -> str:
        name = operation["operationId"]
        return (
            f'<section id="{name}"><h3>{escape(operation["summary"])}</h3>'
            f'<div class="path"><b>{method}</b> {escape(path)}</div>{to_html(operation.get("description", ""))}'
            f"{self._parameters(operation)}{self._examples_of(method, path, operation)}"
            f"{self._responses(operation)}{self._form(method, path, operation)}</section>"
        )

    def _parameters(self, operation: dict[str, Any]) -> str:
        rows = [
            (one["name"], one["in"], one["schema"], one.get("required", False), one.get("description", ""))
            for one in operation.get("parameters", ())
        ]
        for content in operation.get("requestBody", {}).get("content", {}).values():
            for schema in self._alternatives(content["schema"]):
                required = schema.get("required", ())
                rows += [
                    (name, "body", field, name in required, field.get("description", ""))
                    for name, field in schema.get("properties", {}).items()
                ]
        cells = "".join(
            f"<tr><td><code>{escape(name)}</code></td><td>{place}</td><td>{escape(type_name(schema))}"
            f"{', required' if required else ''}</td><td>{to_inline_html(text)}</td></tr>"
            for name, place, schema, required, text in rows
        )
        return _table(("Field", "In", "Type", ""), cells) if cells else ""

    def _alternatives(self, schema: dict[str, Any]) -> list[dict[str, Any]]:
        if "$ref" in schema:
            return self._alternatives(self._schemas[schema["$ref"].rpartition("/")[2]])
        if "anyOf" in schema and "properties" not in schema:
            return [found for one in schema["anyOf"] for found in self._alternatives(one)]
        return [schema]

    def _examples_of(self, method: str, path: str, operation: dict[str, Any]) -> str:
        shown = ""
        for example in self._examples.get(operation["operationId"], ()):
            shown += _code(curl(method, path, example))
            for response in operation["responses"].values():
                for content in response.get("content", {}).values():
                    if example.name in content.get("examples", {}):
                        shown += _code(as_text(content["examples"][example.name]["value"]))
        return f"<h4>Example</h4>{shown}" if shown else ""

    def _responses(self, operation: dict[str, Any]) -> str:
        rows = ""
        for status, response in operation["responses"].items():
            contents = " ".join(f"<code>{escape(media_type)}</code>" for media_type in response.get("content", {}))
            rows += f"<tr><td>{status}</td><td>{to_inline_html(response['description'])}</td><td>{contents}</td></tr>"
        fields = ""
        for content in (
            operation["responses"].get("200", operation["responses"].get("201", {})).get("content", {}).values()
        ):
            for schema in self._alternatives(content["schema"]):
                fields += "".join(
                    f"<tr><td><code>{escape(name)}</code></td><td>{escape(type_name(field))}</td>"
                    f"<td>{to_inline_html(field.get('description', ''))}</td></tr>"
                    for name, field in schema.get("properties", {}).items()
                )
            for name, schema in content.get("x-events", {}).items():
                properties = self._alternatives(schema)[0].get("properties", {})
                listed = ", ".join(f"<code>{escape(field)}</code>" for field in properties)
                fields += f"<tr><td><code>{escape(name or 'data')}</code></td><td>event</td><td>{listed}</td></tr>"
        table = _table(("Field", "Type", ""), fields) if fields else ""
        return f"<details><summary>Responses</summary>{table}{_table(('Status', 'Meaning', 'Content'), rows)}</details>"

    def _form(self, method: str, path: str, operation: dict[str, Any]) -> str:
        fields = ""
        for one in operation.get("parameters", ()):
            required = " required" if one.get("required") else ""
            fields += (
                f'<label><code>{escape(one["name"])}</code><input name="{escape(one["name"])}" '
                f'data-in="{one["in"]}" autocomplete="off"{required}></label>'
            )
        examples = self._examples.get(operation["operationId"], [])
        if "requestBody" in operation:
            body = next((json.dumps(one.body, indent=2) for one in examples if one.body is not None), "{}")
            fields += (
                f'<label class="body">Body<textarea data-in="body" spellcheck="false">{escape(body)}</textarea></label>'
            )
        return (
            f'<details><summary>Try it</summary><form data-method="{method}" data-path="{escape(path)}">{fields}'
            '<div><button type="submit" class="primary">Send</button> '
            '<button type="button" disabled>Stop reading</button></div></form>'
            '<pre hidden tabindex="0" aria-live="polite"></pre></details>'
        )


def curl(method: str, path: str, example: Example) -> str:
    """Return an example as a curl command for a POSIX shell; `$URL`, `$KEY` and ids are variables of the shell."""
    for name, value in example.path.items():
        path = path.replace(f"{{{name}}}", value)
    query = "&".join(f"{name}={value}" for name, value in example.query.items())
    lines = [f'curl -sN {"" if method == "GET" else f"-X {method} "}"$URL{path}{"?" + query if query else ""}"']
    headers = dict(example.headers)
    if example.key:
        headers = {"Authorization": "Bearer $KEY", **headers}
    if example.body is not None:
        headers["Content-Type"] = "application/json"
    lines += [f'-H "{name}: {value}"' for name, value in headers.items()]
    if example.body is not None:
        body = json.dumps(example.body, ensure_ascii=False)
        quoted = '"' + body.replace("\\", "\\\\").replace('"', '\\"') + '"' if "$" in body else f"'{body}'"
        lines.append(f"-d {quoted}")
    return " \\\n  ".join(lines)


def as_text(value: Any) -> str:
    """Return the body of an example response as text."""
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def type_name(schema: dict[str, Any]) -> str:
    """Return a schema's type in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if (alternatives := schema.get("anyOf") or schema.get("oneOf")) is not None:
        return _either(alternatives)
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_either(schema.get('prefixItems') or [schema.get('items', {})])}"
    return str(schema.get("const", schema.get("type", "any")))


def _either(schemas: list[dict[str, Any]]) -> str:
    return " or ".join(dict.fromkeys(type_name(one) for one in schemas))


def _table(headings: tuple[str, ...], rows: str) -> str:
    head = "".join(f"<th>{heading}</th>" for heading in headings)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _code(text: str) -> str:
    return f'<div class="example"><pre>{escape(text)}</pre><button type="button" class="copy">Copy</button></div>'
