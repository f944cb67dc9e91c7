"""The command line: serve, demo, migrate, doctor, backup, restore, retention."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from chatapi import __version__
from chatapi.auth.keys import make_demo_key
from chatapi.settings import Settings, SettingsError, read_settings, variable_name

if TYPE_CHECKING:
    from chatapi.server.workers import Worker

EXAMPLE_PRICES = Path(__file__).with_name("prices.example.json")
SIMULATOR_READY = "Simulator listening on "
MIB = 1024 * 1024
SECRET = "secret"  # noqa: S105 - the name of a file in a backup
INTERRUPTED = 130  # as shells report a program that Ctrl-C ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0, 2 when it cannot start, 130 after Ctrl-C during a start.

    `migrate`, `doctor`, `backup` and `restore` have further statuses; their `--help` lists them.
    """
    options = _parser().parse_args(arguments)
    try:
        match options.command:
            case "demo":
                _demo(options.pace_ms, _overrides(options))
            case "migrate":
                return _migrate(options.source, options.target)
            case "doctor":
                return _doctor(options.url)
            case "backup":
                return _backup(options.folder)
            case "restore":
                return _restore(options.folder, options.replace)
            case "retention":
                return _retention(options.dry_run)
            case _:
                return _serve(read_settings(_overrides(options)))
    except SettingsError as error:
        print(f"Cannot start. {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_program(),
        description="OpenAI Chat API: streams answers of OpenAI-style models to any client, and keeps the "
        "conversation. Without a command it serves.",
        epilog="Settings are environment variables, or lines of the file .env: "
        + ", ".join(variable_name(name) for name in Settings.model_fields)
        + ". docs/settings.md describes them.",
    )
    parser.add_argument("--version", action="version", version=f"OpenAI Chat API {__version__}")
    _add_address(parser, None)
    commands = parser.add_subparsers(dest="command", metavar="command")
    _add_address(
        commands.add_parser("serve", help="serve the API and the chat page (the default), on http://127.0.0.1:8000")
    )
    demo = commands.add_parser("demo", help="serve with a simulated model: no account, no cost, no network")
    _add_address(demo)
    demo.add_argument(
        "--pace-ms", type=int, default=60, help="milliseconds between two words of an answer (default: %(default)s)"
    )
    migrate = commands.add_parser(
        "migrate",
        help="copy a SQLite file into PostgreSQL",
        description="Copy a SQLite file into an empty PostgreSQL database, and compare all rows. Stop the server that "
        "uses the file first. The file stays as it is, except that running answers in it are closed as interrupted, "
        "as a start of the server does. After an interruption (Ctrl-C, a lost connection, a power cut) run the same "
        "command again: it continues. Progress goes to standard error, the next steps to standard output.",
        epilog="Exit status: 0, copied and equal; 1, not finished or not equal; 2, not started, and no row was "
        "copied. The message names the next step.",
    )
    migrate.add_argument(
        "--from",
        dest="source",
        metavar="sqlite:///PATH",
        required=True,
        help="the file; four slashes for an absolute path",
    )
    migrate.add_argument(
        "--to",
        dest="target",
        metavar="postgresql://USER@HOST:PORT/NAME",
        help="the database (default: DATABASE_URL, which other users of this machine cannot see in the process list)",
    )
    doctor = commands.add_parser(
        "doctor",
        help="check the settings against the real servers",
        description="Check the settings against this machine and the servers that they name: the SQLite file, or "
        "PostgreSQL and Redis; the model API; limits of the operating system. Prints one line for each check. Changes "
        "nothing that lasts, and prints no secret.",
        epilog="Exit status: 0, no check failed; 1, a check failed, and its line names the remedy; 2, the "
        "settings cannot be read.",
    )
    doctor.add_argument(
        "--url",
        metavar="https://HOST",
        help="the address that clients use: also check whether the proxy before a running server delays streams",
    )
    _add_backups(commands)
    _add_retention(commands)
    return parser


def _add_backups(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    backup = commands.add_parser(
        "backup",
        help="copy the SQLite file and all that belongs to it, while the server runs",
        description="Copy the SQLite file, the secret and the text of running answers to a new folder. The server may "
        "run: everything that it acknowledged before the backup began is in it. The copy is checked as a whole, and "
        "the folder appears when that succeeded. It contains the secret of the owners and all conversations: keep it "
        "as carefully as the original.",
        epilog="Exit status: 0, made and verified; 1, not made, and the message names the reason; 2, the settings "
        "cannot be read.",
    )
    backup.add_argument("folder", type=Path, help="the folder to create")
    restore = commands.add_parser(
        "restore",
        help="put a backup in the place of the settings",
        description="Check a backup as a whole, and put it in the place that DATABASE_URL names. Stop the server "
        "first. After an interruption run the same command again.",
        epilog="Exit status: 0, restored; 1, not restored, and the message names the reason; 2, the settings cannot "
        "be read.",
    )
    restore.add_argument("folder", type=Path, help="the folder of the backup")
    restore.add_argument(
        "--replace", action="store_true", help="move data that is there into a folder beside it, which is printed"
    )


def _add_retention(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    retention = commands.add_parser(
        "retention",
        help="delete the sessions that have expired, or count them",
        description="Delete the sessions whose last message or change is older than CHATAPI_RETENTION_DAYS (for "
        "temporary ones CHATAPI_TEMPORARY_DAYS), and those whose `expires_at` has passed. A running server does this "
        "by itself, every ten minutes; with SQLite this command needs the server to be stopped.",
        epilog="Exit status: 0, done; 2, the settings or the database make it impossible.",
    )
    retention.add_argument(
        "--dry-run", action="store_true", help="only count them; the server may run, and nothing is changed"
    )


def _add_address(parser: argparse.ArgumentParser, default: str | None = argparse.SUPPRESS) -> None:
    parser.add_argument("--host", default=default, help="the address to listen on (default: HOST, or 127.0.0.1)")
    parser.add_argument("--port", default=default, help="the port to listen on (default: PORT, or 8000)")


def _program() -> str:
    name = Path(sys.argv[0]).name
    return {"app.py": "python app.py", "__main__.py": "python -m chatapi"}.get(name, name)


def _overrides(options: argparse.Namespace) -> dict[str, str]:
    found = {"HOST": options.host, "PORT": options.port}
    return {name: value for name, value in found.items() if value is not None}


def _migrate(source: str, target: str | None) -> int:
    from chatapi.migrate import MigrationIncomplete, migrate  # here, as below

    try:
        print(migrate(source, target if target is not None else read_settings().database_url))
    except MigrationIncomplete as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _doctor(url: str | None) -> int:
    from chatapi.doctor import run_checks  # here, as below

    try:
        well = run_checks(read_settings(), url, lambda finding: print(finding, flush=True))
    except SettingsError as error:
        print(f"failure  Settings: {error}")
        return 2
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 1
    return 0 if well else 1


def _backup(folder: Path) -> int:
    settings = read_settings()
    from chatapi.backup import BackupFailed, backup  # here, as below

    try:
        manifest = backup(settings, folder, _show_progress)
    except BackupFailed as error:
        print(error, file=sys.stderr)
        return 1
    size = sum(file.size for file in manifest.files)
    print(
        f"{folder}: {manifest.sessions} sessions with {manifest.messages} messages, {size / MIB:.1f} MiB in "
        f"{len(manifest.files)} files, verified."
    )
    if SECRET not in {file.name for file in manifest.files}:
        print("It does not contain the secret, which is in CHATAPI_SECRET: keep that too.")
    return 0


def _restore(folder: Path, replace: bool) -> int:
    settings = read_settings()
    from chatapi.backup import BackupFailed, restore  # here, as below

    try:
        manifest, replaced = restore(settings, folder, replace)
    except BackupFailed as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{settings.database_path}: {manifest.sessions} sessions of {manifest.created_at} restored.")
    if replaced is not None:
        print(f"The data that was there is in {replaced}. Delete that when you do not need it any more.")
    return 0


def _retention(dry_run: bool) -> int:
    settings = read_settings()
    from chatapi.expiry import count_expired, delete_expired  # here, as below

    found = count_expired(settings) if dry_run else delete_expired(settings)
    what = "would be deleted" if dry_run else "were deleted"
    print(f"{found.sessions} sessions with {found.messages} messages {what}.")
    return 0


def _show_progress(line: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


def _serve(settings: Settings, greet: Callable[[str], None] | None = None, demo_key: str | None = None) -> int:
    """Serve until a signal; return the exit status. `greet` receives the URL as soon as the port is open.

    With several workers, each of them and their supervisor return from here.
    """
    from chatapi.app import create_app  # here, so that --help and an impossible setting are answered at once
    from chatapi.server.serve import listen, listen_for_metrics, serve, url_of

    with listen(settings) as listener:
        if greet is not None:
            greet(url_of(listener))
        worker = _become_worker(settings) if settings.workers > 1 else None
        if isinstance(worker, int):
            return worker
        metrics_listener = listen_for_metrics(settings, worker.number if worker is not None else 0)
        try:
            serve(create_app(settings, demo_key, worker and worker.replica), settings, listener, metrics_listener)
        finally:
            if metrics_listener is not None:
                metrics_listener.close()
    return 0


def _become_worker(settings: Settings) -> Worker | int:
    """Supervise workers, and return the exit status; in each of the workers, return at once."""
    from chatapi.server.workers import Supervisor, logger  # here, as above
    from chatapi.telemetry import logging as telemetry

    telemetry.configure(settings)
    if settings.redis_url is None:
        logger.warning("each worker has limits of its own", advice="set REDIS_URL, so that they share them")
    return Supervisor(settings.workers).run()


def _demo(pace_ms: int, overrides: Mapping[str, str]) -> None:
    """Serve with a simulator as the model API, and print commands to try."""
    command = [sys.executable, "-m", "chatapi.simulator", "--port", "0", "--pace-ms", str(pace_ms), "--until-eof"]
    # In a session of its own: Ctrl-C reaches only this process, and the simulator answers during the drain. Its
    # standard input closes however this process ends, and then it ends too.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as simulator:
        try:
            assert simulator.stdout is not None
            line = simulator.stdout.readline()
            if not line.startswith(SIMULATOR_READY):
                raise SettingsError("The simulator did not start; its own message is above.")
            url = line.removeprefix(SIMULATOR_READY).split()[0]
            overrides = {**overrides, "CHATAPI_WORKERS": "1"}
            defaults = {"DATABASE_URL": "sqlite:///data/demo.db", "CHATAPI_PRICES": str(EXAMPLE_PRICES)}
            key = make_demo_key()  # a new one for each start, so that no other page knows it
            _serve(read_settings({**overrides, "OPENAI_BASE_URL": url}, defaults), partial(_greet, key), key)
        finally:
            simulator.terminate()


def _greet(key: str, url: str) -> None:
    with suppress(OSError):  # standard output may be closed: the demo serves all the same
        print(_commands_to_try(url, key), flush=True)


def _commands_to_try(url: str, key: str) -> str:
    return f"""
This is the demo: answers come from a simulator, not from a model. Chat at {url}

Or in another terminal:

  KEY={key}
  curl -N -i {url}/api/chat -H 'Content-Type: application/json' -d '{{
    "developer_message": "You are a helpful assistant.", "user_message": "Count to 200", "api_key": "'$KEY'"}}'

Cut it with Ctrl-C, and read the rest. Replace SESSION with the X-Session-ID of the answer, and 40 with the number of
bytes that you have:

  curl -N '{url}/api/chat/SESSION/stream?offset=40' -H "Authorization: Bearer $KEY"
  curl -X POST {url}/api/chat/SESSION/stop -H "Authorization: Bearer $KEY"
  curl {url}/api/sessions/SESSION/messages -H "Authorization: Bearer $KEY"

The reference is at {url}/docs. Ctrl-C here stops the server and the simulator.
"""
