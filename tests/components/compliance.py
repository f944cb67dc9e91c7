"""llm-comply, which checks servers against OpenAI's specifications, run on the service before the simulator."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

from chatapi.simulator import Simulator, running
from tests.components.servers import PYTHON
from tests.server_process import KEY, Service

NAME = "llm-comply"
MODELS = {"responses": "gpt-5.4", "chat": "gpt-4.1-mini"}  # OpenAI's own chat completions refuse tools with the former
FORMATS = ("open-responses", "openai-chat")
NO_MODEL = "a request without a model gets CHATAPI_DEFAULT_MODEL"
# Tests that fail, and why, by the upstream's protocol and the format.
KNOWN = {
    ("responses", "open-responses", "error-handling"): NO_MODEL,
    ("responses", "openai-chat", "chat-error-handling"): NO_MODEL,
    ("chat", "open-responses", "error-handling"): NO_MODEL,
    ("chat", "open-responses", "compact-response"): "chat completions have no counterpart, which is a 400 here",
}


def run() -> int:
    """Print a row for each test; return how many are not as expected."""
    wrong = 0
    with running(Simulator()) as upstream:
        for api, model in MODELS.items():
            with tempfile.TemporaryDirectory() as folder:
                service = Service(Path(folder), upstream.url, OPENAI_UPSTREAM_API=api, CHATAPI_RATE_LIMIT="0").start()
                try:
                    for form in FORMATS:
                        wrong += _run_format(service, api, model, form)
                finally:
                    service.stop()
    return wrong


def _run_format(service: Service, api: str, model: str, form: str) -> int:
    wrong = 0
    arguments = ["-u", f"{service.url}/v1", "-k", KEY, "-m", model, "--format", form, "--json"]
    command = [str(PYTHON.parent / NAME), *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    for test in json.loads(ran.stdout)["results"]:
        known = KNOWN.get((api, form, test["id"]))
        wrong += test["status"] == "failed" and known is None
        wrong += test["status"] == "passed" and known is not None
        reason = f": {known or test.get('errors')}" if test["status"] == "failed" else ""
        print(f"{NAME:12} {api:10} {form} {test['name']}: {test['status']}{reason}", flush=True)
    return wrong
