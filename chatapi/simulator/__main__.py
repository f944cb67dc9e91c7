"""`python -m chatapi.simulator`: serve demo answers on a port until a signal arrives."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys

from .server import Simulator

DEFAULT_PORT = 9000
DEFAULT_PACE_MS = 30.0  # about the speed of a hosted model
MAX_PORT = 65_535

EXAMPLE = """\
Every key is accepted, except keys that contain "invalid" (401) or "forbidden" (403). Messages to try:
  count to 500             a long answer, to stop, cut and resume
  my name is Ada           and later: what is my name?
  what have I said?        quotes the earlier messages of the request
  show me Markdown         headings, code, a table, formulas
  search for rain          with the tool web_search, over Responses
  hand off to Ada          with tools whose names begin with transfer_to_
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    arguments = argparse.ArgumentParser(
        prog="python -m chatapi.simulator",
        description="A local server that speaks OpenAI's Chat Completions protocol. It is not a real model: it costs "
        "nothing, needs no network, and answers by quoting the request.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    arguments.add_argument(
        "--port", type=_port, default=DEFAULT_PORT, help="the port; 0 picks a free one (default: %(default)s)"
    )
    arguments.add_argument(
        "--pace-ms",
        type=_pace,
        default=DEFAULT_PACE_MS,
        metavar="MS",
        help="milliseconds between two words of an answer (default: %(default)g)",
    )
    arguments.add_argument(
        "--until-eof",
        action="store_true",
        help="exit when standard input is closed, even by a parent that crashed",
    )
    return arguments


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= MAX_PORT:
        raise argparse.ArgumentTypeError(f"a port is between 0 and {MAX_PORT}, not {port}")
    return port


def _pace(text: str) -> float:
    pace = float(text)
    if not 0 <= pace < float("inf"):
        raise argparse.ArgumentTypeError(f"a pace is not negative and finite, unlike {text}")
    return pace


async def serve(host: str, port: int, pace_seconds: float, until_eof: bool = False) -> None:
    """Serve until SIGINT or SIGTERM, or until standard input ends."""
    stopped = asyncio.Event()
    if until_eof:
        asyncio.get_running_loop().add_reader(sys.stdin, stopped.set)  # nothing is written to it: readable means closed
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: there an interrupt ends asyncio.run instead
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    simulator = Simulator(pace_seconds=pace_seconds, kept_requests=0)
    await simulator.start(host, port)
    try:
        print(f"Simulator listening on {simulator.url} (not a real model)", flush=True)
        await stopped.wait()
    finally:
        await simulator.stop()


def main() -> int:
    """Run the command and return its exit status."""
    arguments = parser().parse_args()
    try:
        asyncio.run(serve(arguments.host, arguments.port, arguments.pace_ms / 1000, arguments.until_eof))
    except KeyboardInterrupt:
        pass
    except OSError as error:
        print(f"Cannot listen on {arguments.host}:{arguments.port}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
