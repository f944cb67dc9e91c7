"""Run the tests in processes that are forked after the collection: to import and to collect them takes 6 to 12 s of CPU
time, which workers with interpreters of their own would each spend.

Each worker asks for the next lot, the tests of one file on one deployment, so that a module's fixtures start once and
no worker waits while another one has much left. Every second worker begins with the lots that visit the page: these use
the processor of two browsers, and the others leave it to them while they wait. A worker that dies fails its test, and
another one takes its place.
"""

from __future__ import annotations

import atexit
import itertools
import os
import pickle
import selectors
import signal
import socket
import struct
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import pytest

from tests.databases import WORKER
from tests.fork_server import ForkServer, another_fork_server, use_fork_server

LENGTH = struct.Struct("!I")  # of a message, in bytes


class Channel:
    """One end of a connection between the parent and a worker: Python values in both directions."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def send(self, value: object) -> None:
        """Send a value.

        Raises:
            BrokenPipeError: the other process has ended.
        """
        data = pickle.dumps(value)
        self.connection.sendall(LENGTH.pack(len(data)) + data)

    def receive(self) -> Any:
        """Return the next value.

        Raises:
            EOFError: the other process has ended.
        """
        return pickle.loads(self._read(*LENGTH.unpack(self._read(LENGTH.size))))  # from our own process

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            try:
                part = self.connection.recv(size - len(data))
            except ConnectionResetError:
                part = b""
            if not part:
                raise EOFError
            data += part
        return data


class Worker:
    """A worker, as the parent sees it."""

    def __init__(self, number: int, run: Callable[[str, Channel], None]) -> None:
        name = f"gw{number}"
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            ours.close()
            run(name, Channel(theirs))
        theirs.close()
        self.name = name
        self.prefers_page = number % 2 == 0
        self.channel = Channel(ours)
        self.item: Any = None  # the `pytest.Item` that it runs
        self.assigned: deque[pytest.Item] = deque()  # that it has not begun

    def end(self) -> int:
        """Wait for its end; return the exit status, negative for a signal."""
        self.channel.connection.close()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class ForkedWorkers:
    """A plugin: the parent's loop over all tests."""

    def __init__(
        self, count: int, start_shared: Callable[[], object], visits_page: Callable[[pytest.Item], bool]
    ) -> None:
        """Fork `count` workers after `start_shared`, which starts the servers that all of them use."""
        self._count = count
        self._visits_page = visits_page
        self._start_shared = start_shared
        self._numbers = itertools.count()
        self._selector = selectors.DefaultSelector()
        self._workers: list[Worker] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        if session.testsfailed or session.config.option.collectonly:
            return None  # pytest's own loop reports it
        self._start_shared()
        self._session = session
        self._lots = deque(lots(session.items))
        self._base = session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        for _ in range(self._count):
            self._start()
        try:
            while self._workers:
                for key, _ in self._selector.select():
                    self._read(key.data)
                if session.shouldfail:
                    raise session.Failed(session.shouldfail)
        finally:
            for worker in self._workers:  # the run is interrupted: they see the end of their connections
                with suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGINT)
                worker.end()
        return True

    def _start(self) -> None:
        server = another_fork_server()
        worker = Worker(next(self._numbers), lambda name, channel: self._run_worker(name, channel, server))
        if server is not None:
            server.leave()
        self._workers.append(worker)
        self._selector.register(worker.channel.connection, selectors.EVENT_READ, worker)

    def _read(self, worker: Worker) -> None:
        """Handle the next message of a worker, or its end."""
        config = self._session.config
        try:
            kind, value = worker.channel.receive()
        except EOFError:
            kind, value = "end", None
        if kind == "end":
            self._bury(worker)
        elif kind == "next":
            lot = self._next_lot(worker)
            worker.assigned.extend(self._session.items[index] for index in lot)
            with suppress(BrokenPipeError):
                worker.channel.send(lot)
        elif kind == "start":
            worker.item = item = worker.assigned.popleft()
            config.hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        elif kind == "report":
            report = config.hook.pytest_report_from_serializable(config=config, data=value)
            config.hook.pytest_runtest_logreport(report=report)
        elif kind == "finish":
            config.hook.pytest_runtest_logfinish(nodeid=worker.item.nodeid, location=worker.item.location)
            worker.item = None

    def _next_lot(self, worker: Worker) -> list[int]:
        """Remove and return the first lot that the worker prefers, else the first one; an empty one if none is left."""
        if not self._lots:
            return []
        items = self._session.items
        preferred = (
            lot for lot in self._lots if any(self._visits_page(items[index]) for index in lot) == worker.prefers_page
        )
        lot = next(preferred, self._lots[0])
        self._lots.remove(lot)
        return lot

    def _bury(self, worker: Worker) -> None:
        """Forget a worker that has ended. If tests of its are left, fail the one that it ran and run the others."""
        self._workers.remove(worker)
        self._selector.unregister(worker.channel.connection)
        status = worker.end()
        if not status and worker.item is None and not worker.assigned:
            return
        item = worker.item or (worker.assigned.popleft() if worker.assigned else self._session.items[-1])
        text = f"worker {worker.name} ended with status {status}; its standard error is above"
        report = pytest.TestReport(item.nodeid, item.location, {}, "failed", text, "???")  # type: ignore[arg-type]
        self._session.config.hook.pytest_runtest_logreport(report=report)
        if worker.assigned:
            numbers = {id(item): index for index, item in enumerate(self._session.items)}
            self._lots.appendleft([numbers[id(item)] for item in worker.assigned])
        if self._lots:
            self._start()

    def _run_worker(self, name: str, channel: Channel, server: ForkServer | None) -> None:
        """Run tests in this process, which was just forked, until none is left; then end it."""
        status = 1
        try:
            self._become_worker(name, channel, server)
            _run_lots(self._session, channel)
            self._session.config._ensure_unconfigure()  # fails on exceptions in finalizers
            status = 0
        except (KeyboardInterrupt, EOFError, BrokenPipeError):
            pass  # the run is interrupted
        except BaseException:
            traceback.print_exc()
        finally:
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _become_worker(self, name: str, channel: Channel, server: ForkServer | None) -> None:
        """Leave to the parent all that is its own: its files, its servers and its output."""
        config = self._session.config
        atexit._clear()
        if server is not None:
            use_fork_server(server)
        self._selector.close()
        for worker in self._workers:
            worker.channel.connection.close()
        os.environ[WORKER] = name
        for plugin in ("terminalreporter", "failures-at-once"):
            config.pluginmanager.unregister(name=plugin)
        capture = config.pluginmanager.getplugin("capturemanager")
        capture.stop_global_capturing()  # its files are those of the parent
        capture.start_global_capturing()
        capture.suspend_global_capture()
        folder = config._tmp_path_factory._basetemp = self._base / name  # type: ignore[attr-defined]
        folder.mkdir()
        config.pluginmanager.register(Reporter(config, channel))


class Reporter:
    """A plugin of workers: sends the reports of tests to the parent."""

    def __init__(self, config: pytest.Config, channel: Channel) -> None:
        self._config = config
        self._channel = channel

    def pytest_runtest_logstart(self) -> None:
        self._channel.send(("start", None))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._channel.send(("report", data))

    def pytest_runtest_logfinish(self) -> None:
        self._channel.send(("finish", None))


def lots(items: list[pytest.Item]) -> Iterable[list[int]]:
    """Yield the indices of the tests, those of one file that follow each other in a list."""
    for _, group in itertools.groupby(range(len(items)), key=lambda index: items[index].path):
        yield list(group)


def _run_lots(session: pytest.Session, channel: Channel) -> None:
    """Run lots until the parent has no more. A lot is asked for before the last test of the one before it, which
    leaves the fixtures that both need.
    """

    def ask() -> deque[int]:
        channel.send(("next", None))
        return deque(channel.receive())

    indices = ask()
    while indices:
        index = indices.popleft()
        if not indices:
            indices = ask()
        item = session.items[index]
        following = session.items[indices[0]] if indices else None
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
