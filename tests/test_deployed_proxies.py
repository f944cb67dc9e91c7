"""The example configurations in deploy/, in the real proxies: text passes at once, and the proxy is recognised as one.

Each runs where its program is installed: on Debian, `apt install nginx-light caddy haproxy`.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from chatapi.simulator import Gate, Simulator, scripts
from tests.databases import free_port
from tests.reader import Reader
from tests.server_process import KEY, PROJECT, Serve
from tests.waiting import wait_for

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


@pytest.mark.one_process("about one process behind each proxy")
@pytest.mark.parametrize("name", PROXIES)
def test_text_passes_at_once_and_the_id_of_a_session_gives_no_access(
    name: str, serve_module: Serve, upstream: Simulator, gate: Gate, tmp_path: Path
) -> None:
    binary = shutil.which(name, path=SEARCHED)
    if binary is None:
        pytest.skip(f"{name} is not installed")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    service = serve_module(CHATAPI_RATE_LIMIT="0", CHATAPI_HEARTBEAT_SECONDS="0.1")
    command = PROXIES[name](tmp_path, port, service.url.removeprefix("http://"))
    with (tmp_path / "log").open("w") as log:
        proxy = subprocess.Popen(
            [binary, *command[1:]], stdout=log, stderr=log, cwd=tmp_path, env={**os.environ, "HOME": str(tmp_path)}
        )

    def is_ready() -> bool:
        assert proxy.poll() is None, (tmp_path / "log").read_text()
        try:
            return requests.get(f"{url}/readyz", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False

    try:
        wait_for(is_ready)
        upstream.script = scripts.held(gate)
        body = {"user_message": "Hello", "developer_message": "Be brief.", "api_key": KEY}
        text = Reader(url, "/api/chat", body)
        stream = Reader(url, "/api/chat", body, headers={"Accept": "text/event-stream"})
        text.read_until("Hello")
        stream.read_until("Hello")
        stream.read_until(": ")  # a heartbeat
        assert (text.ended, stream.ended) == (False, False), "the model API has not ended its answer"
        gate.open()
        assert text.read_all() == b"Hello there."
        assert stream.joined("text") == "Hello" or b"there" in stream.read_all()
        session = f"/api/sessions/{text.session_id}"
        assert service.get(session).status_code == 200, "on the machine itself, the id is enough"
        assert requests.get(url + session, timeout=10).status_code in {401, 404}
        assert requests.get(url + session, headers={"Authorization": f"Bearer {KEY}"}, timeout=10).status_code == 200
    finally:
        proxy.send_signal(signal.SIGTERM)
        proxy.wait(30)
