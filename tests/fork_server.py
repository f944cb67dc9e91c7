"""Start `python app.py` without paying for its imports: a process that has imported the service forks for each start.

A child runs the same code as a new interpreter would, with its own arguments, environment, folder and standard streams.
It can be signalled, killed and waited for like a child of `subprocess.Popen`. The fork server kills its children when
the process that started it ends. A worker of a parallel run has a fork server of its own, which is a fork of the one of
the parent, so that the service is imported once.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self

LENGTH = struct.Struct("!I")  # of a request, in bytes
# Of a request: standard input, output and error, the pipe for the process id and the exit status, and for another fork
# server its end of the connection.
DESCRIPTORS = 5


class ForkedProcess:
    """A child of the fork server, with the methods of `subprocess.Popen` that the tests use."""

    def __init__(self, status: IO[str], stderr: IO[str]) -> None:
        self.returncode: int | None = None
        self.stderr = stderr
        self._status = status  # two lines: the process id, and later the exit status
        self._lock = threading.Lock()
        self.pid = int(status.readline())

    def poll(self) -> int | None:
        """Return the exit status, or None while the process runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status when the process has ended; negative for a signal.

        Raises:
            subprocess.TimeoutExpired: it still runs after `timeout` seconds.
        """
        with self._lock:
            if self.returncode is None:
                if not select.select([self._status], [], [], timeout)[0]:
                    raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
                self.returncode = int(self._status.readline())
                self._status.close()
            return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.send_signal(signal.SIGKILL)
        self.wait()
        self.stderr.close()


class ForkServer:
    """The process that forks, as the tests see it."""

    def __init__(self, parent: ForkServer | None = None) -> None:
        """Start it: as a new interpreter, or as a fork of `parent`."""
        self._control, control_of_server = socket.socketpair()
        self._sending = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        with control_of_server:
            if parent is None:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "tests.fork_server", str(control_of_server.fileno())],
                    cwd=Path(__file__).parent.parent,
                    stdin=subprocess.DEVNULL,
                    pass_fds=[control_of_server.fileno()],
                )
            else:
                with open(os.devnull, "w") as null, open(os.dup(2), "w") as errors:
                    parent._fork([], os.environ, Path.cwd(), null, errors, control_of_server).close()
        atexit.register(self.close)

    def close(self) -> None:
        """End the fork server and the children that still run."""
        self._control.close()
        if self._process is not None:
            self._process.wait()

    def leave(self) -> None:
        """Close this process's end of the connection, which a process that was forked from this one keeps."""
        atexit.unregister(self.close)
        self._control.close()

    def start(
        self, arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path, stderr: int | None = None
    ) -> ForkedProcess:
        """Start `python` with these arguments: a path, or `-m` and a module.

        Its standard error is a pipe, which the caller reads, or the descriptor `stderr`.
        """
        reads, writes = os.pipe() if stderr is None else (os.open(os.devnull, os.O_RDONLY), os.dup(stderr))
        with open(os.devnull, "w") as null, os.fdopen(writes, "w") as errors:
            return ForkedProcess(self._fork(arguments, env, cwd, null, errors), os.fdopen(reads))

    def run(
        self, arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run `python` with these arguments to its end; return its exit status and its output."""
        with (
            tempfile.TemporaryFile("w+") as stdout,
            tempfile.TemporaryFile("w+") as stderr,
            ForkedProcess(self._fork(arguments, env, cwd, stdout, stderr), stderr) as process,
        ):
            status = process.wait(timeout)
            stdout.seek(0)
            stderr.seek(0)
            return subprocess.CompletedProcess(arguments, status, stdout.read(), stderr.read())

    def _fork(
        self,
        arguments: Sequence[str],
        env: Mapping[str, str],
        cwd: Path,
        stdout: IO[str],
        stderr: IO[str],
        control: socket.socket | None = None,
    ) -> IO[str]:
        """Ask for a child, or for another fork server with this `control`; return the pipe on which its process id and
        its exit status come.
        """
        request = json.dumps({"arguments": list(arguments), "env": dict(env), "cwd": str(cwd)}).encode()
        reads, writes = os.pipe()
        with open(os.devnull) as stdin, os.fdopen(writes, "w") as status, self._sending:
            descriptors = [stdin.fileno(), stdout.fileno(), stderr.fileno(), status.fileno()]
            descriptors += [control.fileno()] if control else []
            socket.send_fds(self._control, [LENGTH.pack(len(request))], descriptors)
            self._control.sendall(request)
        return os.fdopen(reads)


_servers: list[ForkServer] = []  # the last one is that of this process


def fork_server() -> ForkServer:
    """Return the fork server of this process; the first call starts it."""
    if not _servers:
        _servers.append(ForkServer())
    return _servers[-1]


def another_fork_server() -> ForkServer | None:
    """Return a fork of the fork server of this process, for a process that is forked next; None if it has none yet."""
    return ForkServer(_servers[-1]) if _servers else None


def use_fork_server(server: ForkServer) -> None:
    """Make `server` the one of this process, which was just forked, and end it with this process."""
    atexit.register(server.close)
    _servers.append(server)


# The process that forks


def main() -> None:
    """Import the service, and fork for each request until the other end closes the connection."""
    control = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the tests, and their end ends this process
    _import_service()
    _build_models()
    _find_endpoints()
    gc.collect()
    gc.freeze()  # a collection in a child does not look at what was imported here
    while (child := _serve(control)) is not None:
        if isinstance(child, list):
            _end(_run_as_main(child))
        else:
            control = child


def _import_service() -> None:
    """Import all modules of the service, and of its dependencies those that it imports late."""
    import uvicorn.lifespan.off
    import uvicorn.protocols.http.httptools_impl  # noqa: F401
    import uvloop  # noqa: F401

    import chatapi

    for module in pkgutil.walk_packages(chatapi.__path__, "chatapi."):
        if not module.name.endswith(".__main__"):
            importlib.import_module(module.name)


def _build_models() -> None:
    """Build the models of bodies, which a server builds when the first body comes."""
    from pydantic import BaseModel

    models = [BaseModel]
    for model in models:
        models += model.__subclasses__()
        if model.__module__.startswith("chatapi.") and not model.__pydantic_complete__:
            model.model_rebuild()


def _find_endpoints() -> None:
    """Find the lines of the endpoints, which FastAPI reads from the source at the first request for each."""
    from fastapi import APIRouter
    from fastapi.routing import APIRoute, _extract_endpoint_context

    values = [
        value for name, module in sys.modules.items() if name.startswith("chatapi.") for value in vars(module).values()
    ]
    for router in values:
        for route in router.routes if isinstance(router, APIRouter) else ():
            if isinstance(route, APIRoute):
                _extract_endpoint_context(route.endpoint)


def _serve(control: socket.socket) -> list[str] | socket.socket | None:
    """Fork for each request.

    Returns in a child its arguments, or its connection if it is another fork server. Returns None here at the end.
    """
    wakeup_reads, wakeup_writes = os.pipe()
    for end in (wakeup_reads, wakeup_writes):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wakeup_writes)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler is needed for the wake-up
    children: dict[int, int] = {}  # process id: the pipe for its exit status
    servers: set[int] = set()  # of them, which end with their own connections, after their children
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        selector.register(wakeup_reads, selectors.EVENT_READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            if wakeup_reads in ready:
                os.read(wakeup_reads, 4096)
                _report_ended(children)
            if control not in ready:
                continue
            head, descriptors, _, _ = socket.recv_fds(control, LENGTH.size, DESCRIPTORS)
            if not head:
                for pid in children.keys() - servers:
                    os.kill(pid, signal.SIGKILL)
                return None
            request = json.loads(_receive(control, *LENGTH.unpack(head)))
            streams, status, connection = descriptors[:3], descriptors[3], descriptors[4:]
            pid = os.fork()
            if not pid:
                break
            children[pid] = status
            if connection:
                servers.add(pid)
            with suppress(BrokenPipeError):
                os.write(status, b"%d\n" % pid)
            for descriptor in (*streams, *connection):
                os.close(descriptor)
    for inherited in (control.detach(), wakeup_reads, wakeup_writes, status, *children.values()):
        os.close(inherited)
    _become(request, streams)
    if connection:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        return socket.socket(fileno=connection[0])
    arguments: list[str] = request["arguments"]
    return arguments


def _receive(control: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += control.recv(size - len(data))
    return data


def _report_ended(children: dict[int, int]) -> None:
    """Write the exit status of each child that has ended to its pipe."""
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        pipe = children.pop(pid)
        with suppress(BrokenPipeError):
            os.write(pipe, b"%d\n" % os.waitstatus_to_exitcode(status))
        os.close(pipe)


def _become(request: dict[str, Any], streams: list[int]) -> None:
    """Take over the standard streams, the folder and the environment of the request."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])


def _run_as_main(arguments: list[str]) -> object:
    """Run a script or a module as `python` does with these arguments; return the argument of its `sys.exit`."""
    try:
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = arguments
            runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        return end.code
    return None


def _end(status: object) -> None:
    """End as `sys.exit(status)` does, but leave the memory to the system: to free each of the imported modules takes as
    long as a start. Tests with an interpreter of its own (`forked=False`) check the end that frees them.
    """
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as the interpreter does at its end
    atexit._run_exitfuncs()
    if status is not None and not isinstance(status, int):
        print(status, file=sys.stderr)
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status or 0)


if __name__ == "__main__":
    main()
