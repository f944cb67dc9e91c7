"""Run the examples of the HTTP reference: as curl commands in a shell, against a server with the simulator."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from chatapi.api.ops.docs import curl
from chatapi.api.ops.openapi import examples_of, make_document, operations_of
from chatapi.app import create_app
from chatapi.settings import Settings
from chatapi.simulator import Script, answer
from chatapi.simulator.record import ReceivedRequest
from tests.server_process import Service, fresh_key

TEXT = "Hello! How can I help you?"
SECONDS = 30
_ID = re.compile(r"\b(ses|shr|gen|msg|resp|conv|rs|fc|fco|chatcmpl|req)([_-])([A-Za-z0-9_-]{20,64})(?![A-Za-z0-9_-])")
_VOLATILE = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?\+00:00"), "2026-01-31T12:00:00.123456+00:00"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"), "2026-01-31 12:00:00 UTC"),
    (re.compile(r"after \d+\.\d s"), "after 0.1 s"),
    (re.compile(r'("(?:created|created_at|completed_at)": ?)\d{10}'), r"\g<1>1769860800"),
    (re.compile(r'("token": ?)"[\w-]{32}"'), r'\g<1>"MZ5bqCj3yqWvVHdJkPn0TtXrGfLs8aKe"'),
    (re.compile(r'("obfuscation": ?)"[^"]*"'), r'\g<1>""'),
)


def respond(request: ReceivedRequest) -> Script | None:
    """Answer in one delta, so that how a stream is read does not show; everything else as the demo does."""
    if not request.path.endswith("/chat/completions"):
        return None
    return answer(TEXT, chunk=len(TEXT), stream=bool(request.body.get("stream")))


def record(service: Service, folder: Path) -> dict[str, dict[str, Any]]:
    """Return the response to each example, by operation and example, with ids and times made constant."""
    app = create_app(Settings())
    examples = examples_of(app)
    recorded: dict[str, dict[str, Any]] = {}
    for method, path, operation in operations_of(make_document(app)):
        name = operation["operationId"]
        for example in examples.get(name, []):
            response = _run(service, curl(method, path, example), folder, f"{name}-{example.name}")
            recorded.setdefault(name, {})[example.name] = response
    return recorded


def _run(service: Service, command: str, folder: Path, name: str) -> dict[str, Any]:
    key = fresh_key(f"example-{name}")
    environment = {"URL": service.url, "KEY": key, **_ids(service, command, key)}
    head = folder / "head"
    done = subprocess.run(
        ["sh", "-c", f'{command} -D "{head}"'],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    lines = head.read_text().splitlines()
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    media_type = headers.get("content-type", "")
    assert key not in done.stdout
    body = _constant(done.stdout, service.url)
    return {
        "status": int(lines[0].split()[1]),
        "media_type": media_type,
        "body": json.loads(body) if media_type.endswith("json") else body,
    }


def _ids(service: Service, command: str, key: str) -> dict[str, str]:
    """Return the ids of a new session with an answer, if the command uses any."""
    if not re.search(r"\$(?!URL|KEY)[A-Z]", command):
        return {}
    sent = service.send("Hello", key=key)
    assert sent.text == TEXT
    session_id, generation_id = sent.headers["X-Session-ID"], sent.headers["X-Generation-ID"]
    question, reply = service.messages(session_id, key=key)
    return {
        "SESSION_ID": session_id,
        "GENERATION_ID": generation_id,
        "MESSAGE_ID": reply["id"],
        "RESPONSE_ID": generation_id.replace("gen_", "resp_"),
        "COMPLETION_ID": generation_id.replace("gen_", "chatcmpl-"),
        "CONVERSATION_ID": session_id.replace("ses_", "conv_"),
        "ITEM_ID": question["id"],
    }


def _constant(text: str, url: str) -> str:
    """Replace what differs between two runs."""
    suffixes: dict[str, str] = {}

    def constant_id(found: re.Match[str]) -> str:
        number = str(len(suffixes)).encode()
        made = base64.urlsafe_b64encode(hashlib.sha256(number).digest()).decode().replace("-", "x").replace("_", "y")
        return found[1] + found[2] + suffixes.setdefault(found[3], made[:32])

    text = _ID.sub(constant_id, text.replace(url, "http://127.0.0.1:8000"))
    for pattern, replacement in _VOLATILE:
        text = pattern.sub(replacement, text)
    return text
