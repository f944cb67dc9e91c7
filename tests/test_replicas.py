"""Two replicas as one service: an answer started on one is read, stopped, deleted and continued on the other.

Every test of the service also runs on replicas behind a load balancer. Here the clients choose the replica.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from chatapi.simulator import Chunks, Gate, Send, Simulator, Wait, scripts
from tests.cluster import SECRET, Cluster
from tests.databases import PASSWORD, Postgres, Redis, free_port, postgres, redis
from tests.reader import EVENTS, Reader
from tests.server_process import KEY, PROJECT, START_SECONDS, Service, environment_without_settings, fresh_key
from tests.test_store_faults import check_one_sentence, start

STOP_SECONDS = 1.0
DEAF_STOP_SECONDS = 1.5  # without messages: the interval of the periodic check, and some more
BACK_SECONDS = 5.0  # for a replica to reconnect to its database
BEFORE, AFTER = "Grüße aus 東京, ", "und 👩‍👩‍👧 auch."
HUSH = "hush-hush"  # a password that must not appear in any output
OTHER_SECRET = "another-secret-of-more-than-32-characters"


@pytest.fixture
def start_cluster(upstream: Simulator, tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Start replicas with these settings."""
    started: list[Cluster] = []

    def begin(**environment: str) -> Cluster:
        started.append(Cluster(tmp_path, upstream.url, **environment))
        return started[-1].start()

    yield begin
    for cluster in started:
        cluster.stop()
        cluster.release()


@pytest.fixture(scope="module")
def cluster(upstream: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Replicas for all tests here that leave them running."""
    off = dict.fromkeys(("CHATAPI_RATE_LIMIT", "CHATAPI_MAX_GENERATIONS_PER_KEY"), "0")
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), upstream.url, **off).start()
    yield cluster
    cluster.stop()
    cluster.release()


@pytest.fixture
def here(cluster: Cluster) -> Service:
    return cluster.replicas[0]


@pytest.fixture
def there(cluster: Cluster) -> Service:
    return cluster.replicas[1]


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.remove()


@pytest.fixture
def own_redis() -> Iterator[Redis]:
    server = Redis()
    yield server
    server.resume()
    server.remove()


# The same session on both replicas


@pytest.mark.parametrize("headers", [{}, EVENTS], ids=["text", "events"])
def test_an_answer_is_read_on_the_other_replica_while_it_is_generated(
    here: Service, there: Service, upstream: Simulator, gate: Gate, headers: dict[str, str]
) -> None:
    upstream.script = scripts.held(gate, BEFORE, AFTER)
    first = Reader.chat(here, headers=headers)
    second = Reader(there.url, f"/api/chat/{first.session_id}/stream", headers=headers)
    first.read_until("東京")
    second.read_until("東京")
    gate.open()
    whole = [reader.read_all() for reader in (first, second)]
    if headers:  # the amount of text in one event is arbitrary
        assert first.joined("text") == second.joined("text")
        assert first.events()[-1] == second.events()[-1]
    else:
        assert whole[0] == whole[1]
    assert first.ended
    assert second.ended
    assert first.generation_id == second.generation_id


@pytest.mark.parametrize("cut", range(1, len(BEFORE.encode()), 4))
def test_a_cut_stream_is_resumed_on_the_other_replica(
    here: Service, there: Service, upstream: Simulator, gate: Gate, cut: int
) -> None:
    upstream.script = scripts.held(gate, BEFORE, AFTER)
    first = Reader.chat(here)
    got = first.read(cut)
    first.leave()
    rest = Reader.resume(there, first.session_id, cut)
    gate.open()
    assert (got + rest.read_all()).decode() == BEFORE + AFTER
    assert rest.ended


def test_a_stop_on_the_other_replica_ends_the_answer_and_returns_its_text(
    here: Service, there: Service, upstream: Simulator, gate: Gate
) -> None:
    seen = len(upstream.requests)
    upstream.script = scripts.held(gate, BEFORE, AFTER)
    reader = Reader.chat(here)
    reader.read_until("東京")
    kept = there.post(f"/api/chat/{reader.session_id}/stop").json()
    assert upstream.requests[seen].left.wait(STOP_SECONDS)
    assert (kept["status"], kept["text"]) == ("stopped", BEFORE)
    assert kept["usage"]["output_tokens"] > 0
    assert reader.read_all().decode() == BEFORE
    assert reader.ended, "a stop is a clean end"
    assert here.post(f"/api/chat/{reader.session_id}/stop").json() == kept


def test_a_delete_on_the_other_replica_ends_the_answer_and_nothing_reappears(
    cluster: Cluster, here: Service, there: Service, upstream: Simulator, gate: Gate
) -> None:
    seen = len(upstream.requests)
    upstream.script = scripts.held(gate, BEFORE, AFTER)
    reader = Reader.chat(here)
    reader.read_until("東京")
    assert there.delete(f"/api/sessions/{reader.session_id}").status_code == 200
    assert upstream.requests[seen].left.wait(STOP_SECONDS)
    assert reader.read_all().decode() == BEFORE
    assert not reader.ended, "a plain-text reader sees a cut"
    for replica in (here, there):
        assert replica.get(f"/api/sessions/{reader.session_id}").status_code == 404
        assert replica.get(f"/api/chat/{reader.session_id}/stream?offset=0").status_code == 404
    assert reader.session_id not in cluster.database.everything()


def test_a_repeated_send_to_the_other_replica_attaches_to_the_running_answer(
    here: Service, there: Service, upstream: Simulator, gate: Gate
) -> None:
    seen = len(upstream.requests)
    upstream.script = scripts.held(gate, BEFORE, AFTER)
    once = {"Idempotency-Key": f"once {seen}"}
    first = Reader.chat(here, headers=once)
    second = Reader.chat(there, headers=once)
    assert (second.status, second.generation_id) == (200, first.generation_id)
    gate.open()
    assert first.read_all() == second.read_all() == (BEFORE + AFTER).encode()
    assert Reader.chat(there, headers=once).read_all() == (BEFORE + AFTER).encode(), "and replays it afterwards"
    assert len(upstream.requests) == seen + 1


def test_concurrent_repeats_on_both_replicas_reach_the_upstream_once(cluster: Cluster, upstream: Simulator) -> None:
    seen = len(upstream.requests)
    upstream.script = scripts.answer(BEFORE)
    once = {"Idempotency-Key": f"at once {seen}"}
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda number: cluster.replicas[number % 2].send(headers=once), range(16)))
    assert {answer.content.decode() for answer in answers} == {BEFORE}
    assert len({answer.headers["X-Generation-ID"] for answer in answers}) == 1
    assert len(upstream.requests) == seen + 1


def test_a_second_send_to_the_other_replica_is_refused_while_an_answer_runs(
    here: Service, there: Service, upstream: Simulator, gate: Gate
) -> None:
    upstream.script = scripts.held(gate, BEFORE, AFTER)
    reader = Reader.chat(here)
    refused = there.send(session_id=reader.session_id)
    assert refused.status_code == 409
    assert refused.headers["x-should-retry"] == "false"
    gate.open()
    assert reader.read_all().decode() == BEFORE + AFTER


def test_of_concurrent_sends_to_both_replicas_one_is_accepted(
    cluster: Cluster, upstream: Simulator, gate: Gate
) -> None:
    upstream.script = scripts.held(gate, BEFORE, AFTER)
    session_id = cluster.post("/api/sessions", json={"developer_message": "Be brief."}).json()["session_id"]
    with ThreadPoolExecutor(16) as pool:
        sent = pool.map(lambda number: cluster.replicas[number % 2].send(session_id=session_id), range(16))
        answers = list(sent)
    gate.open()
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(200), statuses.count(409)) == (1, 15)
    assert len(cluster.messages(session_id)) == 2


def test_a_send_to_the_other_replica_can_interrupt_the_answer(
    here: Service, there: Service, upstream: Simulator, gate: Gate
) -> None:
    seen = len(upstream.requests)
    upstream.script = scripts.in_turn(scripts.held(gate, BEFORE, AFTER), scripts.answer(AFTER))
    reader = Reader.chat(here)
    reader.read_until("東京")
    second = there.send("And now?", session_id=reader.session_id, if_busy="interrupt")
    assert (second.status_code, second.content.decode()) == (200, AFTER)
    assert upstream.requests[seen].left.wait(STOP_SECONDS)
    assert reader.read_all().decode() == BEFORE
    assert [message["status"] for message in here.messages(reader.session_id)][1::2] == ["stopped", "completed"]


def test_the_next_turn_on_the_other_replica_has_the_history(here: Service, there: Service, upstream: Simulator) -> None:
    upstream.script = scripts.answer(BEFORE)
    first = here.send("One")
    assert first.content.decode() == BEFORE
    assert there.send("Two", session_id=first.headers["X-Session-ID"]).content
    said = [message["content"] for message in upstream.requests[-1].body["messages"]]
    assert said == ["You are a helpful assistant.", "One", BEFORE, "Two"]


# Outages


def status_of_whole(replica: Service, key: str) -> int:
    """Send a message, read the response to its end and return its status."""
    with replica.send(key=key) as response:
        assert response.content
        return response.status_code


def test_limits_are_shared_and_local_while_redis_is_away(
    own_redis: Redis, start_cluster: Callable[..., Cluster], upstream: Simulator
) -> None:
    limits = {"CHATAPI_RATE_LIMIT": "2", "CHATAPI_MAX_GENERATIONS_PER_KEY": "1", "CHATAPI_SLOT_WAIT_SECONDS": "0.2"}
    cluster = start_cluster(REDIS_URL=own_redis.url, **limits)
    here, there = cluster.replicas
    gate = Gate()
    upstream.script = scripts.held(gate)

    def statuses(key: str, *replicas: Service) -> list[int]:
        return [replica.send(key=key).status_code for replica in replicas]

    assert statuses(fresh_key("together"), here, there) == [200, 429]
    gate.open()
    upstream.script = scripts.answer("Hello")
    key = fresh_key("together in a minute")
    assert [cluster.replicas[number % 2].send(key=key).text and number for number in range(2)] == [0, 1]
    assert statuses(key, here, there) == [429, 429]

    own_redis.kill()
    gate = Gate()
    upstream.script = scripts.held(gate)
    assert statuses(fresh_key("by each"), here, there, here, there) == [200, 200, 429, 429]
    gate.open()
    upstream.script = scripts.answer("Hello")
    key = fresh_key("by each in a minute")
    assert [status_of_whole(here, key) for _ in range(3)] == [200, 200, 429]

    own_redis.start()
    gate = Gate()
    upstream.script = scripts.held(gate)
    until = time.monotonic() + BACK_SECONDS
    attempt = 0
    while statuses(fresh_key(f"together again {attempt}"), here, there) != [200, 429]:
        attempt += 1
        assert time.monotonic() < until, "Redis is back, and each replica still counts alone"
    gate.open()


def test_a_stop_without_a_message_takes_effect_within_about_a_second(
    own_redis: Redis, start_cluster: Callable[..., Cluster], upstream: Simulator, gate: Gate
) -> None:
    here, there = start_cluster(REDIS_URL=own_redis.url).replicas
    seen = len(upstream.requests)
    upstream.script = scripts.held(gate, BEFORE, AFTER)
    reader = Reader.chat(here)
    reader.read_until("東京")
    own_redis.pause()
    with ThreadPoolExecutor(1) as pool:
        begun = time.monotonic()
        stopped = pool.submit(there.post, f"/api/chat/{reader.session_id}/stop")
        assert upstream.requests[seen].left.wait(BACK_SECONDS)
        assert (upstream.requests[seen].left_at or 0) - begun < DEAF_STOP_SECONDS
        kept = stopped.result().json()
    assert (kept["status"], kept["text"]) == ("stopped", BEFORE)
    assert reader.read_all().decode() == BEFORE


def test_while_postgresql_is_away_every_replica_says_so_and_recovers_without_a_restart(
    own_postgres: Postgres, start_cluster: Callable[..., Cluster], upstream: Simulator
) -> None:
    gate = Gate()
    lease = {"CHATAPI_LEASE_SECONDS": "20"}  # longer than the outage, like the default
    cluster = start_cluster(DATABASE_URL=own_postgres.new_database(), CHATAPI_SESSION_ACCESS="key", **lease)
    pids = [replica.pid for replica in cluster.replicas]
    chunks = Chunks()
    upstream.script = scripts.event_stream(
        Send(chunks.content(BEFORE)), Wait(gate), Send(chunks.content(AFTER)), Send(chunks.finish("stop"))
    )
    reader = Reader.chat(cluster)
    reader.read_until("東京")
    of = f"/api/sessions/{reader.session_id}"
    own_postgres.kill()
    gate.open()  # the upstream continues during the outage
    for replica in cluster.replicas:
        attempts: list[Any] = [
            replica.get(of, key=KEY),
            replica.get(f"{of}/messages", key=KEY),
            replica.get("/api/sessions", key=KEY),
            replica.get(f"/api/chat/{reader.session_id}/stream", key=KEY),
            replica.patch(of, key=KEY, json={"title": "Away"}),
            replica.post(f"/api/chat/{reader.session_id}/stop", key=KEY),
            replica.delete(of, key=KEY),
            replica.post("/api/sessions", key=KEY, json={"developer_message": "Be brief."}),
            replica.send("Hello"),
            replica.send("Hello", session_id=reader.session_id),
            replica.get("/api/health"),
        ]
        assert [answer.status_code for answer in attempts] == [503] * len(attempts)
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in attempts)
    own_postgres.start()
    until = time.monotonic() + BACK_SECONDS
    for replica in cluster.replicas:
        while replica.get("/api/health").status_code != 200:
            assert time.monotonic() < until, "PostgreSQL is back, and a replica has not reconnected"
    assert reader.read_all().decode() == BEFORE + AFTER, "the running answer was delayed and lost nothing"
    upstream.script = scripts.answer("Hello")
    for replica in cluster.replicas:
        assert replica.send(session_id=reader.session_id).text == "Hello"
    assert [replica.pid for replica in cluster.replicas] == pids


# Starts that fail


def check_start(folder: Path, *words: str, **environment: str) -> None:
    """Check that the start fails with one sentence with these words, and without a password."""
    ended = start(folder, **{"CHATAPI_SECRET": SECRET, **environment})
    check_one_sentence(ended, *words)
    for hidden in (HUSH, PASSWORD, SECRET, OTHER_SECRET, "Traceback"):
        assert hidden not in ended.stderr


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://anna:{HUSH}@127.0.0.1:{free_port()}/chat",
        f"postgresql://anna:{HUSH}@no-such-host.invalid/chat",
        f"postgresql://anna:{HUSH}@127.0.0.1:port/chat",
        f"postgresql://anna:{HUSH}@[::1/chat",
        f"postgresql://anna:{HUSH}@127.0.0.1:5432/chat?sslmode={HUSH}",
    ],
    ids=["nobody there", "no such host", "no port", "no address", "no such mode"],
)
def test_an_unreachable_database(tmp_path: Path, url: str) -> None:
    check_start(tmp_path, "DATABASE_URL", DATABASE_URL=url)


def test_a_database_that_rejects_the_password(tmp_path: Path) -> None:
    check_start(tmp_path, "DATABASE_URL", "password", DATABASE_URL=postgres().url("postgres", "locked", HUSH))


def test_a_missing_database(tmp_path: Path) -> None:
    check_start(tmp_path, "DATABASE_URL", "createdb", DATABASE_URL=postgres().url("never_made", "locked", PASSWORD))


def test_a_user_without_the_right_to_create_tables(tmp_path: Path) -> None:
    name = postgres().new_database().rpartition("/")[2]
    check_start(tmp_path, "DATABASE_URL", "GRANT", DATABASE_URL=postgres().url(name, "locked", PASSWORD))


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{HUSH}@127.0.0.1:{free_port()}/0",
        f"redis://:{HUSH}@no-such-host.invalid/0",
        f"redis://:{HUSH}@127.0.0.1:port/0",
        f"redis://:{HUSH}@[::1/0",
        f"redis://127.0.0.1:{free_port()}/0?no_such_option={HUSH}",
        f"http://:{HUSH}@127.0.0.1/0",
    ],
    ids=["nobody there", "no such host", "no port", "no address", "no such option", "no redis"],
)
def test_an_unreachable_redis(tmp_path: Path, url: str) -> None:
    check_start(tmp_path, "REDIS_URL", DATABASE_URL=postgres().new_database(), REDIS_URL=url)


def test_a_redis_that_rejects_the_password(tmp_path: Path, own_redis: Redis) -> None:
    with socket.create_connection(("127.0.0.1", own_redis.port)) as administrator:
        administrator.sendall(b"CONFIG SET requirepass another\r\n")
        assert administrator.recv(5) == b"+OK\r\n"
    url = own_redis.url.replace("redis://", f"redis://:{HUSH}@")
    check_start(tmp_path, "REDIS_URL", "password", DATABASE_URL=postgres().new_database(), REDIS_URL=url)


def test_replicas_without_a_secret(tmp_path: Path) -> None:
    ended = start(tmp_path, DATABASE_URL=postgres().new_database())
    check_one_sentence(ended, "CHATAPI_SECRET", "must be set")


def test_a_replica_with_another_secret(tmp_path: Path, cluster: Cluster) -> None:
    url = cluster.environment["DATABASE_URL"]
    check_start(tmp_path, "CHATAPI_SECRET", "another", DATABASE_URL=url, CHATAPI_SECRET=OTHER_SECRET)
    assert cluster.send().status_code == 200, "the other replicas continue"


@pytest.mark.parametrize(("package", "variable"), [("asyncpg", "DATABASE_URL"), ("redis", "REDIS_URL")])
def test_a_package_that_is_not_installed(tmp_path: Path, package: str, variable: str) -> None:
    as_if = f"import sys; sys.modules[{package!r}] = None; from chatapi.cli import main; sys.exit(main([]))"
    settings = {"DATABASE_URL": postgres().new_database(), "REDIS_URL": redis().url, "CHATAPI_SECRET": SECRET}
    ended = subprocess.run(
        [sys.executable, "-c", as_if],
        cwd=tmp_path,
        env=environment_without_settings() | settings | {"PORT": "0", "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )
    check_one_sentence(ended, variable, package, "pip install")


def test_one_process_needs_neither_package(tmp_path: Path) -> None:
    as_if = (
        "import sys; sys.modules['asyncpg'] = sys.modules['redis'] = None\n"
        "from chatapi.app import create_app; from chatapi.settings import Settings; create_app(Settings())"
    )
    done = subprocess.run(
        [sys.executable, "-c", as_if],
        cwd=tmp_path,
        env={"PYTHONPATH": str(PROJECT), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
