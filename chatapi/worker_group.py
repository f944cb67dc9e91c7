"""The shared parts of the workers of one SQLite file: identities, mailboxes, the turn to write, counts of limits."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from chatapi.bus.workers import WorkerTransport
from chatapi.connections.mailboxes import Mailboxes
from chatapi.limits import WorkerCounts, WorkerLock, WorkerTimes
from chatapi.model import new_id
from chatapi.store.drivers.write_turn import WriteTurn
from chatapi.store.peers import Peers


class WorkerGroup:
    """The supervisor makes it before it forks the workers, and so keeps all of it when one of them dies.

    A worker keeps its identity in the database when it is replaced. Its successor closes the answers that run under
    it, also if its predecessor died before it could do that. `folder`: where locks are created, as files without names.
    """

    def __init__(self, count: int, folder: Path) -> None:
        self.replicas = tuple(new_id("rep") for _ in range(count))
        self._lock = WorkerLock(folder)
        self.turn = WriteTurn(folder)
        self.times = WorkerTimes(self._lock)
        self.counts = WorkerCounts(count, self._lock)
        self._bus = Mailboxes(count)
        self._logs = Mailboxes(count)

    def member(self, number: int) -> Member:
        """Return the part of the worker with this number."""
        transport = WorkerTransport(self._bus.of(number), self.replicas)
        peers = Peers(self._logs.of(number), self.replicas, number)
        return Member(number, transport, peers, self.turn, self.times, self.counts)

    def close(self) -> None:
        """Close all of it in this process."""
        for part in (self.turn, self._lock, self._bus, self._logs):
            part.close()


class Member(NamedTuple):
    """What one worker has of its group; `peers` are the others, as it asks them for logs."""

    number: int
    transport: WorkerTransport
    peers: Peers
    turn: WriteTurn
    times: WorkerTimes
    counts: WorkerCounts
