"""The arguments of the command line, their help, and the completion of shells."""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path

from chatapi import __version__
from chatapi.settings import Settings, variable_name

SHELLS = ("bash", "fish", "zsh")
WIDTH = 100  # of the list of settings
DEVELOPER_MESSAGE = "You are a helpful assistant."
DEMO_PACE_MS = 60


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands and their options."""
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
    serve = commands.add_parser(
        "serve",
        help="serve the API and the chat page (the default), on http://127.0.0.1:8000",
        description="Serve the API and the chat page until SIGTERM or Ctrl-C. Running answers may then continue for "
        "CHATAPI_DRAIN_SECONDS; a second signal ends them. They are stored in both cases.",
        epilog=_describe_settings(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_address(serve)
    demo = commands.add_parser("demo", help="serve with a simulated model: no account, no cost, no network")
    _add_address(demo)
    demo.add_argument(
        "--pace-ms",
        type=int,
        default=DEMO_PACE_MS,
        help="milliseconds between two words of an answer (default: %(default)s)",
    )
    _add_chat(commands)
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
    completion = commands.add_parser(
        "completion",
        help="print a script that completes commands and options in a shell",
        description="Print a script for a shell. For bash: source <(chatapi completion bash). For zsh: the same, after "
        "compinit. For fish: chatapi completion fish | source.",
    )
    completion.add_argument("shell", choices=SHELLS)
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


def _add_chat(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    chat = commands.add_parser(
        "chat",
        help="chat with a running server in this terminal",
        description="Chat with a running server. With a message, or text on standard input, print one answer and end; "
        "the id of the session goes to standard error. The API key is OPENAI_API_KEY, or is asked for. An answer whose "
        "connection is lost is read on; Ctrl-C stops it at the server.",
        epilog="Exit status: 0, the answer is complete; 1, it is not, and the message names the reason; 2, no key.",
    )
    chat.add_argument("message", nargs="*", help="the message; without one, a conversation begins")
    chat.add_argument("--url", default="http://127.0.0.1:8000", help="the server (default: %(default)s)")
    chat.add_argument("--session", metavar="ID", help="the session to continue")
    chat.add_argument("--model", metavar="NAME", help="the model (default: that of the server)")
    chat.add_argument(
        "--system", metavar="TEXT", default=DEVELOPER_MESSAGE, help="the developer message of a new session"
    )


def _describe_settings() -> str:
    """Return the list of all settings with their defaults."""
    lines = ["Settings, as environment variables or lines of the file .env:"]
    for field, info in Settings.model_fields.items():
        default = "" if info.default in {None, ""} else f" (default: {info.default})"
        text = (info.description or "").replace("`", "")
        lines.append(f"\n  {variable_name(field)}{default}")
        lines += textwrap.wrap(text, WIDTH, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


def completion_script(shell: str, parser: argparse.ArgumentParser) -> str:
    """Return a script for `shell` that completes the commands of `chatapi` and their options."""
    commands = _commands(parser)
    options = {name: _options(command) for name, command in commands.items()}
    if shell == "fish":
        lines = ["complete -c chatapi -f", f"complete -c chatapi -n __fish_use_subcommand -a '{' '.join(commands)}'"]
        for name, found in options.items():
            condition = f"'__fish_seen_subcommand_from {name}'"
            lines += [f"complete -c chatapi -n {condition} -l {option.removeprefix('--')}" for option in found]
        return "\n".join(lines) + "\n"
    cases = "\n".join(f"        {name}) words='{' '.join(found)}' ;;" for name, found in options.items())
    script = f"""_chatapi() {{
    local words='{" ".join(commands)}'
    [ "$COMP_CWORD" -le 1 ] || case "${{COMP_WORDS[1]}}" in
{cases}
    esac
    COMPREPLY=($(compgen -W "$words" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
complete -o default -F _chatapi chatapi
"""
    return script if shell == "bash" else f"autoload -U bashcompinit && bashcompinit\n{script}"


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of the commands by name."""
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= action.choices
    return found


def _options(parser: argparse.ArgumentParser) -> list[str]:
    return [name for action in parser._actions for name in action.option_strings if name.startswith("--")]
