"""Mailboxes of forked processes: the transport of workers that share one SQLite file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from chatapi.connections.mailboxes import Mailbox


class WorkerTransport:
    """A mailbox for each worker; `replicas` are their ids, in the order of their numbers."""

    def __init__(self, mailbox: Mailbox, replicas: Sequence[str]) -> None:
        self._mailbox = mailbox
        self._numbers = {replica: number for number, replica in enumerate(replicas)}

    async def open(self, replica: str, receive: Callable[[str], None]) -> None:
        """Start to receive the messages for `replica`, whose mailbox this has."""
        self._mailbox.open(lambda message: receive(message.decode()))

    async def close(self) -> None:
        """Stop."""
        self._mailbox.close()

    def send(self, replica: str, message: str) -> None:
        """Send to another worker; a replica that is none of them is of an earlier start, and dead."""
        number = self._numbers.get(replica)
        if number is not None:
            self._mailbox.send(number, message.encode())
