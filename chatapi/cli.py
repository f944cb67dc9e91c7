"""The command line: serve, demo, simulator."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence

from chatapi import __version__
from chatapi.settings import Settings, SettingsError, read_settings, variable_name

DEMO_KEY = "sk-proj-" + "demo" * 39  # of the seed's form; the simulator takes any
SIMULATOR_READY = "Simulator listening on "


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status: 0, or 2 when it cannot start as it is configured."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "demo":
            _demo(options.pace_ms)
        else:
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
    return parser


def _serve(settings: Settings, greet: Callable[[str], None] | None = None) -> None:
    """Serve; `greet` is told the URL once the port is ours."""
    from chatapi.app import create_app  # here, so that --help and a bad setting are answered at once
    from chatapi.server import listen, serve, url_of

    with listen(settings) as listener:
        if greet is not None:
            greet(url_of(listener))
        serve(create_app(settings), settings, listener)


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
            _serve(read_settings(), lambda url: print(_what_to_type(url), flush=True))
        finally:
            simulator.terminate()


def _what_to_type(url: str) -> str:
    return f"""
This is the demo: answers come from a simulator, not from a model. In another terminal:

  KEY={DEMO_KEY}
  curl -N -i {url}/api/chat -H 'Content-Type: application/json' -d '{{
    "developer_message": "You are a helpful assistant.", "user_message": "Count to 200", "api_key": "'$KEY'"}}'

Cut it with Ctrl-C, and read the rest (put in the X-Session-ID that it showed; 40 is the bytes you already have):

  curl -N '{url}/api/chat/SESSION/stream?offset=40'
  curl -X POST {url}/api/chat/SESSION/stop
  curl {url}/api/sessions/SESSION/messages

The reference is at {url}/docs. Ctrl-C here ends both.
"""
