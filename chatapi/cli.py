"""The command line: serve, demo, migrate, doctor."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from chatapi import __version__
from chatapi.auth.keys import make_demo_key
from chatapi.settings import Settings, SettingsError, read_settings, variable_name

EXAMPLE_PRICES = Path(__file__).resolve().parent.parent / "deploy/prices.example.json"  # not where it is installed
SIMULATOR_READY = "Simulator listening on "


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status: 0, or 2 when it cannot start as it is configured; `--help` names others."""
    options = _parser().parse_args(arguments)
    try:
        match options.command:
            case "demo":
                _demo(options.pace_ms)
            case "migrate":
                return _migrate(options.source, options.target)
            case "doctor":
                return _doctor(options.url)
            case _:
                _serve(read_settings())
    except SettingsError as error:
        print(f"Cannot start. {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python app.py",
        description="OpenAI Chat API: streams OpenAI-style models to any client, and keeps the conversation.",
        epilog="Settings are environment variables: "
        + ", ".join(variable_name(name) for name in Settings.model_fields)
        + ". docs/settings.md says what each is for.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="command")
    commands.add_parser(
        "serve", help="serve the API (the default); http://127.0.0.1:8000 unless HOST and PORT say else"
    )
    demo = commands.add_parser("demo", help="serve it with a simulated model: no account, no cost, no network")
    demo.add_argument("--pace-ms", type=int, default=60, help="the simulator's pause between two words (default 60)")
    migrate = commands.add_parser(
        "migrate",
        help="copy a SQLite file into PostgreSQL",
        description="Copy a SQLite file, whole, into an empty PostgreSQL database, and compare the two row by row. "
        "The server that uses the file must be stopped; the file stays as it is, but for answers that were still "
        "running in it: those are closed as interrupted, as a start would do. A run that was cut (Ctrl-C, a lost "
        "connection, a power cut) is run again, and goes on from there. Progress goes to standard error; what to do "
        "next, to standard output.",
        epilog="Exit status: 0, copied and found to be the same; 1, not finished, or not the same: what to do is said; "
        "2, not begun: what to change is said, and no row was copied.",
    )
    migrate.add_argument(
        "--from", dest="source", metavar="sqlite:///PATH", required=True, help="the file; four slashes for /a/full/path"
    )
    migrate.add_argument(
        "--to",
        dest="target",
        metavar="postgresql://USER@HOST:PORT/NAME",
        help="the database; without it, DATABASE_URL, which other users of this machine cannot see as they see this",
    )
    doctor = commands.add_parser(
        "doctor",
        help="check the settings against the real servers",
        description="Check the settings of this environment against the machine and the servers that they name: the "
        "SQLite file, or PostgreSQL and Redis; the model API; limits of the system. A sentence for each check. It "
        "changes nothing that lasts, and prints no secret.",
        epilog="Exit status: 0, nothing failed; 1, something did: what to change is said; 2, the settings cannot be "
        "read.",
    )
    doctor.add_argument(
        "--url",
        metavar="https://HOST",
        help="check also the proxy before a running server: does it hold streams back? The address that clients use",
    )
    return parser


def _migrate(source: str, target: str | None) -> int:
    from chatapi.migrate import MigrationIncomplete, migrate  # here, as below

    try:
        print(migrate(source, target if target is not None else read_settings().database_url))
    except MigrationIncomplete as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _doctor(url: str | None) -> int:
    try:
        settings = read_settings()
    except SettingsError as error:
        print(f"failure  Settings: {error}")
        return 2
    from chatapi.doctor import examine  # here, as below

    try:
        well = examine(settings, url, lambda finding: print(finding, flush=True))
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 1
    return 0 if well else 1


def _serve(settings: Settings, greet: Callable[[str], None] | None = None, demo_key: str | None = None) -> None:
    """Serve; `greet` is told the URL once the port is ours. `demo_key` is shown to everybody."""
    from chatapi.app import create_app  # here, so that --help and a bad setting are answered at once
    from chatapi.server.serve import listen, serve, url_of

    with listen(settings) as listener:
        if greet is not None:
            greet(url_of(listener))
        serve(create_app(settings, demo_key), settings, listener)


def _demo(pace_ms: int) -> None:
    """Serve beside a simulator, and say what to type."""
    command = [sys.executable, "-m", "chatapi.simulator", "--port", "0", "--pace-ms", str(pace_ms), "--until-eof"]
    # A session of its own: Ctrl-C is for us alone, and the simulator goes on while we drain. Its standard input ends
    # however we do, and it with that.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as simulator:
        try:
            assert simulator.stdout is not None
            line = simulator.stdout.readline()
            if not line.startswith(SIMULATOR_READY):
                raise SettingsError("The simulator did not start; its own message is above.")
            os.environ["OPENAI_BASE_URL"] = line.removeprefix(SIMULATOR_READY).split()[0]
            os.environ.setdefault("DATABASE_URL", "sqlite:///data/demo.db")
            if EXAMPLE_PRICES.exists():
                os.environ.setdefault("CHATAPI_PRICES", str(EXAMPLE_PRICES))
            key = make_demo_key()  # another in each start: no other page can know it
            _serve(read_settings(), lambda url: print(_what_to_type(url, key), flush=True), key)
        finally:
            simulator.terminate()


def _what_to_type(url: str, key: str) -> str:
    return f"""
This is the demo: answers come from a simulator, not from a model. Chat at {url}

Or in another terminal:

  KEY={key}
  curl -N -i {url}/api/chat -H 'Content-Type: application/json' -d '{{
    "developer_message": "You are a helpful assistant.", "user_message": "Count to 200", "api_key": "'$KEY'"}}'

Cut it with Ctrl-C, and read the rest (put in the X-Session-ID that it showed; 40 is the bytes you already have):

  curl -N '{url}/api/chat/SESSION/stream?offset=40'
  curl -X POST {url}/api/chat/SESSION/stop
  curl {url}/api/sessions/SESSION/messages

The reference is at {url}/docs. Ctrl-C here ends both.
"""
