"""GET /docs: the HTTP reference as one page, made from the OpenAPI document. No script, nothing from elsewhere."""

from __future__ import annotations

import re
from functools import cache
from html import escape
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse

from chatapi.errors import every_error

router = APIRouter(include_in_schema=False)

POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 20%, transparent); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }
section { border-top: 1px solid var(--line); padding: .5rem 0; }
h3 { font-family: ui-monospace, monospace; font-size: 1.05rem; }
h3 b { display: inline-block; min-width: 4.5rem; }
table { border-collapse: collapse; width: 100%; }
td, th { border: 1px solid var(--line); padding: .25rem .5rem; text-align: left; vertical-align: top; }
code { font-family: ui-monospace, monospace; }
"""


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """The reference."""
    return HTMLResponse(_page(request.app), headers={"Content-Security-Policy": POLICY})


@router.get("/docs.css")
async def style() -> HTMLResponse:
    """How the reference looks."""
    return HTMLResponse(STYLE, media_type="text/css")


@cache
def _page(app: FastAPI) -> str:
    document = app.openapi()
    routes = "".join(
        _route(method, path, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    )
    errors = "".join(
        f'<tr id="{error.code}"><td><code>{error.code}</code></td><td>{error.status}</td>'
        f"<td>{escape(error.message)}</td></tr>"
        for error in every_error()
    )
    title = escape(document["info"]["title"])
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/docs.css"></head><body>'
        f"<h1>{title}</h1><p>{escape(document['info']['description'])} "
        'The same as data: <a href="/openapi.json">/openapi.json</a>.</p>'
        f"<h2>Routes</h2>{routes}<h2>Errors</h2><table><tr><th>code</th><th>status</th><th>what it means</th></tr>"
        f"{errors}</table></body></html>"
    )


def _route(method: str, path: str, operation: dict[str, Any]) -> str:
    fields = [
        (parameter["name"], parameter["in"], parameter["schema"], parameter.get("required", False))
        for parameter in operation.get("parameters", ())
    ]
    content = operation.get("requestBody", {}).get("content", {})
    for body in content.values():
        required = body["schema"].get("required", ())
        fields += [
            (name, "body", schema, name in required) for name, schema in body["schema"].get("properties", {}).items()
        ]
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{place}</td><td>{escape(_kind(schema))}</td>"
        f"<td>{'required' if required else ''}</td></tr>"
        for name, place, schema, required in fields
    )
    table = f"<table><tr><th>field</th><th>in</th><th>type</th><th></th></tr>{rows}</table>" if rows else ""
    return (
        f"<section><h3><b>{method.upper()}</b> {escape(path)}</h3><p>{_prose(operation.get('description', ''))}</p>"
        f"{table}</section>"
    )


def _prose(text: str) -> str:
    """Text as HTML, what stands in backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _kind(schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"] if one.get("type") != "null")
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    return str(schema.get("type", schema.get("const", "any")))
