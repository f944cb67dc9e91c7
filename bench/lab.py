"""The servers of a measurement: the source, nginx, the service on each store; and runs of the load client."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import MappingProxyType
from typing import Self

from bench.answers import Script, plain
from bench.client import KEY, Load, Outcome
from bench.databases import Postgres, redis
from bench.processes import BenchError, Process, free_port

NO_SETTINGS: Mapping[str, str] = MappingProxyType({})
START_SECONDS = 30.0
REQUEST_SECONDS = 30.0
CLIENT_START_SECONDS = 30.0  # more than the client needs itself
SLOW_DISK = Path(__file__).with_name("slow_disk.c")
SECRET = "the-secret-that-all-replicas-of-the-bench-share"
UNLIMITED = {"CHATAPI_RATE_LIMIT": "0", "CHATAPI_MAX_GENERATIONS_PER_KEY": "0", "CHATAPI_MAX_GENERATIONS": "0"}
OURS = ("CHATAPI_", "OPENAI_", "REDIS_")  # settings of the service: never the caller's own
NGINX_CONF = """\
{user}daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy;
    fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    upstream source {{ server 127.0.0.1:{source}; keepalive 1024; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=2048;
        keepalive_requests 100000000;
        location / {{
            proxy_pass http://source;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
        }}
    }}
}}
"""


@dataclass(frozen=True)
class Server:
    """A server under load."""

    name: str
    port: int
    process: Process
    raw: bool = False  # speaks the source's protocol: it is a proxy
    store: dict[str, str] = field(default_factory=dict)  # the settings of the service that say where it stores


class Lab:
    """The source, and new servers on demand; all that was started is ended by the end of its `with` block."""

    def __init__(self, folder: Path, app: Path, postgres_url: str | None = None) -> None:
        self.folder = folder
        self.app = app
        self.python = Path(sys.executable)  # that runs the service
        self.starts = 0
        self.limits = UNLIMITED
        self.opened = ExitStack()
        self.database = Postgres(folder / "postgres", postgres_url)
        self.redis: str | None = None

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "bench.source"]
        self.source = Process("source", command, self.folder / "source.log", pipe=True)
        try:
            self.source_port = int(self.source.first_line())
        except BaseException:
            self.source.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.opened.close()
        self.source.end()

    def start_databases(self) -> None:
        """Start the databases of the service on PostgreSQL; they end with the lab."""
        self.opened.enter_context(self.database)
        self.redis = self.opened.enter_context(redis(self.folder / "redis"))

    def databases(self) -> str:
        """Return the versions of PostgreSQL and Redis."""
        return f"PostgreSQL {self.database.version()}, {'with' if self.redis else 'without'} Redis"

    @contextmanager
    def nginx(self) -> Iterator[Server]:
        """A new nginx before the source; it must be installed."""
        binary = nginx_binary()
        assert binary
        home, port = self.new_home("nginx"), free_port()
        user = "user root;\n" if os.geteuid() == 0 else ""
        (home / "nginx.conf").write_text(NGINX_CONF.format(user=user, source=self.source_port, port=port))
        command = [binary, "-p", str(home), "-c", str(home / "nginx.conf")]
        with Process("nginx", command, home / "log") as process:
            process.wait_for_port(port, START_SECONDS)
            yield Server("nginx", port, process, raw=True)

    @contextmanager
    def sqlite(self) -> Iterator[Server]:
        """A new service on a new file, healthy."""
        with self.sqlite_store() as store, self.service("sqlite", store) as server:
            yield server

    @contextmanager
    def postgres(self) -> Iterator[Server]:
        """A new service on an empty PostgreSQL database, healthy."""
        with self.postgres_store() as store, self.service("postgres", store) as server:
            yield server

    @contextmanager
    def sqlite_store(self) -> Iterator[dict[str, str]]:
        """The settings of a service on a new file."""
        home = self.new_home("file")
        yield {"DATABASE_URL": f"sqlite:///{home}/bench.db"}
        shutil.rmtree(home)  # a run's databases are not small

    @contextmanager
    def postgres_store(self) -> Iterator[dict[str, str]]:
        """The settings of a service on an empty PostgreSQL database, with Redis where there is one."""
        with self.database.new_database() as url:
            redis_setting = {"REDIS_URL": self.redis} if self.redis else {}
            yield {"DATABASE_URL": url, "CHATAPI_SECRET": SECRET, **redis_setting}

    @contextmanager
    def service(self, name: str, store: dict[str, str], more: Mapping[str, str] = NO_SETTINGS) -> Iterator[Server]:
        """A new service, healthy. Two on one PostgreSQL store are replicas. `more` is for its environment."""
        with self.spawn({**store, **more}) as (process, port):
            process.wait_for_port(port, START_SECONDS)
            status, body = ask(port, "GET", "/api/health")
            if status != 200:
                raise process.trouble(f"is not healthy: {status} {body[:200]!r}")
            yield Server(name, port, process, store=store)

    @contextmanager
    def spawn(self, store: dict[str, str]) -> Iterator[tuple[Process, int]]:
        """`python app.py`, just started, and the port that it will serve."""
        home, port = self.new_home("service"), free_port()
        env = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # else each start compiles all modules, which it does once for users
        env |= {
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "OPENAI_BASE_URL": f"http://127.0.0.1:{self.source_port}/v1",
            **self.limits,
            "LOG_LEVEL": "WARNING",
            "NO_PROXY": "127.0.0.1",
            **store,
        }
        command = [str(self.python), str(self.app)]
        with Process("service", command, home / "log", cwd=self.app.parent, env=env) as process:
            yield process, port

    def slow_disk(self) -> Path | None:
        """Return a library that delays each sync of a service by 50 ms; None where no C compiler is installed."""
        library = self.folder / "slow_disk.so"
        compiler = shutil.which("cc")
        if compiler is None:
            return None
        command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SLOW_DISK), "-ldl"]
        subprocess.run(command, check=True, timeout=START_SECONDS)
        return library

    def new_home(self, name: str) -> Path:
        """An empty folder for one server."""
        self.starts += 1
        home = self.folder / f"{name}-{self.starts}"
        home.mkdir()
        return home

    def first_answer_seconds(self, name: str) -> float:
        """From `python app.py` on an empty database of that kind to the end of its first answer."""
        with self.sqlite_store() if name == "sqlite" else self.postgres_store() as store:
            return self._first_answer_seconds(store)

    def _first_answer_seconds(self, store: dict[str, str]) -> float:
        script = Script(chunks=3, pace_ms=0)
        body = {"developer_message": "Be brief.", "user_message": "Hello", "model": script.model, "api_key": KEY}
        began = time.perf_counter()
        with self.spawn(store) as (process, port):
            process.wait_for_port(port, START_SECONDS)
            status, answer = ask(port, "POST", "/api/chat", body)
            seconds = time.perf_counter() - began
            if (status, answer) != (200, plain(script).body):
                raise process.trouble(f"gave a wrong first answer: {status} {answer[:200]!r}")
        return seconds

    def run(self, server: Server, load: Load) -> tuple[Outcome, dict[str, int]]:
        """Run one load on one server; return the client's results and the lateness of the source."""
        (outcome,), lateness = self.run_beside([server], load)
        return outcome, lateness

    def run_beside(self, servers: list[Server], load: Load) -> tuple[list[Outcome], dict[str, int]]:
        """The same load on each of the servers at once."""
        self.source_lateness()
        with ThreadPoolExecutor(len(servers)) as pool:
            outcomes = list(pool.map(lambda server: self._run(server, load), servers))
        return outcomes, self.source_lateness()

    def _run(self, server: Server, load: Load) -> Outcome:
        watch = {"server": server.process.pid, "source": self.source.pid}
        if "CHATAPI_SECRET" in server.store and self.database.process:
            watch["database"] = self.database.process.pid
        load = replace(load, port=server.port, raw=load.raw or server.raw, watch=watch)
        seconds = load.ramp_seconds + load.window_seconds + load.finish_seconds + CLIENT_START_SECONDS
        with Process("client", [sys.executable, "-m", "bench.client"], self.folder / "client.log", pipe=True) as client:
            try:
                return Outcome(**json.loads(client.talk(json.dumps(asdict(load)), seconds)))
            except BenchError as error:
                raise server.process.trouble("ended under load") if server.process.has_ended() else error from None

    def source_lateness(self) -> dict[str, int]:
        """How late the source was since this was last asked."""
        lateness: dict[str, int] = json.loads(ask(self.source_port, "GET", "/stats")[1])
        return lateness


def nginx_binary() -> str | None:
    """Where nginx is; Debian keeps it in a folder that is seldom on a user's PATH."""
    return shutil.which("nginx", path=os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin")


def ask(port: int, method: str, path: str, body: dict[str, str] | None = None) -> tuple[int, bytes]:
    """One small request."""
    connection = HTTPConnection("127.0.0.1", port, timeout=REQUEST_SECONDS)
    try:
        content = json.dumps(body) if body else None
        connection.request(method, path, content, {"Content-Type": "application/json"} if content else {})
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, HTTPException) as error:
        raise BenchError(f"{method} {path} on port {port} failed: {error!r}") from error
    finally:
        connection.close()
