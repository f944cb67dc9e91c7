"""Mailboxes: short messages between processes of one machine that one parent has forked.

Each process has a pair of Unix datagram sockets, made before the fork: it reads from one end, and all others write to
the other. So there is no path, no permission and no file to remove, and a process that takes the place of a dead one
inherits its mailbox.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import structlog

MAX_MESSAGE_BYTES = 128 * 1024
BUFFER_BYTES = 2 * MAX_MESSAGE_BYTES  # of a socket; macOS takes no larger message than it, and 2 KiB by default
OUTBOX_BYTES = 4 * 1024 * 1024  # of messages for one process that reads too slowly; more are dropped
MESSAGES_PER_PASS = 64  # received in one pass of the event loop

logger = structlog.get_logger()


class Mailboxes:
    """One mailbox for each of `count` processes. Make them before the fork; the parent keeps them open."""

    def __init__(self, count: int) -> None:
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(count)]
        for end in (end for pair in pairs for end in pair):
            end.setblocking(False)
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                end.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
        self._ends = [receiving for receiving, _ in pairs]
        self._senders = [sending for _, sending in pairs]

    def of(self, number: int) -> Mailbox:
        """Return the mailbox of a process; only that process may open it."""
        return Mailbox(self._ends[number], self._senders)

    def close(self) -> None:
        """Close all of them in this process."""
        for end in (*self._ends, *self._senders):
            end.close()


class Mailbox:
    """Receives messages for one process, and sends to the others: each message whole, at most once.

    Messages of one sender arrive in order. Those for a process that is dead, or slow, wait; beyond `OUTBOX_BYTES` they
    are dropped.
    """

    def __init__(self, receiving: socket.socket, senders: list[socket.socket]) -> None:
        self._receiving = receiving
        self._senders = senders
        self._waiting: list[deque[bytes]] = [deque() for _ in senders]
        self._waiting_bytes = [0] * len(senders)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._receive: Callable[[bytes], None]

    def open(self, receive: Callable[[bytes], None]) -> None:
        """Start to pass each message to `receive`, on the event loop."""
        self._loop = asyncio.get_running_loop()
        self._receive = receive
        self._loop.add_reader(self._receiving, self._read)

    def close(self) -> None:
        """Stop. Messages that wait for a slow receiver are dropped."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        loop.remove_reader(self._receiving)
        for number, waiting in enumerate(self._waiting):
            if waiting:
                loop.remove_writer(self._senders[number])
                waiting.clear()
                self._waiting_bytes[number] = 0

    def send(self, number: int, message: bytes) -> None:
        """Send a message of at most `MAX_MESSAGE_BYTES` to the process with this number, or drop it."""
        if self._loop is None:
            return
        waiting = self._waiting[number]
        if not waiting and self._sent(number, message):
            return
        if self._waiting_bytes[number] + len(message) > OUTBOX_BYTES:
            return
        if not waiting:
            self._loop.add_writer(self._senders[number], self._send_waiting, number)
        waiting.append(message)
        self._waiting_bytes[number] += len(message)

    def _sent(self, number: int, message: bytes) -> bool:
        """Try to send; return False if there is no room now."""
        try:
            self._senders[number].send(message)
        except BlockingIOError:
            return False
        except OSError as error:  # no memory, for example: as good as lost on the way
            logger.warning("message dropped", to=number, reason=error.strerror)
        return True

    def _send_waiting(self, number: int) -> None:
        waiting = self._waiting[number]
        while waiting and self._sent(number, waiting[0]):
            self._waiting_bytes[number] -= len(waiting.popleft())
        if not waiting and self._loop is not None:
            self._loop.remove_writer(self._senders[number])

    def _read(self) -> None:
        with suppress(BlockingIOError):
            for _ in range(MESSAGES_PER_PASS):
                message = self._receiving.recv(MAX_MESSAGE_BYTES)
                try:
                    self._receive(message)
                except Exception:  # the next message may be understood
                    logger.exception("unexpected error", where="mailbox")
