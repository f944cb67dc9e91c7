"""Send generated requests to every operation and check the responses: `python -m tests.openapi_campaign`.

Schemathesis makes the requests from the OpenAPI document. A 5xx, or a status, header or body that the document does not
describe, is a failure. Options are passed on: `--max-examples 500`, `--seed 1`, `--include-path /api/chat`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from chatapi.simulator import Simulator, running
from tests.contract import document
from tests.examples import respond
from tests.server_process import KEY, Service

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)


def run(url: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run Schemathesis against a server whose rate limit is off; the return code is 0 without a failure."""
    file = folder / "openapi.json"
    file.write_text(json.dumps(document()))
    program = Path(sys.executable).with_name("schemathesis")
    arguments = ["run", str(file), "--url", url, "-H", f"Authorization: Bearer {KEY}", "--checks", ",".join(CHECKS)]
    return subprocess.run(
        [str(program), *arguments, "--no-color", *options],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def main() -> int:
    """Start a server and run the phases that generate requests, with 100 requests for each operation by default."""
    with tempfile.TemporaryDirectory() as name, running(Simulator()) as simulator:
        folder = Path(name)
        (folder / "server").mkdir()
        simulator.script = respond
        service = Service(folder / "server", simulator.url, CHATAPI_RATE_LIMIT="0").start()
        options = ["--phases", "examples,coverage,fuzzing", "--max-examples", "100", *sys.argv[1:]]
        try:
            done = run(service.url, folder, *options)
        finally:
            service.stop()
    print(done.stdout)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
