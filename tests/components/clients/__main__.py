"""Run the trials of one client: `python -m tests.components.clients NAME JSON`. Print a row for each."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import sys
import traceback
from dataclasses import replace
from pathlib import Path

from tests.components.clients.drive import Drive, Trial, new_key

MODULES = {
    "openai-python": "openai_python",
    "openai-agents": "agents_sdk",
    "langchain-openai": "langchain",
    "pydantic-ai": "pydantic_agents",
    "llm": "llm_command",
}
TRIAL_SECONDS = 60.0


def main(name: str, settings: str, only: str) -> int:
    """Return 1 if a trial fails."""
    module = importlib.import_module(f"tests.components.clients.{MODULES[name]}")
    given = json.loads(settings)
    drive = Drive(**given | {"operations": tuple(given["operations"])})
    failed = False
    for trial in module.TRIALS:
        label = trial.__name__.replace("_", " ")
        if only not in label:
            continue
        failure = asyncio.run(_run(trial, replace(drive, key=new_key())))
        failed |= failure is not None
        result = "passes" if failure is None else f"fails: {failure}"
        print(f"{name:16} {drive.api:10} {label:36} {result}", flush=True)
    return 1 if failed else 0


async def _run(trial: Trial, drive: Drive) -> str | None:
    """Run a trial; return why it fails, or nothing if it holds."""
    try:
        async with asyncio.timeout(TRIAL_SECONDS):
            if inspect.iscoroutinefunction(trial):
                await trial(drive)
            else:
                await asyncio.to_thread(trial, drive)
    except Exception as error:
        folder = str(Path(__file__).parent)
        place = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(folder)][-1]
        why = f"{type(error).__name__} {error} {error.__cause__ or ''}"
        return f"{Path(place.filename).name}:{place.lineno}: {place.line} {why}"[:1000]
    return None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
