"""The commands: serve, demo, chat, migrate, doctor, backup, restore, retention, completion."""

from __future__ import annotations

import argparse
import gc
import getpass
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from chatapi.arguments import completion_script, make_parser
from chatapi.auth.keys import make_demo_key
from chatapi.environment import read_settings
from chatapi.settings import Settings, SettingsError

if TYPE_CHECKING:
    from chatapi.server.workers import Worker

EXAMPLE_PRICES = Path(__file__).with_name("prices.example.json")
SIMULATOR_READY = "Simulator listening on "
MIB = 1024 * 1024
SECRET = "secret"  # noqa: S105 - the name of a file in a backup
INTERRUPTED = 130  # as shells report a program that Ctrl-C ended
UNREAD = 141  # as they report one whose output has no reader any more
SERVING = frozenset({None, "serve", "demo"})  # commands that continue without a reader of their output


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0, 2 when it cannot start, 130 after Ctrl-C during a start, 141 when
    the program that reads the output has ended, as `head` does.

    `migrate`, `doctor`, `backup` and `restore` have further statuses; their `--help` lists them.
    """
    options = make_parser().parse_args(arguments)
    try:
        status = _run(options)
        if options.command not in SERVING:
            sys.stdout.flush()  # here, where an error is handled
    except SettingsError as error:
        print(f"Cannot start. {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        if options.command in SERVING:
            raise
        _discard_output()
        return UNREAD
    return status


def _discard_output() -> None:
    """Let the interpreter write the buffered rest of the output to nowhere: at its end an error would be shown."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _run(options: argparse.Namespace) -> int:
    match options.command:
        case "demo":
            _demo(options.pace_ms, _overrides(options))
            return 0
        case "chat":
            return _chat(options)
        case "completion":
            print(completion_script(options.shell, make_parser()), end="")
            return 0
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


def _overrides(options: argparse.Namespace) -> dict[str, str]:
    found = {"HOST": options.host, "PORT": options.port}
    return {name: value for name, value in found.items() if value is not None}


def _chat(options: argparse.Namespace) -> int:
    # here, as below
    from chatapi.terminal import ChatClient, Conversation, Failed, converse, printable, send_once

    key = os.environ.get("OPENAI_API_KEY", "").strip()  # a file with the line ends of Windows leaves one
    try:
        if not key and sys.stdin.isatty():
            key = getpass.getpass("API key (not shown): ").strip()
        if not key:
            print("Set OPENAI_API_KEY to your API key.", file=sys.stderr)
            return 2
        if not (key.isascii() and key.isprintable()):
            print("OPENAI_API_KEY: must have ASCII characters alone, without control characters.", file=sys.stderr)
            return 2
        dim = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        client = ChatClient(options.url, key)
        conversation = Conversation(client, sys.stdout, options.system, options.model, dim=dim)
        conversation.session_id = options.session
        text = " ".join(options.message) if options.message or sys.stdin.isatty() else sys.stdin.read()
        if text:
            return send_once(conversation, text)
        with suppress(ImportError):
            import readline  # noqa: F401 - `input` uses it: lines can be edited and repeated
        if options.session is not None:
            conversation.show(options.session)
        return converse(conversation)
    except Failed as failure:
        print(printable(str(failure)), file=sys.stderr)
        return 1


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
    """Serve until a signal; return the exit status. `greet` receives the URL when requests are answered.

    With several workers, each of them and their supervisor return from here.
    """
    gc.disable()  # imported modules stay: searching them for garbage again and again would take a sixth of a start
    from chatapi.front import create_front  # here, so that --help and an impossible setting are answered at once
    from chatapi.server.serve import listen, listen_for_metrics, serve

    if settings.workers > 1:
        import chatapi.app  # noqa: F401  # before the fork: the workers share its memory, and no request waits for it
    gc.freeze()  # no collection looks at what was imported; of workers, one would also copy the memory that they share
    gc.enable()
    with listen(settings) as listener:
        worker = _become_worker(settings) if settings.workers > 1 else None
        if isinstance(worker, int):
            return worker
        metrics_listener = listen_for_metrics(settings, worker.number if worker is not None else 0)
        app = create_front(settings, demo_key, worker and worker.replica, worker and worker.member)
        try:
            serve(app, settings, listener, metrics_listener, greet)
        finally:
            if metrics_listener is not None:
                metrics_listener.close()
    return 0


def _become_worker(settings: Settings) -> Worker | int:
    """Supervise workers, and return the exit status; in each of the workers, return at once."""
    import asyncio  # here, as above

    from chatapi.server.workers import Supervisor, logger
    from chatapi.telemetry import logging as telemetry
    from chatapi.wiring import prepare_file
    from chatapi.worker_group import WorkerGroup

    telemetry.configure(settings)
    group = None
    if not settings.uses_postgres:
        asyncio.run(prepare_file(settings))  # the lock that it returns is held until the last process has ended
        group = WorkerGroup(settings.workers, settings.database_path.parent)
    elif settings.redis_url is None:
        logger.warning("each worker has limits of its own", advice="set REDIS_URL, so that they share them")
    worker = Supervisor(settings.workers, group).run()
    if isinstance(worker, int) and group is not None:
        group.close()
    return worker


def _demo(pace_ms: int, overrides: Mapping[str, str]) -> None:
    """Serve with a simulator as the model API, and print commands to try."""
    command = [sys.executable, "-m", "chatapi.simulator", "--port", "0", "--pace-ms", str(pace_ms), "--until-eof"]
    search_path = os.pathsep.join(filter(None, (str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH"))))
    # In a session of its own: Ctrl-C reaches only this process, and the simulator answers during the drain. Its
    # standard input closes however this process ends, and then it ends too.
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": search_path},  # also where this package is not installed, in any folder
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
