"""The operations that are passed on, each with OpenAI's client: its request arrives, and its answer is read strictly.

The upstream answers with the object in the query: the smallest one that the client's own type allows.
"""

from __future__ import annotations

import json
import typing
from functools import reduce
from typing import Any

import openai
import pydantic

FILE = ("a.txt", b"some text")
BYTES = "\x00bytes"
IDS = {"vector_store_id": "vs_1"}
# Methods of the client, with their arguments. An id is the first argument.
CALLS: tuple[tuple[str, tuple[str, ...], dict[str, Any]], ...] = (
    ("embeddings.create", (), {"model": "m", "input": "a", "encoding_format": "float"}),
    ("moderations.create", (), {"input": "a"}),
    ("completions.create", (), {"model": "m", "prompt": "a"}),
    ("audio.speech.create", (), {"model": "m", "input": "a", "voice": "alloy"}),
    ("audio.transcriptions.create", (), {"model": "m", "file": FILE}),
    ("audio.translations.create", (), {"model": "m", "file": FILE}),
    ("images.generate", (), {"prompt": "a"}),
    ("images.edit", (), {"prompt": "a", "image": FILE}),
    ("images.create_variation", (), {"image": FILE}),
    ("files.create", (), {"file": FILE, "purpose": "assistants"}),
    ("files.list", (), {}),
    ("files.retrieve", ("file-1",), {}),
    ("files.content", ("file-1",), {}),
    ("files.delete", ("file-1",), {}),
    ("uploads.create", (), {"bytes": 9, "filename": "a", "mime_type": "text/plain", "purpose": "assistants"}),
    ("uploads.parts.create", ("upload_1",), {"data": b"some text"}),
    ("uploads.complete", ("upload_1",), {"part_ids": ["part_1"]}),
    ("uploads.cancel", ("upload_1",), {}),
    ("vector_stores.create", (), {}),
    ("vector_stores.list", (), {}),
    ("vector_stores.retrieve", ("vs_1",), {}),
    ("vector_stores.update", ("vs_1",), {"name": "a"}),
    ("vector_stores.delete", ("vs_1",), {}),
    ("vector_stores.search", ("vs_1",), {"query": "a"}),
    ("vector_stores.files.create", ("vs_1",), {"file_id": "file-1"}),
    ("vector_stores.files.list", ("vs_1",), {}),
    ("vector_stores.files.retrieve", ("file-1",), IDS),
    ("vector_stores.files.update", ("file-1",), IDS | {"attributes": {"a": "b"}}),
    ("vector_stores.files.delete", ("file-1",), IDS),
    ("vector_stores.files.content", ("file-1",), IDS),
    ("vector_stores.file_batches.create", ("vs_1",), {"file_ids": ["file-1"]}),
    ("vector_stores.file_batches.retrieve", ("batch_1",), IDS),
    ("vector_stores.file_batches.cancel", ("batch_1",), IDS),
    ("vector_stores.file_batches.list_files", ("batch_1",), IDS),
    ("batches.create", (), {"completion_window": "24h", "endpoint": "/v1/responses", "input_file_id": "file-1"}),
    ("batches.list", (), {}),
    ("batches.retrieve", ("batch_1",), {}),
    ("batches.cancel", ("batch_1",), {}),
    ("containers.create", (), {"name": "a"}),
    ("containers.list", (), {}),
    ("containers.retrieve", ("cntr_1",), {}),
    ("containers.delete", ("cntr_1",), {}),
    ("containers.files.create", ("cntr_1",), {"file": FILE}),
    ("containers.files.list", ("cntr_1",), {}),
    ("containers.files.retrieve", ("cfile_1",), {"container_id": "cntr_1"}),
    ("containers.files.delete", ("cfile_1",), {"container_id": "cntr_1"}),
    ("containers.files.content.retrieve", ("cfile_1",), {"container_id": "cntr_1"}),
)


def call_all(client: openai.OpenAI) -> None:
    """Call each operation; check that the client reads what the upstream sent."""
    for name, ids, arguments in CALLS:
        method = reduce(getattr, name.split("."), client)
        kind = _type_of(method)
        if kind is None:  # nothing, or bytes
            answer, media = BYTES, "application/octet-stream"
        else:
            answer, media = json.dumps(sample(kind.model_json_schema())), "application/json"
        given = method(*ids, **arguments, extra_query={"answer": answer, "type": media})
        if isinstance(given, pydantic.BaseModel):
            assert given.model_dump(mode="json", exclude_unset=True, by_alias=True) == json.loads(answer), name
        elif given is not None:
            assert given.content == BYTES.encode(), name


def _type_of(method: Any) -> type[pydantic.BaseModel] | None:
    """Return the type of a method's answer that is an object, if there is one."""
    hint = typing.get_type_hints(method)["return"]
    for kind in (hint, *typing.get_args(hint)):
        if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
            return kind
    return None


def sample(schema: dict[str, Any], definitions: dict[str, Any] | None = None) -> Any:
    """Return the smallest value that a schema allows."""
    definitions = schema.get("$defs", {}) if definitions is None else definitions
    if "$ref" in schema:
        return sample(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    for name in ("anyOf", "oneOf", "allOf"):
        if name in schema:
            return sample(schema[name][0], definitions)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            properties = schema.get("properties", {})
            return {name: sample(properties[name], definitions) for name in schema.get("required", ())}
        case "array":
            return []
        case "integer" | "number":
            return 7
        case "boolean":
            return True
        case "null":
            return None
    return "a"
