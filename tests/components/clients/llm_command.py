"""`llm`, the command: a model of chat completions and one of Responses in `extra-openai-models.yaml`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.components.clients.drive import ADA, ASKED, CITY, GREETING, RECALLED, SECONDS, SUNNY, TOLD, WHO, Drive, Trial

TURNS, CALL = ["user", "assistant"], ["user", "assistant", "tool", "assistant"]
MODELS = """\
- model_id: chat
  model_name: {model}
  api_base: {url}
  api_key_name: here
  headers: {{X-Session-ID: new}}
  supports_tools: true
  supports_schema: true
- model_id: responses
  model_name: {model}
  api_base: {url}
  api_key_name: here
  responses: true
  supports_tools: true
  supports_schema: true
"""
TOOL = f"def weather(city: str) -> str:\n    'Return the weather of a city.'\n    return {SUNNY!r}\n"


class Command:
    """The command, with a folder of its own that names the service."""

    def __init__(self, drive: Drive, folder: str) -> None:
        self._folder = folder
        (Path(folder) / "extra-openai-models.yaml").write_text(MODELS.format(model=drive.model, url=drive.url))
        (Path(folder) / "keys.json").write_text(json.dumps({"here": drive.key}))

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "llm", *arguments],
            env={**os.environ, "LLM_USER_PATH": self._folder},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def _check(drive: Drive, model: str, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = Command(drive, folder)
        match name:
            case "text":
                assert command("-m", model, "Hello").startswith(GREETING)
                assert command("-m", model, "--no-stream", "Hello").startswith(GREETING)
                expected = [TURNS] * 2
            case "turns":
                command("-m", model, ADA)
                assert command("-c", WHO).startswith(RECALLED)
                expected = [TURNS, [*TURNS, *TURNS]]
            case "tools":
                for more in ([], ["--no-stream"]):
                    assert command("-m", model, "--functions", TOOL, *more, ASKED).endswith(TOLD)
                expected = [TURNS, CALL] * 2
            case _:
                assert json.loads(command("-m", model, "--schema", "city, sky", "Where?")) == {
                    "city": CITY,
                    "sky": CITY,
                }
                expected = [TURNS]
    kept = drive.kept()
    assert kept == expected or model == "responses", kept


def _trial(model: str, name: str) -> Trial:
    def trial(drive: Drive) -> None:
        _check(drive, model, name)

    trial.__name__ = f"{name} over {model}"
    return trial


TRIALS: tuple[Trial, ...] = tuple(
    _trial(model, name) for model in ("chat", "responses") for name in ("text", "turns", "tools", "schema")
)
