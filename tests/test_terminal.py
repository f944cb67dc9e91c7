"""`chatapi chat`: one answer for scripts, a conversation in a terminal, answers that outlive their connection."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from chatapi.cli import main
from chatapi.simulator import Gate, Hang, Script, Send, Simulator, refuse, scripts
from chatapi.terminal import ChatClient, Conversation, Failed, converse
from chatapi.terminal.conversation import HELP
from tests.proxies import Relay
from tests.server_process import KEY, PROJECT, Serve, Service, environment_without_settings, fresh_key
from tests.waiting import wait_for

pytestmark = pytest.mark.one_process("a client of the public routes")

SECONDS = 30.0
PROMPT = r"(> |\.\.\. )$"


@pytest.fixture(scope="module")
def server(serve_module: Serve) -> Service:
    return serve_module(CHATAPI_RATE_LIMIT="0")


def chat(*arguments: str, key: str = KEY, text: str = "") -> subprocess.CompletedProcess[str]:
    environment = environment_without_settings() | {"PYTHONPATH": str(PROJECT), "OPENAI_API_KEY": key}
    command = [sys.executable, "-m", "chatapi", "chat", *arguments]
    return subprocess.run(
        command, input=text, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )


def test_one_answer_and_the_next_one_in_the_same_session(server: Service) -> None:
    first = chat("--url", server.url, "Count", "to 3")
    assert (first.returncode, first.stdout) == (0, "1 2 3\n")
    session_id = first.stderr.removeprefix("session ").strip()
    second = chat("--url", server.url, "--session", session_id, text="Count to 2")
    assert (second.returncode, second.stdout, second.stderr) == (0, "1 2\n", first.stderr)
    texts = [message["content"] for message in server.messages(session_id, key=KEY)]
    assert texts == ["Count to 3", "1 2 3", "Count to 2", "1 2"]


def test_failures_are_one_sentence_and_status_1(server: Service, upstream: Simulator) -> None:
    unreachable = chat("--url", "http://127.0.0.1:9", "Hi")
    assert unreachable.returncode == 1
    assert "http://127.0.0.1:9 cannot be reached" in unreachable.stderr
    assert chat("--url", server.url, "Hi", key="").returncode == 2
    upstream.script = refuse(400, message="No.\x1b]0;title\x07")
    refused = chat("--url", server.url, "Hi")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "No.\ufffd]0;title\ufffd" in refused.stderr, "no control characters for the terminal to obey"
    said = io.StringIO()
    Conversation(ChatClient(server.url, KEY), said, "", dim=True).say("No.\x1b[31m")
    assert said.getvalue() == "\x1b[2mNo.\ufffd[31m\x1b[0m\n"
    upstream.script = scripts.cut_after("Half")
    cut = chat("--url", server.url, "Hi")
    assert cut.returncode == 1
    assert cut.stdout.startswith("Half\nThe answer is not complete: ")


def test_a_key_with_a_line_end_is_used_and_an_impossible_one_is_not_shown(
    server: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\r\n")
    assert (main(["chat", "--url", server.url, "Count to 2"]), capsys.readouterr().out) == (0, "1 2\n")
    for key in ("sk-\u202fkey", "sk-\rkey"):
        monkeypatch.setenv("OPENAI_API_KEY", key)
        assert main(["chat", "--url", server.url, "Hi"]) == 2
        shown = capsys.readouterr()
        assert (shown.out, shown.err.count("\n"), "sk-" in shown.err) == ("", 1, False)


class _CutOnce:
    """Ends the connection in the middle of the first answer."""

    def __init__(self) -> None:
        self.done = False

    def __call__(self, data: bytes) -> bytes:
        if not self.done and b" there" in data:
            self.done = True
            raise OSError
        return data


class _Out(io.StringIO):
    """Lets the model go on when its first word is shown."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self._gate = gate

    def write(self, text: str) -> int:
        if "Hello" in text:
            self._gate.open()
        return super().write(text)


def test_an_answer_is_read_on_after_a_lost_connection(server: Service, upstream: Simulator, gate: Gate) -> None:
    upstream.script = scripts.held(gate, "Hello", " there.")
    cut, out, pauses = _CutOnce(), _Out(gate), list[float]()
    with Relay(urlsplit(server.url).port or 0, of_server=cut) as relay:
        client = ChatClient(f"http://127.0.0.1:{relay.port}", KEY, sleep=pauses.append)
        assert Conversation(client, out, "Be brief.").send("Hi")
    assert cut.done
    assert len(pauses) == 1
    assert out.getvalue() == "Hello there.\n"


def test_an_answer_whose_reader_has_ended_is_stopped(server: Service, upstream: Simulator, gate: Gate) -> None:
    """As in `chatapi chat TEXT | head -1`: nothing shows the rest, so nothing pays for it."""
    held = scripts.held(gate)
    unfinished = list(held.steps)[:-2]  # without the finish reason and the end
    upstream.script = Script(headers=held.headers, steps=(*unfinished, Hang()))
    environment = environment_without_settings() | {"PYTHONPATH": str(PROJECT), "OPENAI_API_KEY": KEY}
    command = [sys.executable, "-m", "chatapi", "chat", "--url", server.url, "Hi"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        assert program.stdout.read(5) == b"Hello"
        program.stdout.close()
        gate.open()
        errors = program.stderr.read().decode()
        assert program.wait(SECONDS) == 141
    found = re.fullmatch(r"session (ses_\S+)\n", errors)
    assert found, errors
    last = server.messages(found[1], key=KEY)[-1]
    assert (last["content"], last["status"]) == ("Hello there.", "stopped")


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"session_id":1}', b"\xff", b"[" * 100_000])
def test_a_server_of_another_kind_is_one_sentence(upstream: Simulator, data: bytes) -> None:
    client = ChatClient(upstream.url, KEY)
    upstream.script = scripts.event_stream(Send(b"event: session\ndata: " + data + b"\n\n"))
    with pytest.raises(Failed, match="not one of this API"):
        list(client.send({"user_message": "Hi"}))
    upstream.script = scripts.event_stream(Send(data))
    with pytest.raises(Failed, match=r"not one of this API|broke off"):
        client.sessions(1)
    upstream.script = scripts.event_stream(Send(b'{"data":[%b]}' % (data if data == b"[]" else b"{}")))
    with pytest.raises(Failed, match="not one of this API"):
        client.messages("ses_1", 1)


def test_a_server_that_stays_away_ends_the_attempts() -> None:
    for url in ("ftp://a", "http://", "localhost:80a", "http://[::1", f"http://{'a' * 64}.example"):
        with pytest.raises(Failed, match="must be the http or https address"):
            ChatClient(url, KEY)
    with pytest.raises(Failed, match="cannot be reached"):
        list(ChatClient("127.0.0.1:9", KEY).send({"user_message": "Hi"}))


def talk(server: Service, *lines: str | type[BaseException]) -> tuple[int, str]:
    """Return the status and the output of a conversation in which these lines are typed, or these keys pressed."""
    typed, out = iter([*lines, EOFError]), io.StringIO()

    def read(prompt: str) -> str:
        line = next(typed)
        if isinstance(line, str):
            return line
        raise line

    return converse(Conversation(ChatClient(server.url, fresh_key("talk")), out, "Be brief."), read), out.getvalue()


def test_each_command_says_what_it_did(server: Service, upstream: Simulator) -> None:
    status, shown = talk(
        server,
        *("/sessions", "/history", "/again", "/open 1", "  ", KeyboardInterrupt, "/help"),
        *("/model gpt-4.1-nano", "Count to 2", "/model", "Count to 3", "/history", "/open 7", "/quit"),
    )
    begin, said, end = shown.partition("Model: gpt-4.1-nano\n1 2\nModel: the default of the server\n1 2 3\n")
    assert begin.splitlines()[1:6] == [
        "There are no sessions yet.",
        "There is no message yet in this session.",
        "There is no answer yet in this session.",
        "Session not found",
        "Ctrl-D ends.",
    ]
    assert HELP in begin
    assert said, shown
    assert end == "> Count to 2\n1 2\n> Count to 3\n1 2 3\nSession not found\n"
    assert [request.body["model"] for request in upstream.requests[-2:]] == ["gpt-4.1-nano", "gpt-4.1-mini"]
    assert status == 0


@pytest.mark.parametrize(
    ("finish_reason", "sentence"),
    [
        ("length", "The answer is not complete: it has reached the limit of its length."),
        ("content_filter", "The answer is not complete: the model API's content filter ended it."),
    ],
)
def test_an_answer_that_was_cut_short_is_not_a_success(
    server: Service, upstream: Simulator, finish_reason: str, sentence: str
) -> None:
    upstream.script = lambda request: scripts.answer("Half", finish_reason=finish_reason)
    out = io.StringIO()
    assert not Conversation(ChatClient(server.url, KEY), out, "").send("Hi")
    assert out.getvalue() == f"Half\n{sentence}\n"


class Terminal:
    """The program in a terminal."""

    def __init__(self, *arguments: str) -> None:
        pid, self._descriptor = pty.fork()
        if pid == 0:
            environment = environment_without_settings() | {
                "PYTHONPATH": str(PROJECT),
                "OPENAI_API_KEY": KEY,
                "TERM": "dumb",
                "NO_COLOR": "1",
                "PATH": os.environ["PATH"],
            }
            os.execve(sys.executable, [sys.executable, "-m", "chatapi", "chat", *arguments], environment)
        self.pid = pid
        self.shown = ""

    def type(self, line: str) -> None:
        """Type a line at the next prompt."""
        self.expect(PROMPT)
        os.write(self._descriptor, line.encode() + b"\n")

    def interrupt(self) -> None:
        os.write(self._descriptor, b"\x03")

    def expect(self, pattern: str) -> re.Match[str]:
        """Read until the pattern has been shown since the last one; return the match."""
        until = time.monotonic() + SECONDS
        while (found := re.search(pattern, self.shown)) is None:
            assert select.select([self._descriptor], [], [], max(0, until - time.monotonic()))[0], self.shown
            self.shown += os.read(self._descriptor, 65536).decode().replace("\r", "")
        self.shown = self.shown[found.end() :]
        return found

    def wait(self) -> int:
        """Type Ctrl-D at the next prompt; return the exit status."""
        self.expect(PROMPT)
        os.write(self._descriptor, b"\x04")
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self._descriptor)
        return status


@contextmanager
def in_terminal(*arguments: str) -> Iterator[Terminal]:
    terminal = Terminal(*arguments)
    guard = threading.Timer(SECONDS, os.kill, (terminal.pid, signal.SIGKILL))
    guard.start()
    try:
        yield terminal
    finally:
        guard.cancel()


def test_a_conversation_with_its_commands(server: Service, upstream: Simulator, gate: Gate) -> None:
    with in_terminal("--url", server.url) as terminal:
        terminal.type("Count to 2")
        terminal.expect("\n1 2\n")
        terminal.type("/again")
        terminal.expect("\n1 2\n")
        upstream.script = scripts.held(gate, "Hello", " there.")
        terminal.type("Say \\")
        terminal.type("hello")
        terminal.expect("Hello")
        terminal.interrupt()
        terminal.expect("Stopped. The text so far is kept.")
        terminal.type("/new")
        upstream.script = scripts.never_answers()
        seen = len(upstream.requests)
        terminal.type("Never answered")
        wait_for(lambda: len(upstream.requests) > seen)
        terminal.interrupt()
        terminal.expect("Not waiting any more.")
        upstream.script = None
        terminal.type("/sessions")
        session_id = terminal.expect(r"2  Count to 2  (ses_\S+)")[1]
        terminal.type("/new")
        terminal.type("/open 2")
        terminal.expect(r"> Say \nhello[\s\S]*Hello")
        terminal.type("/nonsense")
        terminal.expect("does not exist")
        assert terminal.wait() == 0
    last = server.messages(session_id, key=KEY)[-1]
    assert (last["content"], last["status"]) == ("Hello", "stopped")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_names_every_command(tmp_path: Path, shell: str) -> None:
    command = [sys.executable, "-m", "chatapi", "completion", shell]
    script = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=SECONDS, check=True).stdout
    for name in ("serve", "demo", "chat", "doctor", "migrate", "backup", "restore", "retention"):
        assert name in script
    if shell == "bash":
        (tmp_path / "script").write_text(script)
        words = "source ./script; COMP_WORDS=(chatapi re); COMP_CWORD=1; _chatapi; echo ${COMPREPLY[*]}"
        shown = subprocess.run(["bash", "-c", words], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        assert shown.split() == ["restore", "retention"]
