"""The seed's contract, to the letter: its commands, its example, its bodies, headers and errors."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
import uvicorn

from chatapi.app import create_app
from chatapi.settings import Settings
from chatapi.simulator import Gate, Script, Simulator, answer, refuse, scripts
from tests.server_process import KEY, PROJECT, Serve, Service

ADDRESS = "http://127.0.0.1:8000"
SEED_KEY = "sk-proj-your-api-key-here"
BAD_FORMAT = b"Invalid API Key format. The key should start with 'sk-proj-' and be 164 characters long."
SESSION_NOT_FOUND = b'{"detail":"Session not found"}'
SECONDS = 30.0  # for a program that ends by itself

HEALTH = "curl -X GET http://127.0.0.1:8000/api/health"
TEST_KEY = """curl -X POST http://127.0.0.1:8000/api/test-key \\
  -H "Content-Type: application/json" \\
  -d '{"api_key": "sk-proj-your-api-key-here"}'"""
NEW_SESSION = """curl -X POST http://127.0.0.1:8000/api/sessions \\
  -H "Content-Type: application/json" \\
  -d '{"developer_message": "You are a helpful coding assistant."}'"""
CHAT = """curl -X POST http://127.0.0.1:8000/api/chat \\
  -H "Content-Type: application/json" \\
  -d '{
    "developer_message": "You are a helpful assistant.",
    "user_message": "Hello, how are you?",
    "api_key": "sk-proj-your-api-key-here"
  }'"""
GET_SESSION = "curl -X GET http://127.0.0.1:8000/api/sessions/{session_id}"
DELETE_SESSION = "curl -X DELETE http://127.0.0.1:8000/api/sessions/{session_id}"

EXAMPLE = """import requests

# Test your API key
response = requests.post("http://127.0.0.1:8000/api/test-key", 
                        json={"api_key": "sk-proj-your-key"})
print(response.json())

# Send a chat message
chat_data = {
    "developer_message": "You are a helpful coding assistant.",
    "user_message": "Write a Python function to calculate fibonacci numbers.",
    "api_key": "sk-proj-your-key"
}

response = requests.post("http://127.0.0.1:8000/api/chat", 
                        json=chat_data, stream=True)

for chunk in response.iter_content(chunk_size=1024):
    if chunk:
        print(chunk.decode(), end='')
"""  # noqa: W291 - to the letter

LANGUAGES = "東京タワー 👩\u200d👩\u200d👧 наука naïve 👋🏽 العربية ไทย 𐌰𐌱𐌲 🎉 한국어 x"
LONG = LANGUAGES * 1000  # more than 100 KB, without powers of two


@pytest.fixture(scope="module")
def server(serve_module: Serve) -> Service:
    return serve_module()


def typed(command: str, server: Service, key: str = KEY, session_id: str = "{session_id}") -> bytes:
    """Run the command; return its output as a user sees it."""
    command = command.replace(ADDRESS, server.url).replace(SEED_KEY, key).replace("{session_id}", session_id)
    return subprocess.run(command, shell=True, check=True, capture_output=True, timeout=SECONDS).stdout


def is_utc_with_offset(text: str) -> bool:
    at = datetime.fromisoformat(text)
    return at.utcoffset() == timedelta(0) and abs(datetime.now(UTC) - at) < timedelta(minutes=1)


# The commands


def test_the_health_command_prints_ok_and_the_number_of_sessions(server: Service) -> None:
    before = json.loads(typed(HEALTH, server))
    typed(NEW_SESSION, server)
    after = json.loads(typed(HEALTH, server))
    assert before["status"] == after["status"] == "ok"
    assert after["active_sessions"] == before["active_sessions"] + 1
    assert is_utc_with_offset(after["timestamp"])


def test_the_test_key_command_prints_that_a_good_key_is_valid(server: Service) -> None:
    found = json.loads(typed(TEST_KEY, server))
    assert found["valid"] is True
    assert found["message"]


def test_the_session_commands_create_show_and_delete_a_session(server: Service) -> None:
    made = json.loads(typed(NEW_SESSION, server))
    assert made.keys() == {"session_id", "message", "created_at"}
    assert made["message"] == "Session created successfully"
    assert is_utc_with_offset(made["created_at"])

    shown = json.loads(typed(GET_SESSION, server, session_id=made["session_id"]))
    assert shown.keys() >= {"session_id", "developer_message", "message_count", "created_at", "last_updated"}
    assert shown["session_id"] == made["session_id"]
    assert shown["developer_message"] == "You are a helpful coding assistant."
    assert shown["message_count"] == 0
    assert shown["created_at"] == made["created_at"]
    assert is_utc_with_offset(shown["last_updated"])

    deleted = typed(DELETE_SESSION, server, session_id=made["session_id"])
    assert deleted == b'{"message":"Session deleted successfully"}'
    assert typed(GET_SESSION, server, session_id=made["session_id"]) == SESSION_NOT_FOUND
    assert typed(DELETE_SESSION, server, session_id=made["session_id"]) == SESSION_NOT_FOUND


def test_the_chat_command_prints_only_the_answer(server: Service, upstream: Simulator) -> None:
    upstream.script = answer("I am fine, thank you. 🎉")
    assert typed(CHAT, server).decode() == "I am fine, thank you. 🎉"


@pytest.mark.parametrize("command", [TEST_KEY, CHAT])
def test_a_command_with_the_placeholder_key_prints_the_key_format(
    server: Service, upstream: Simulator, command: str
) -> None:
    asked = len(upstream.requests)
    assert typed(command, server, key=SEED_KEY) == b'{"detail":"' + BAD_FORMAT + b'"}'
    assert len(upstream.requests) == asked


@pytest.mark.parametrize("command", [GET_SESSION, DELETE_SESSION])
def test_a_command_with_the_placeholder_session_prints_not_found(server: Service, command: str) -> None:
    assert typed(command, server) == SESSION_NOT_FOUND


# The example


@pytest.mark.table
@pytest.mark.parametrize(
    ("script", "text"),
    [
        pytest.param(answer(LONG, chunk=5), LONG, id="in many small pieces"),
        pytest.param(answer(LONG, chunk=len(LONG)), LONG, id="in one big burst"),
        pytest.param(answer(LONG, chunk=1021), LONG, id="in pieces that fit no chunk"),
        pytest.param(scripts.in_one_write(LONG), LONG, id="in one write"),
        pytest.param(scripts.split_characters(LANGUAGES * 5), LANGUAGES * 5, id="cut inside its characters"),
    ],
)
def test_the_python_example_prints_an_answer_in_any_language(
    server: Service, upstream: Simulator, script: Script, text: str
) -> None:
    upstream.script = lambda request: script if request.path.endswith("/completions") else None
    program = EXAMPLE.replace(ADDRESS, server.url).replace("sk-proj-your-key", KEY)
    printed = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        timeout=SECONDS,
        env=os.environ | {"PYTHONUTF8": "1"},
    ).stdout.decode()
    about_the_key, _, said = printed.partition("\n")
    assert "'valid': True" in about_the_key
    assert said == text


# Headers and bodies


def test_a_chat_sends_its_session_and_its_limits_before_the_first_byte(server: Service, upstream: Simulator) -> None:
    gate = Gate()
    upstream.script = scripts.held(gate, before="")
    with server.send() as response:  # the headers have arrived, and no text
        assert response.status_code == 200
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert response.headers["X-Session-ID"]
        assert response.headers["X-RateLimit-Limit"].isdecimal()
        assert response.headers["X-RateLimit-Remaining"].isdecimal()
        gate.open()
        assert response.text == " there."


def test_a_chat_shows_the_tighter_of_our_limit_and_the_upstreams(server: Service, upstream: Simulator) -> None:
    with server.send() as ours:  # the demo upstream allows 10,000 requests a minute, we allow 600
        assert ours.headers["X-RateLimit-Limit"] == "600"
        assert ours.headers["x-ratelimit-limit-requests"] == "10000"
    upstream.script = answer("Hi")
    with server.send() as theirs:  # this upstream allows 60 and has 59 left
        assert (theirs.headers["X-RateLimit-Limit"], theirs.headers["X-RateLimit-Remaining"]) == ("60", "59")


def test_a_session_created_by_a_chat_has_the_developer_message_and_counts_its_messages(server: Service) -> None:
    with server.send() as response:
        assert response.text
    shown = server.get(f"/api/sessions/{response.headers['X-Session-ID']}").json()
    assert shown["developer_message"] == "You are a helpful assistant."
    assert shown["message_count"] == 2
    assert shown["last_updated"] >= shown["created_at"]


@pytest.mark.parametrize("session_id", [None, ""])
def test_a_chat_without_a_session_creates_one(server: Service, session_id: str | None) -> None:
    with server.send(developer_message="Hi.", session_id=session_id) as response:
        assert response.status_code == 200
    assert server.get(f"/api/sessions/{response.headers['X-Session-ID']}").status_code == 200


def test_a_chat_in_an_unknown_session_has_the_seeds_error(server: Service) -> None:
    with server.send(session_id="ses_never-was") as response:
        assert (response.status_code, response.content) == (404, SESSION_NOT_FOUND)
        assert response.headers["Content-Type"] == "application/json"


def test_a_chat_uses_the_default_model_or_the_requested_one(server: Service, upstream: Simulator) -> None:
    with server.send():
        assert upstream.requests[-1].body["model"] == "gpt-4.1-mini"
    with server.send(model="gpt-4o"):
        assert upstream.requests[-1].body["model"] == "gpt-4o"


def test_the_key_may_be_a_bearer_token(server: Service, upstream: Simulator) -> None:
    body = {"developer_message": "Hi.", "user_message": "Hello"}
    assert server.post("/api/chat", key=KEY, json=body).status_code == 200
    assert upstream.requests[-1].headers["Authorization"] == f"Bearer {KEY}"
    assert server.post("/api/test-key", key=KEY, json={}).json()["valid"] is True


@pytest.mark.parametrize(
    ("status", "message"), [(401, "Authentication failed. Please check your API key."), (403, "ermission")]
)
def test_a_key_that_the_upstream_rejects_is_not_valid(
    server: Service, upstream: Simulator, status: int, message: str
) -> None:
    upstream.script = refuse(status)
    asked = len(upstream.requests)
    response = server.post("/api/test-key", json={"api_key": KEY})
    assert response.status_code == 200
    assert response.json().keys() == {"valid", "message"}
    assert response.json()["valid"] is False
    assert message in response.json()["message"]
    if status == 401:
        assert response.json()["message"] == message
    assert [(request.method, request.path) for request in upstream.requests[asked:]] == [("GET", "/v1/models")]


@pytest.mark.table
@pytest.mark.parametrize(
    "key",
    [
        KEY + "\n",
        KEY[:-1],
        KEY + "a",
        KEY[:-1] + "é",
        KEY[:-1] + "٣",  # a digit, but not an ASCII one
        KEY[:-1] + ".",
        "sk-prog-" + KEY[8:],
        " " + KEY[1:],
        "\0" + KEY[1:],
        "",
        pytest.param("\ud800" * 164, id="half-characters"),
    ],
)
@pytest.mark.parametrize("path", ["/api/chat", "/api/test-key"])
def test_an_invalid_key_format_has_the_seeds_error(server: Service, upstream: Simulator, path: str, key: str) -> None:
    asked = len(upstream.requests)
    body = {"api_key": key} | ({"developer_message": "d", "user_message": "u"} if path == "/api/chat" else {})
    response = server.post(path, json=body)
    assert response.status_code == 400
    assert response.content == b'{"detail":"' + BAD_FORMAT + b'"}'
    assert response.headers["Content-Type"] == "application/json"
    assert len(upstream.requests) == asked


# Browsers

ORIGIN = {"Origin": "https://chat.example.org"}
EXPOSED = {
    "x-session-id",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "retry-after",
    "x-request-id",
    "x-generation-id",
}


@pytest.mark.table
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_a_browser_on_any_site_may_send_requests(server: Service, method: str) -> None:
    asked = "content-type, authorization, x-api-key, idempotency-key, last-event-id"
    preflight = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": asked}
    response = requests.options(f"{server.url}/api/sessions/x", headers=ORIGIN | preflight, timeout=SECONDS)
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] in {"*", ORIGIN["Origin"]}
    assert method in response.headers["Access-Control-Allow-Methods"]
    allowed = response.headers["Access-Control-Allow-Headers"].lower()
    assert allowed == "*" or set(asked.split(", ")) <= set(re.split(r",\s*", allowed))


def may_be_read_by_a_page(response: requests.Response) -> bool:
    exposed = {name.strip().lower() for name in response.headers["Access-Control-Expose-Headers"].split(",")}
    assert "Access-Control-Allow-Credentials" not in response.headers
    return response.headers["Access-Control-Allow-Origin"] == "*" and exposed >= EXPOSED


def test_a_browser_may_read_responses_and_their_headers(server: Service) -> None:
    with server.send(headers=ORIGIN) as response:
        assert may_be_read_by_a_page(response)


@pytest.mark.table
@pytest.mark.parametrize(
    ("path", "key", "status"),
    [
        ("/api/sessions/none", KEY, 404),
        ("/api/sessions/none", None, 401),
        ("/api/none", None, 404),
        ("/api/chat", None, 405),
        ("/api/sessions", None, 401),
    ],
)
def test_a_browser_may_read_errors(server: Service, path: str, key: str | None, status: int) -> None:
    response = server.get(path, key=key, headers=ORIGIN)
    assert response.status_code == status
    assert may_be_read_by_a_page(response)


def test_a_browser_may_read_refusals_of_the_upstream(server: Service, upstream: Simulator) -> None:
    upstream.script = refuse(401)
    with server.send(headers=ORIGIN) as response:
        assert response.status_code == 401
        assert may_be_read_by_a_page(response)


# Ways to serve


def test_it_serves_on_port_8000_of_loopback_by_default() -> None:
    defaults = {name: Settings.model_fields[name].default for name in ("host", "port")}
    assert defaults == {"host": "127.0.0.1", "port": 8000}
    command = [sys.executable, str(PROJECT / "app.py"), "--help"]
    shown = subprocess.run(command, check=True, capture_output=True, timeout=SECONDS, text=True).stdout
    assert ADDRESS in shown


@pytest.mark.one_process("each has a port of its own")
def test_it_serves_on_the_port_of_the_setting(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = serve(PORT=str(port))
    assert server.url == f"http://127.0.0.1:{port}"
    assert server.get("/api/health").json()["status"] == "ok"


def test_uvicorn_can_serve_it_and_notices_that_a_reader_left(upstream: Simulator, gate: Gate, tmp_path: Path) -> None:
    environment = {"DATABASE_URL": f"sqlite:///{tmp_path}/chat.db", "OPENAI_BASE_URL": upstream.url}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "app:app", "--app-dir", str(PROJECT), "--fd", str(listener.fileno())],
            cwd=tmp_path,  # without the `.env` of the project
            env=os.environ | environment,
            pass_fds=[listener.fileno()],
            stderr=subprocess.DEVNULL,
        )
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:  # the socket listens already: the request waits in it until uvicorn accepts it
        assert requests.get(f"{url}/api/health", timeout=SECONDS).json()["status"] == "ok"
        body = {"developer_message": "Hi.", "user_message": "Count to 5", "api_key": KEY}
        assert requests.post(f"{url}/api/chat", json=body, timeout=SECONDS).text == "1 2 3 4 5"
        upstream.script = scripts.held(gate)
        body["on_disconnect"] = "cancel"
        with requests.post(f"{url}/api/chat", json=body, timeout=SECONDS, stream=True) as response:
            assert next(response.iter_content(None)) == b"Hello"
        assert upstream.requests[-1].left.wait(SECONDS)
    finally:
        process.terminate()
        process.wait(SECONDS)


def test_it_answers_below_a_root_path(upstream: Simulator, tmp_path: Path) -> None:
    settings = Settings(database_url=f"sqlite:///{tmp_path}/chat.db", openai_base_url=upstream.url)
    config = uvicorn.Config(create_app(settings), root_path="/behind", log_config=None)
    server = uvicorn.Server(config)
    body = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "Count to 5"}], "stream": True}
    headers = {"Authorization": f"Bearer {KEY}"}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            completion = requests.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=SECONDS)
            assert completion.status_code == 200
            assert completion.text.endswith("data: [DONE]\n\n")
            assert requests.get(f"{url}/web/icon.svg", timeout=SECONDS).status_code == 200
        finally:
            server.should_exit = True
            thread.join(SECONDS)


def test_without_the_packages_it_prints_how_to_install_them(tmp_path: Path) -> None:
    without_packages = [sys.executable, "-E", "-S", str(PROJECT / "app.py")]
    ended = subprocess.run(without_packages, capture_output=True, cwd=tmp_path, timeout=SECONDS, text=True, check=False)
    assert ended.returncode == 1
    assert "pip install -r requirements.txt" in ended.stderr
    assert "./run" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list(tmp_path.iterdir())
