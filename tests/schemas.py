"""OpenAI's published schemas, and the additional rules of Open Responses, to check responses against."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs

_FILE = Path(__file__).parent / "data" / "openai-schemas.json"
_URI = "urn:openai"

# The fields that Open Responses requires to be there and not null; then, those required to be there.
FILLED = frozenset(
    {
        "id",
        "object",
        "created_at",
        "status",
        "model",
        "output",
        "tools",
        "tool_choice",
        "truncation",
        "parallel_tool_calls",
        "text",
        "top_p",
        "presence_penalty",
        "frequency_penalty",
        "top_logprobs",
        "temperature",
        "store",
        "background",
        "service_tier",
        "metadata",
    }
)
THERE = frozenset(
    {
        "completed_at",
        "incomplete_details",
        "previous_response_id",
        "instructions",
        "error",
        "reasoning",
        "usage",
        "max_output_tokens",
        "max_tool_calls",
        "safety_identifier",
        "prompt_cache_key",
        "user",
    }
)


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    """Convert `nullable` of OpenAPI 3.0 to JSON Schema."""
    if schema.pop("nullable", None) is True:
        return {"anyOf": [schema, {"type": "null"}]}
    return schema


@cache
def _document() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(_FILE.read_text(), object_hook=_nullable)
    # OpenAI's own service, its clients and Open Responses have null there where nothing is known or was asked for.
    found = document["components"]["schemas"]
    for properties, name in (
        (found["Response"]["allOf"][2]["properties"], "usage"),
        (found["ModelResponseProperties"]["properties"], "user"),
    ):
        properties[name] = {"anyOf": [properties[name], {"type": "null"}]}
    return document


@cache
def _registry() -> jsonschema_rs.Registry:
    return jsonschema_rs.Registry([(_URI, _document())], draft=jsonschema_rs.Draft202012)


@cache
def _validator(name: str) -> jsonschema_rs.Draft202012Validator:
    schema = {"$ref": f"{_URI}#/components/schemas/{name}"}
    return jsonschema_rs.Draft202012Validator(schema, registry=_registry())


@cache
def _of_type(kind: str) -> str:
    """The schema of the events of this type."""
    found: list[str] = [
        name
        for name, schema in _document()["components"]["schemas"].items()
        if name.endswith("Event") and schema.get("properties", {}).get("type", {}).get("enum") == [kind]
    ]
    assert len(found) == 1, f"{kind}: {found}"
    return found[0]


def check(name: str, value: Any) -> None:
    """Fail unless the value is as the schema of this name has it."""
    if not _validator(name).is_valid(value):
        errors = [f"{error.instance_path}: {error.message[:300]}" for error in _validator(name).iter_errors(value)]
        raise AssertionError(f"{name}: {errors}")


def check_response(value: dict[str, Any]) -> None:
    """Fail unless it is a response as OpenAI and Open Responses have it."""
    check("Response", value)
    assert not [name for name in FILLED if value.get(name) is None]
    assert not THERE - value.keys()
    for item in value["output"]:
        assert item["id"]
        assert item["status"]


def check_event(value: dict[str, Any]) -> None:
    """Fail unless it is an event as OpenAI has it."""
    check(_of_type(value["type"]), value)
    if "response" in value:
        check_response(value["response"])
