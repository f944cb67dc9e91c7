"""The service as replicas: two processes behind a load balancer, with one PostgreSQL and one Redis."""

from __future__ import annotations

import asyncio
import itertools
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

from tests.databases import postgres, redis
from tests.server_process import END_SECONDS, SECRETS, Service

REPLICAS = 2
READ_BYTES = 64 * 1024
SECRET = "the-secret-that-all-replicas-share-in-tests"


class Balancer:
    """A TCP load balancer: each connection goes to the next server that accepts it."""

    def __init__(self, targets: list[tuple[str, int]]) -> None:
        self.targets = targets
        self._turns = itertools.count()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="balancer", daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def close(self) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, client_reads: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        server = None
        tasks: list[asyncio.Task[None]] = []
        try:
            server_reads, server = await self._next_server()
            pipes = [_pipe(client_reads, server), _pipe(server_reads, client)]
            tasks = [asyncio.create_task(pipe) for pipe in pipes]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except (OSError, asyncio.CancelledError):
            pass  # no server accepts it, or the balancer is closed
        finally:
            for task in tasks:
                task.cancel()
            for writer in (client, server):
                if writer is not None:
                    writer.close()

    async def _next_server(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        targets = list(self.targets)
        first = next(self._turns) % len(targets)
        for host, port in targets[first:] + targets[:first]:
            with suppress(OSError):
                return await asyncio.open_connection(host, port)
        raise OSError


async def _pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(READ_BYTES):
            target.write(data)
            await target.drain()


class Cluster(Service):
    """Replicas behind a balancer, with the interface of one service.

    `log` has the lines of all replicas. Signals go to all of them.
    """

    make_replica: Callable[..., Service] = Service

    def __init__(self, folder: Path, upstream_url: str, **environment: str) -> None:
        self._lent = ExitStack()
        secret = SECRET
        if "DATABASE_URL" not in environment:
            environment["DATABASE_URL"] = self._lent.enter_context(postgres().lent_database())
            # Owners of its own: a slot of an owner stays taken in Redis for a minute after its replica was killed.
            secret += token_hex(8)
        shared: dict[str, Any] = {
            "REDIS_URL": redis().url,
            "CHATAPI_SECRET": secret,
            "CHATAPI_LEASE_SECONDS": "2",
            "CHATAPI_DATABASE_CONNECTIONS": "4",
            **environment,
        }
        super().__init__(folder, upstream_url, **shared)
        self.replicas: list[Service] = []
        for number in range(REPLICAS):
            home = folder / f"replica-{number}"
            home.mkdir()
            self._adopt(self.make_replica(home, upstream_url, **shared))
        self._balancer: Balancer | None = None

    def start(self) -> Cluster:
        with ThreadPoolExecutor() as pool:
            list(pool.map(Service.start, self.replicas))
        self._balancer = Balancer([_address(replica) for replica in self.replicas])
        self.url = self._balancer.url
        return self

    def _adopt(self, replica: Service) -> None:
        replica.log, replica._log_grew = self.log, self._log_grew
        self.replicas.append(replica)

    def add(self, replica: Service) -> None:
        """Start another replica, which the balancer uses from now on."""
        self._adopt(replica)
        self.restart(replica)

    def drain(self, replica: Service) -> int:
        """End a replica with SIGTERM while its answers run on, and forget it; return its exit status.

        The balancer tries it until it has ended, as one does whose next health check is due.
        """
        replica.signal(signal.SIGTERM)
        status = replica.wait()
        self.replicas.remove(replica)
        assert self._balancer is not None
        self._balancer.targets = [_address(one) for one in self.replicas]
        return status

    def restart(self, replica: Service) -> None:
        """Start a replica that has ended. It gets another port, which the balancer uses from now on."""
        replica.start()
        assert self._balancer is not None
        self._balancer.targets = [_address(one) for one in self.replicas]

    def signal(self, number: signal.Signals) -> None:
        for replica in self.replicas:
            replica.signal(number)

    def wait(self, seconds: float = END_SECONDS) -> int:
        return max(abs(replica.wait(seconds)) for replica in self.replicas)

    def stop(self) -> int:
        with ThreadPoolExecutor() as pool:
            statuses = list(pool.map(Service.stop, self.replicas))
        if self._balancer is not None:
            self._balancer.close()
            self._balancer = None
        self.check_no_secret()
        return max(map(abs, statuses))

    def release(self) -> None:
        self._lent.close()

    def check_no_secret(self) -> None:
        """No key is in the logs or in the database."""
        texts = {"the logs": "".join(self.log), "the database": self.database.everything()}
        for where, text in texts.items():
            for secret in SECRETS:
                assert secret not in text, f"a key is in {where}"


def _address(replica: Service) -> tuple[str, int]:
    parts = urlsplit(replica.url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port
