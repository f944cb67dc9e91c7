"""The OpenAPI document, made at its first request from the operations that the routes are documented with."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from chatapi.api.http import openapi as documented
from chatapi.api.http.error_responses import Renderer, render_sentence, renderer_of_path
from chatapi.api.ops.introduction import DESCRIPTION, TAGS
from chatapi.errors import ChatError, InvalidRequest, SessionBusy, UpstreamError, every_error

RECORDED = Path(__file__).with_name("examples.json")
"""The responses to the examples, by operation and example; `python -m scripts.reference` records them."""

REFERENCE = "#/components/schemas/{name}"
HEADERS = {
    "X-Request-ID": ("The id of this request in the server's log.", "string", True),
    "X-Session-ID": ("The session of the answer.", "string", True),
    "X-Generation-ID": ("The generation of the answer: resume, stop and read it by this id.", "string", True),
    "X-RateLimit-Limit": (
        "Requests per minute: the tighter of this server's limit and the upstream's. Absent if neither is known.",
        "integer",
        False,
    ),
    "X-RateLimit-Remaining": ("Requests that are left of `X-RateLimit-Limit`.", "integer", False),
    "X-Upstream-Request-ID": ("The upstream's id of its request.", "string", False),
    "X-Upstream-Name": ("Of several upstreams, the one that answered.", "string", False),
    "X-Context-Left-Out": (
        "The number of messages that were left out of the request for this answer, with the ids of the `first` and the "
        "`last` of them as parameters. Absent if the model got all.",
        "string",
        False,
    ),
    "X-Omitted-Tools": ("The hosted tools that were left out of the request.", "string", False),
    "X-Should-Retry": ("`false`: OpenAI's clients do not repeat the request.", "string", True),
    "Retry-After": ("Seconds to wait before the next attempt.", "integer", True),
    "WWW-Authenticate": ("`Bearer`, if the key is missing.", "string", False),
    "Content-Disposition": ("`attachment`, with a file name of the title and the day.", "string", True),
    "X-Vercel-AI-UI-Message-Stream": ("`v1`, if the body is a UI message stream.", "string", False),
}
SECURITY = {
    documented.BEARER: {
        "type": "http",
        "scheme": "bearer",
        "description": "Your OpenAI API key. `/api/chat` and `/api/test-key` also read it from `api_key` in the body.",
    },
    documented.HEADER_KEY: {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key."},
}


def make_document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of the application. It takes some tens of milliseconds."""
    document = get_openapi(
        title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes, tags=copy.deepcopy(TAGS)
    )
    components = document.setdefault("components", {})
    recorded = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    errors = {error.code: error for error in every_error()}
    all_examples = examples_of(app)
    examples: dict[str, Any] = {}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _add_errors(path, operation, renderer_of_path(app, path), errors, examples)
            operation.pop("x-examples", None)  # encoded by FastAPI, without the nulls
            name = operation["operationId"]
            _add_examples(operation, all_examples.get(name, []), recorded.get(name, {}))
            _describe_parameters(operation)
            for response in operation["responses"].values():
                response.setdefault("headers", {})["X-Request-ID"] = documented.header_reference("X-Request-ID")
    document["components"] = {
        "schemas": _schemas(components.get("schemas", {})),
        "headers": {
            key: {"description": text, "required": required and key == name, "schema": {"type": kind}}
            for name, (text, kind, required) in HEADERS.items()
            for key in (name, f"{name}-optional")
        },
        "examples": examples,
        "securitySchemes": SECURITY,
    }
    return document


def _schemas(found: dict[str, Any]) -> dict[str, Any]:
    """Return the components that `reference` and `one_of` refer to."""
    for error_type in (documented.ProblemDetails, documented.SeedError, documented.OpenAIError):
        documented.reference(error_type)
    models = [one for one in documented.schema_types.values() if isinstance(one, type) and issubclass(one, BaseModel)]
    others = [one for one in documented.schema_types.values() if one not in models]
    _, of_models = models_json_schema([(model, "validation") for model in models], ref_template=_pydantic_reference())
    _, of_others = msgspec.json.schema_components(others, ref_template=REFERENCE)
    schemas = {**of_models.get("$defs", {}), **of_others, **documented.unions}
    for unused in ("HTTPValidationError", "ValidationError"):  # FastAPI's own 422, which no route sends
        found.pop(unused, None)
    schemas = found | schemas
    for name, schema in schemas.items():
        if "description" in schema:
            schema["description"] = " ".join(schema["description"].split())
        if name in documented.open_types:
            schema["additionalProperties"] = True
        for field, text in documented.field_descriptions.get(name, {}).items():
            schema["properties"][field]["description"] = text
        _complete_arrays(schema)
    return {name: schemas[name] for name in sorted(schemas)}


def _complete_arrays(schema: Any) -> None:
    """Have each array state its `items` or `prefixItems` in the form that generators of clients understand."""
    pending = [schema]
    while pending:
        one = pending.pop()
        if isinstance(one, dict):
            if one.get("type") == "array" and "prefixItems" in one:
                one.pop("items", None)  # false: no further items, as `maxItems` states too
            elif one.get("type") == "array":
                one.setdefault("items", {})
            pending += one.values()
        elif isinstance(one, list):
            pending += one


def _pydantic_reference() -> str:
    return REFERENCE.replace("{name}", "{model}")


def _add_errors(
    path: str,
    operation: dict[str, Any],
    render: Renderer,
    errors: dict[str, type[ChatError]],
    examples: dict[str, Any],
) -> None:
    """Add a response for each status that the operation's errors have, with an example of each error."""
    as_text = operation.pop("x-errors-as-text", False)
    classes = [errors[code] for code in dict.fromkeys(operation.pop("x-errors", ()))]
    unused = operation["responses"].get("422", {}).get("content", {}).get("application/json", {}).get("schema", {})
    if unused.get("$ref", "").endswith("/HTTPValidationError"):
        del operation["responses"]["422"]
    for error_class in sorted(classes, key=lambda one: one.status):
        error = sample(error_class)
        rendered = render(error)
        body, media_type = json.loads(bytes(rendered.body)), rendered.headers["content-type"]
        response = operation["responses"].setdefault(str(rendered.status_code), {"description": "", "content": {}})
        name = ("openai_" if "error" in body else "") + error.code
        examples[name] = {"summary": error.detail, "value": body}
        content = response["content"].setdefault(media_type, {"schema": _error_schema(body), "examples": {}})
        content["examples"][error.code] = {"$ref": f"#/components/examples/{name}"}
        response["description"] = " ".join(filter(None, (response["description"], f"`{error.code}`: {error.detail}")))
        sent = [name for name in HEADERS if name.lower() in rendered.headers]
        if rendered.status_code in {429, 503}:
            sent.append("Retry-After")
        headers = response.setdefault("headers", {})
        for name in set(headers) - set(sent):  # an earlier error of the status has it
            headers[name] = documented.header_reference(f"{name}-optional")
        headers.update({name: documented.header_reference(name) for name in sent})
        if as_text:
            text = render_sentence(error)
            response["content"][text.headers["content-type"]] = {"schema": {"type": "string"}}
    if path.startswith("/v1/") and any(issubclass(one, UpstreamError) for one in classes):
        for statuses in ("4XX", "5XX"):
            content = {"application/json": {"schema": {"$ref": "#/components/schemas/OpenAIError"}}}
            operation["responses"][statuses] = {"description": "The upstream's own error.", "content": content}


def sample(error_class: type[ChatError]) -> ChatError:
    """Return an error of this class, as an example."""
    if issubclass(error_class, InvalidRequest):
        return error_class([{"field": "user_message", "message": "This field is required."}])
    if issubclass(error_class, SessionBusy):
        return error_class("gen_" + "3" * 32)
    return error_class()


def _error_schema(body: dict[str, Any]) -> dict[str, Any]:
    if "error" in body:
        return documented.reference(documented.OpenAIError)
    return documented.reference(documented.ProblemDetails if "code" in body else documented.SeedError)


def _add_examples(
    operation: dict[str, Any], examples: list[documented.Example], recorded: dict[str, dict[str, Any]]
) -> None:
    """Add the request bodies of the examples, and their recorded responses."""
    for example in examples:
        if example.body is not None:
            for content in operation["requestBody"]["content"].values():
                content.setdefault("examples", {})[example.name] = {"value": example.body}
        if (response := recorded.get(example.name)) is not None:
            contents = operation["responses"][str(response["status"])].get("content", {})
            if response["media_type"] in contents:
                shown = contents[response["media_type"]].setdefault("examples", {})
                shown[example.name] = {"value": response["body"]}


def _describe_parameters(operation: dict[str, Any]) -> None:
    descriptions = operation.pop("x-parameters", {})
    for parameter in operation.get("parameters", ()):
        if parameter["name"] in descriptions:
            parameter["description"] = descriptions[parameter["name"]]


def operations_of(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the method, the path and the operation of each operation."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield method.upper(), path, operation


def examples_of(app: FastAPI) -> dict[str, list[documented.Example]]:
    """Return the examples of each operation of the application, by operation id."""
    return {
        route.operation_id: list(route.openapi_extra.get("x-examples", ()))
        for route in app.routes
        if isinstance(route, APIRoute) and route.operation_id and route.openapi_extra
    }
