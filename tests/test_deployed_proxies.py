"""The example configurations in deploy/, in the real proxies: text passes at once, and the proxy is recognised as one.

Each runs where its program is installed: on Debian, `apt install nginx-light caddy haproxy`.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from chatapi.simulator import Gate, Simulator
from tests.databases import free_port
from tests.reader import Reader
from tests.server_process import KEY, PROJECT, Serve, Service
from tests.test_promises import saying
from tests.waiting import wait_for

BODY = {"user_message": "Hello", "developer_message": "Be brief.", "api_key": KEY}
LARGE_PIECE, LARGE_PIECES = 1 << 20, 7  # more than sockets hold
SEARCHED = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"  # Debian keeps servers there


def nginx(folder: Path, port: int, service: str) -> list[str]:
    """Write the configuration of nginx; return the command."""
    site, _, _ = (PROJECT / "deploy/nginx.conf").read_text().rpartition("server {")
    site = re.sub(r"listen 443 ssl http2;", f"listen 127.0.0.1:{port};", site)
    site = re.sub(r".*(?:\[::\]|ssl_).*\n", "", site).replace("127.0.0.1:8000", service)
    paths = "".join(
        f"{name}_temp_path {folder}/{name}; " for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user} daemon off; pid {folder}/pid; error_log stderr warn; events {{}}\n"
        # The service's X-Accel-Buffering would do as well; without it, the file alone keeps nginx from holding text.
        f"http {{ access_log off; proxy_ignore_headers X-Accel-Buffering; {paths}\n{site} }}"
    )
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]


def caddy(folder: Path, port: int, service: str) -> list[str]:
    """Write the configuration of Caddy; return the command."""
    site = (PROJECT / "deploy/Caddyfile").read_text().replace("127.0.0.1:8000", service)
    site = site.replace("chat.example.org {", f"http://127.0.0.1:{port} {{")
    (folder / "Caddyfile").write_text(f"{{\n\tadmin off\n}}\n{site}")
    return ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


def haproxy(folder: Path, port: int, service: str) -> list[str]:
    """Write the configuration of HAProxy; return the command."""
    text = (PROJECT / "deploy/haproxy.cfg").read_text().replace("bind :8000", f"bind 127.0.0.1:{port}")
    text = re.sub(r"resolvers docker\n(?:    .*\n)+", "", text)
    text, changed = re.subn(r"server-template .*", f"server replica {service}", text)
    assert changed == 1
    (folder / "haproxy.cfg").write_text(text)
    return ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]


PROXIES: dict[str, Callable[[Path, int, str], list[str]]] = {"nginx": nginx, "caddy": caddy, "haproxy": haproxy}


@contextmanager
def running_proxy(name: str, service: Service, folder: Path) -> Iterator[str]:
    """Run a proxy in front of the service, with its log in `folder`; return its URL."""
    binary = shutil.which(name, path=SEARCHED)
    if binary is None:
        pytest.skip(f"{name} is not installed")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = PROXIES[name](folder, port, service.url.removeprefix("http://"))
    with (folder / "log").open("w") as log:
        proxy = subprocess.Popen(
            [binary, *command[1:]], stdout=log, stderr=log, cwd=folder, env={**os.environ, "HOME": str(folder)}
        )

    def is_ready() -> bool:
        assert proxy.poll() is None, (folder / "log").read_text()
        try:
            return requests.get(f"{url}/readyz", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False

    try:
        wait_for(is_ready)
        yield url
    finally:
        proxy.send_signal(signal.SIGTERM)
        proxy.wait(30)


@pytest.fixture(scope="module")
def service(serve_module: Serve) -> Service:
    """A server without heartbeats, which would fill a proxy's buffer."""
    return serve_module(
        CHATAPI_RATE_LIMIT="0", CHATAPI_HEARTBEAT_SECONDS="60", CHATAPI_MAX_ANSWER_BYTES=str(LARGE_PIECE * LARGE_PIECES)
    )


@pytest.mark.one_process("about one process behind each proxy")
@pytest.mark.parametrize("name", PROXIES)
def test_text_passes_at_once_and_the_id_of_a_session_gives_no_access(
    name: str, service: Service, upstream: Simulator, gate: Gate, tmp_path: Path
) -> None:
    ending = Gate()
    upstream.script = saying("Hello", gate, " there", ending)
    with running_proxy(name, service, tmp_path) as url:
        text = Reader(url, "/api/chat", BODY)
        stream = Reader(url, "/api/chat", BODY, headers={"Accept": "text/event-stream"})
        text.read_until("Hello")
        stream.read_until("Hello")
        gate.open()
        text.read_until(" there")
        stream.read_until(" there")
        assert (text.ended, stream.ended) == (False, False), "the model API has not ended its answer"
        ending.open()
        assert text.read_all() == b"Hello there"
        stream.read_all()
        assert (stream.joined("text"), stream.events()[-1][0]) == ("Hello there", "done")
        session = f"/api/sessions/{text.session_id}"
        assert service.get(session).status_code == 200, "on the machine itself, the id is enough"
        assert requests.get(url + session, timeout=10).status_code in {401, 404}
        assert requests.get(url + session, headers={"Authorization": f"Bearer {KEY}"}, timeout=10).status_code == 200


@pytest.mark.one_process("about one process behind nginx")
def test_nginx_reads_no_more_of_an_answer_than_its_client(
    service: Service, upstream: Simulator, tmp_path: Path
) -> None:
    piece = "x" * LARGE_PIECE
    upstream.script = saying(*[piece] * LARGE_PIECES)
    with running_proxy("nginx", service, tmp_path) as url:
        slow = Reader(url, "/api/chat", BODY, receive_buffer=4096)
        service.wait_for_log("generation", session_id=slow.session_id, status="completed")
        assert len(slow.read_all()) == LARGE_PIECE * LARGE_PIECES
    assert "buffered to a temporary file" not in (tmp_path / "log").read_text()
