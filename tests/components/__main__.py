"""`./run components`: every check with every server, client and protocol. Exits with 1 if one is not as expected."""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from pathlib import Path

import openai

from tests.components import client_runs, compliance, prices
from tests.components.checks import CHECKS, KNOWN, MODEL, Check, Drive
from tests.components.servers import running
from tests.server_process import KEY, Service

RUNS = {compliance.NAME: compliance.run, prices.NAME: prices.run}
GROUPS = {"servers": (*CHECKS,), "clients": client_runs.CLIENTS}


def main() -> int:
    """Print a row for each check, with the reason if it fails."""
    parser = argparse.ArgumentParser(prog="./run components", description="Drive servers and clients of others.")
    names = (*CHECKS, compliance.NAME, *client_runs.CLIENTS, prices.NAME)
    parser.add_argument("names", nargs="*", help=f"only these, of {', '.join(names)}; or {', '.join(GROUPS)}")
    parser.add_argument("--only", default="", help="only checks whose name contains this")
    options = parser.parse_args()
    if unknown := {*options.names} - {*names, *GROUPS}:
        parser.error(f"there is no {sorted(unknown)[0]}: name one of {', '.join((*names, *GROUPS))}.")
    failed = 0
    chosen = [one for name in options.names for one in GROUPS.get(name, (name,))]
    for name in chosen or names:
        if name in client_runs.CLIENTS:
            failed += client_runs.run(name, options.only)
            continue
        if name in RUNS:
            failed += RUNS[name]()
            continue
        with tempfile.TemporaryDirectory() as folder, running(name, Path(folder)) as url:
            for api, checks in CHECKS[name].items():
                failed += _drive(name, api, url, [check for check in checks if options.only in check.__name__])
    return 1 if failed else 0


def _drive(name: str, api: str, url: str, checks: list[Check]) -> int:
    """Print the rows of one protocol of a server; return how many are not as expected."""
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        service = Service(
            Path(folder),
            url,
            OPENAI_UPSTREAM_API=api,
            CHATAPI_RATE_LIMIT="0",
            CHATAPI_DEFAULT_MODEL=MODEL,
        ).start()
        try:
            with openai.OpenAI(base_url=f"{service.url}/v1", api_key=KEY, max_retries=0) as sdk:
                for check in checks:
                    failure, known = _run(check, Drive(service, sdk)), KNOWN.get((name, api, check))
                    wrong += (failure is None) is (known is not None)
                    result = "passes" if failure is None else f"fails: {known or failure}"
                    print(f"{name:12} {api:10} {check.__name__.replace('_', ' '):22} {result}", flush=True)
        finally:
            service.stop()
    return wrong


def _run(check: Check, drive: Drive) -> str | None:
    """Run a check; return why it fails, or nothing if it holds."""
    try:
        check(drive)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{Path(place.filename).name}:{place.lineno}: {place.line} {error}"[:1000]
    return None


if __name__ == "__main__":
    sys.exit(main())
