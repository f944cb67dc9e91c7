"""Queues, buckets and budgets that several callers share."""

from __future__ import annotations

import asyncio

import pytest

from chatapi.errors import Overloaded, TooManyGenerations
from chatapi.limits import BodyBudget, FairQueue, KnownOwners, LeakyBuckets, LocalSlots
from chatapi.limits.body_budget import FREE_BYTES
from chatapi.limits.fair_queue import MAX_WAITING
from chatapi.server.connections import ConnectionTable

KIB = 1024


async def test_callers_take_turns_however_many_jobs_one_of_them_queues() -> None:
    queue, order, all_wait = FairQueue(at_once=1), [], asyncio.Event()

    async def job(group: str, number: int) -> None:
        async with queue.turn(group):
            order.append(f"{group}{number}")
            await all_wait.wait()

    jobs = [asyncio.create_task(job("a", number)) for number in range(4)]
    jobs += [asyncio.create_task(job(group, 0)) for group in ("b", "c")]
    await asyncio.sleep(0)
    all_wait.set()
    await asyncio.gather(*jobs)
    assert order == ["a0", "b0", "c0", "a1", "a2", "a3"]


async def test_one_caller_runs_one_job_at_a_time() -> None:
    queue, running = FairQueue(at_once=4), 0

    async def job() -> None:
        nonlocal running
        async with queue.turn("a"):
            running += 1
            assert running == 1
            await asyncio.sleep(0)
            running -= 1

    await asyncio.gather(*(job() for _ in range(10)))
    assert not queue.busy


async def test_a_job_that_is_cancelled_in_the_queue_leaves_no_gap() -> None:
    queue = FairQueue(at_once=1)
    async with queue.turn("a"):
        waiting = [asyncio.create_task(queue.turn("b").__aenter__()) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
    await asyncio.wait_for(waiting[1], 1)
    assert waiting[0].cancelled()


async def test_a_queue_of_one_caller_is_bounded() -> None:
    queue = FairQueue(at_once=1)
    async with queue.turn("a"):
        waiting = [asyncio.create_task(queue.turn("a").__aenter__()) for _ in range(MAX_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await queue.turn("a").__aenter__()
        other = asyncio.create_task(queue.turn("b").__aenter__())
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
    await asyncio.wait_for(other, 1)


async def test_one_start_of_a_caller_in_a_pass_of_the_loop() -> None:
    queue, order, passes = FairQueue(at_once=4), [], 0

    async def start(group: str) -> None:
        await queue.take_start(group)
        order.append((passes, group))

    jobs = [asyncio.create_task(start(group)) for group in "aaab"]
    while not all(job.done() for job in jobs):
        await asyncio.sleep(0)
        passes += 1
    starts_of_a = [number for number, group in order if group == "a"]
    assert order[:2] == [(0, "a"), (0, "b")], "the first of each at once"
    assert len(set(starts_of_a)) == len(starts_of_a) == 3
    await asyncio.sleep(0)
    assert not queue.active


async def test_a_start_that_is_cancelled_in_the_queue_leaves_no_gap() -> None:
    queue = FairQueue(at_once=1)
    async with queue.turn("a"):
        waiting = [asyncio.create_task(queue.take_start("b")) for _ in range(2)]
        await asyncio.sleep(0)
        assert queue.waiting == 2
        waiting[0].cancel()
    await asyncio.wait_for(waiting[1], 1)
    await asyncio.sleep(0)
    assert not queue.active


def test_a_bucket_is_full_after_a_minutes_requests_and_empties_evenly() -> None:
    now = 100.0
    buckets = LeakyBuckets(60, lambda: now)
    for _ in range(59):
        buckets.add("a")
        assert not buckets.wait_seconds("a")
    buckets.add("a")
    assert buckets.wait_seconds("a") == pytest.approx(1)
    assert not buckets.wait_seconds("b")
    now += 1
    assert not buckets.wait_seconds("a")


def test_a_costly_request_counts_as_many_and_debt_is_bounded() -> None:
    now = 0.0
    buckets = LeakyBuckets(60, lambda: now)
    buckets.add("a", 30)
    assert not buckets.wait_seconds("a")
    buckets.add("a", 10_000)
    assert 60 < buckets.wait_seconds("a") <= 61


def test_the_owner_that_was_not_accepted_for_longest_is_forgotten_first() -> None:
    known = KnownOwners(2)
    for owner in ("a", "b", "a", "c"):
        known.add(owner)
    assert "a" in known
    assert "c" in known
    assert "b" not in known


def test_one_caller_alone_holds_half_of_the_memory_for_bodies() -> None:
    budget = BodyBudget(1024 * KIB)
    share = budget.open("a", verified=True)
    share.grow(512 * KIB + FREE_BYTES)
    with pytest.raises(Overloaded, match="CHATAPI_MAX_UNFINISHED_BYTES"):
        share.grow(513 * KIB + FREE_BYTES)
    other = budget.open("b", verified=True)
    other.grow(256 * KIB + FREE_BYTES)
    share.close()
    share.close()
    other.close()
    assert budget.used_bytes == 0


def test_callers_without_an_accepted_key_share_one_half() -> None:
    budget = BodyBudget(1024 * KIB)
    held = 0
    for number in range(100):
        share = budget.open(f"address {number}", verified=False)
        try:
            share.grow(64 * KIB + FREE_BYTES)
        except Overloaded:
            break
        held += 64
    assert 256 <= held <= 512
    budget.open("owner", verified=True).grow(256 * KIB)


def test_a_small_body_passes_whatever_others_hold() -> None:
    budget = BodyBudget(64 * KIB)
    budget.open("a", verified=True).grow(32 * KIB + FREE_BYTES)
    budget.open("b", verified=False).grow(FREE_BYTES)


async def test_a_request_waits_in_line_for_a_slot_of_its_key() -> None:
    slots = LocalSlots(per_owner=1, in_all=0, wait_seconds=5)
    first = await slots.take("a")
    waiting = [asyncio.create_task(slots.take("a")) for _ in range(2)]
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in waiting)
    await slots.take("b")
    await slots.give_back(first)
    second = await asyncio.wait_for(waiting[0], 1)
    assert not waiting[1].done()
    await slots.give_back(second)
    await asyncio.wait_for(waiting[1], 1)


async def test_a_wait_for_a_slot_ends_and_leaves_the_line() -> None:
    slots = LocalSlots(per_owner=1, in_all=0, wait_seconds=0.02)
    slot = await slots.take("a")
    with pytest.raises(TooManyGenerations):
        await slots.take("a")
    await slots.give_back(slot)
    assert await slots.take("a")


class Peer:
    """A connection that a table sees."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.unwritten_bytes = self.written_bytes = 0
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


def table(in_all: int = 4, per_address: int = 3, write_seconds: float = 60.0) -> ConnectionTable:
    return ConnectionTable(asyncio.get_running_loop(), in_all, per_address, write_seconds)


async def test_at_the_limit_the_connection_that_waited_longest_makes_room() -> None:
    connections = table()
    peers = [Peer("a") for _ in range(3)]
    assert all(connections.add(peer) for peer in peers)
    connections.serve(peers[0])  # it has sent its request
    assert connections.add(Peer("a"))
    assert [peer.aborted for peer in peers] == [False, True, False]
    assert len(connections) == 3


async def test_where_no_connection_waits_a_new_one_is_refused() -> None:
    connections = table()
    peers = [Peer("a") for _ in range(3)]
    for peer in peers:
        connections.add(peer)
        connections.serve(peer)
    assert not connections.add(Peer("a"))
    assert connections.add(Peer("b"))
    connections.remove(peers[0])
    connections.remove(peers[0])
    assert connections.add(Peer("a"))


async def test_a_trusted_proxy_has_no_limit_of_its_own() -> None:
    connections = table()
    for _ in range(4):
        peer = Peer("proxy")
        assert connections.add(peer, unlimited=True)
        connections.serve(peer)
    assert not connections.add(Peer("proxy"), unlimited=True)


async def test_a_connection_whose_client_reads_nothing_is_closed_and_one_that_reads_slowly_is_not() -> None:
    connections = table(write_seconds=0.2)
    stuck, slow, idle = Peer("a"), Peer("a"), Peer("b")
    for peer in (stuck, slow, idle):
        connections.add(peer)
        connections.serve(peer)
    stuck.written_bytes = stuck.unwritten_bytes = 1000
    for step in range(12):
        slow.written_bytes = 2000 + 100 * step
        slow.unwritten_bytes = 1000  # 100 bytes a step are read
        stuck.written_bytes += 100  # more is written, and nothing is read
        stuck.unwritten_bytes += 100
        await asyncio.sleep(0.05)
    assert stuck.aborted
    assert not slow.aborted
    assert not idle.aborted
    connections.close()
