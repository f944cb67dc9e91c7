"""Several worker processes on one port, and the supervisor that starts, replaces and ends them.

Workers are replicas of each other (docs/scaling.md): they share PostgreSQL, and Redis if it is set, or one SQLite file
and their `WorkerGroup`. They inherit the listening socket, so that a connection goes to a worker that is free to accept
it. The supervisor has no event loop, no connections and no keys. It starts another worker in the place of one that
died, and the new one closes the answers of its predecessor at once: nothing else of that process can still write.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from chatapi.model import Replica, new_id
from chatapi.worker_group import Member, WorkerGroup

START_SECONDS = 10.0  # in which a worker that cannot start ends the whole service
FIRST_PAUSE_SECONDS = 0.1  # before a worker that died early is replaced; doubled each time
LONGEST_PAUSE_SECONDS = 10.0
CANNOT_START = 2  # the exit status of a command whose settings are impossible
SIGNALLED = 128  # shells add it to the number of the signal that ended a process
SIGNALS = (signal.SIGINT, signal.SIGTERM)
ENDED_WELL = frozenset({0, -signal.SIGINT, -signal.SIGTERM})  # a worker that did not serve yet ends by the signal
WAKE_BYTES = 4096  # of the numbers of signals

logger = structlog.get_logger()


class Worker(NamedTuple):
    """One worker process: its number from 0 on, and its identity in the database; its part of a group on SQLite."""

    number: int
    replica: Replica
    member: Member | None = None


@dataclass
class _Place:
    """The place of one worker: the process that has it, or the time at which the next one starts."""

    worker: Worker
    pid: int = 0
    started_at: float = 0.0
    due_at: float | None = None
    pause_seconds: float = FIRST_PAUSE_SECONDS


class Supervisor:
    """Keeps `count` workers running until a signal. The first signal drains them, a second one skips the drain."""

    def __init__(self, count: int, group: WorkerGroup | None = None) -> None:
        if group is None:
            workers = [Worker(number, Replica(new_id("rep"))) for number in range(count)]
        else:
            workers = [
                Worker(number, Replica(replica), group.member(number)) for number, replica in enumerate(group.replicas)
            ]
        self._places = [_Place(worker, due_at=0.0) for worker in workers]
        self._signals: list[int] = []
        self._ending = False
        self._status = 0
        self._began_at = time.monotonic()

    def run(self) -> Worker | int:
        """Fork the workers; return the worker in each of them, and the exit status in the supervisor at its end."""
        wake_read, wake_write = os.pipe()
        lifeline_read, lifeline_write = os.pipe()  # the supervisor holds the only end to write to
        for end in (wake_read, wake_write):
            os.set_blocking(end, False)
        for number in (*SIGNALS, signal.SIGCHLD):
            signal.signal(number, self._handle)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        logger.info("supervising", workers=len(self._places), pid=os.getpid())
        while True:
            for place in self._places:
                if place.due_at is not None and place.due_at <= time.monotonic() and not self._ending:
                    if self._start(place):
                        continue
                    for end in (wake_read, wake_write, lifeline_write):
                        os.close(end)
                    _end_with(lifeline_read)
                    return place.worker
            if not any(place.pid for place in self._places) and self._ending:
                logger.info("all workers ended")
                return self._status
            select.select([wake_read], [], [], self._pause())
            with suppress(BlockingIOError):
                os.read(wake_read, WAKE_BYTES)
            self._pass_on()
            self._reap()

    def _start(self, place: _Place) -> bool:
        """Fork a worker; return False in the worker itself."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # the handlers of this process would lose one in a worker
        place.pid = os.fork()
        if place.pid == 0:
            for number in (*SIGNALS, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            signal.set_wakeup_fd(-1)
            os.setpgid(0, 0)  # Ctrl-C reaches the supervisor alone, which passes it on once
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        if place.pid == 0:
            return False
        place.started_at, place.due_at = time.monotonic(), None
        return True

    def _handle(self, number: int, _: object) -> None:
        if number != signal.SIGCHLD:
            self._signals.append(number)

    def _pass_on(self) -> None:
        """Pass signals on to all workers."""
        while self._signals:
            self._end_all(self._signals.pop(0))

    def _end_all(self, number: int) -> None:
        self._ending = True
        for place in self._places:
            if place.pid:
                with suppress(ProcessLookupError):
                    os.kill(place.pid, number)

    def _pause(self) -> float | None:
        """Return the seconds until the next worker starts, if one has to."""
        due = [place.due_at for place in self._places if place.due_at is not None]
        return max(0.0, min(due) - time.monotonic()) if due and not self._ending else None

    def _reap(self) -> None:
        """Take note of workers that ended, and plan the next one in their places."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for place in self._places:
                if place.pid == pid:
                    self._replace(place, os.waitstatus_to_exitcode(status))

    def _replace(self, place: _Place, status: int) -> None:
        pid, place.pid = place.pid, 0
        if self._ending:
            if status not in ENDED_WELL:
                self._status = self._status or (status if status > 0 else SIGNALLED - status)
            return
        now = time.monotonic()
        if status == CANNOT_START and now - self._began_at < START_SECONDS:
            self._status = status  # its own message is on stderr
            self._end_all(signal.SIGTERM)
            return
        if now - place.started_at > LONGEST_PAUSE_SECONDS:
            place.pause_seconds = FIRST_PAUSE_SECONDS
        place.due_at = now + place.pause_seconds
        logger.error("worker died", pid=pid, status=status, seconds_to_next=place.pause_seconds)
        place.pause_seconds = min(LONGEST_PAUSE_SECONDS, 2 * place.pause_seconds)
        if place.worker.member is None:
            place.worker = Worker(place.worker.number, Replica(new_id("rep"), place.worker.replica.id))


def _end_with(lifeline: int) -> None:
    """Have this worker drain when its supervisor has died: no other process would replace or stop it."""

    def wait() -> None:
        os.read(lifeline, 1)  # returns at the end of the supervisor, which writes nothing
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="supervisor-watch", daemon=True).start()
