"""Watches of the client against the real store and server, whose connections are cut."""

from __future__ import annotations

import gc
import random
from collections.abc import AsyncIterator
from typing import Any
from weakref import ref

import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from kvtwist.client import Clear, Client, Delete, Expire, Json, Listed, Put, Reset, Watch
from kvtwist.testing import ManualTime, MemoryServer
from tests.support.inprocess import start
from tests.support.mirror import following, records_of
from tests.support.server import PATIENCE


@pytest_twisted.async_yield_fixture
async def server() -> AsyncIterator[MemoryServer]:
    async with MemoryServer() as server:
        yield server


@pytest.fixture
def client(server: MemoryServer) -> Client:
    return server.client(timeout=PATIENCE)


async def told(watch: Watch, count: int) -> list[Any]:
    return [await watch.__anext__() for _ in range(count)]


@ensureDeferred
async def test_changes_of_all_kinds(client: Client) -> None:
    async with client.watch("a/", after=0) as watch:
        first = await client.put("a/b", Json({"c": [1]}), ttl=1000)
        await client.put("b", "")
        second = (await client.txn().put("a/x", b"\xff").put("b", "").delete("a/b").commit()).revision
        seen = await told(watch, 3)
        assert [(change.key, change.revision) for change in seen] == [("a/b", first), ("a/x", second), ("a/b", second)]
        put, other, deleted = seen
        assert (put.record.json(), put.record.content_type) == ({"c": [1]}, "application/json")
        assert put.record.expires_ms == put.record.modified_ms + 1_000_000
        assert (other.record.value, other.record.content_type) == (b"\xff", "application/octet-stream")
        assert isinstance(deleted, Delete) and deleted.modified_ms == other.record.modified_ms
        assert watch.revision == second


@ensureDeferred
async def test_one_key(client: Client) -> None:
    async with client.watch(key="a", after=0) as watch:
        await client.put("ab", "")
        await client.put("a", "")
        [change] = await told(watch, 1)
        assert change.key == "a"


@ensureDeferred
async def test_what_is_there_and_then_its_changes(client: Client) -> None:
    for key in ("a", "b", "c"):
        revision = await client.put(key, key)
    async with client.follow() as watch, client.follow(key="b") as one:
        seen = await told(watch, 5)
        assert (seen[0], [change.key for change in seen[1:4]], seen[4]) == (Reset(), ["a", "b", "c"], Listed(revision))
        assert [type(change) for change in await told(one, 3)] == [Reset, Put, Listed]
        await client.delete("b")
        assert [type(change) for change in await told(watch, 1) + await told(one, 1)] == [Delete, Delete]


@ensureDeferred
async def test_expiry() -> None:
    time = ManualTime()
    async with MemoryServer(time=time) as server:
        client = server.client()
        watch = client.follow("a")
        assert await told(watch, 2) == [Reset(), Listed(0)]
        await client.put("a", "", ttl=60)
        await told(watch, 1)
        time.advance(60)
        [change] = await told(watch, 1)
        assert isinstance(change, Expire) and (change.key, change.modified_ms) == ("a", int(time.seconds() * 1000))
        watch.close()


@ensureDeferred
async def test_through_any_number_of_cuts_all_is_told_once(server: MemoryServer, client: Client) -> None:
    """Values are large enough for cuts to be in the middle of events and transactions."""
    chance = random.Random(7)
    watch = client.follow()
    mirror, done = following(watch, "last")
    for number in range(150):
        txn = client.txn()
        for key in chance.sample(range(30), chance.randrange(1, 6)):
            if chance.random() < 0.7:
                txn.put(f"{key}", chance.randbytes(chance.choice((1, 5000, 30_000))))
            else:
                txn.delete(f"{key}")
        await txn.commit(retry=True)
        if number % 3 == 0:
            for _ in range(chance.randrange(4)):
                await deferLater(reactor, 0)
            server.cut()
    await client.put("last", "", retry=True)
    await done
    assert mirror.records == await records_of(client)
    assert mirror.resets == 1
    watch.close()


@ensureDeferred
async def test_a_listing_of_many_pages_while_others_write(client: Client) -> None:
    for first in range(0, 3500, 500):
        txn = client.txn()
        for number in range(first, first + 500):
            txn.put(f"{number:05}", "old")
        await txn.commit()
    watch = client.follow()
    mirror, done = following(watch, "last")
    chance = random.Random(7)
    for _ in range(300):
        key = f"{chance.randrange(3500):05}"
        if chance.random() < 0.5:
            await client.put(key, "new")
        else:
            await client.delete(key)
        if chance.random() < 0.2:
            await client.put(f"{chance.randrange(3500):05}+", "another")
    await client.put("last", "")
    await done
    assert mirror.records == await records_of(client)
    watch.close()


@ensureDeferred
async def test_a_server_that_has_lost_its_memory() -> None:
    """Its revisions are behind what the client has seen."""
    async with MemoryServer() as first:
        url = first.listen()
        client = Client(url)
        for number in range(5):
            await client.put(f"{number}", "")
        watch = client.watch(after=0)
        await told(watch, 5)
    async with MemoryServer() as second:
        second.listen(int(url.rpartition(":")[2]))
        await client.put("new", "", retry=True)
        seen = await told(watch, 3)
        assert (seen[0], seen[1].key, seen[2]) == (Reset(), "new", Listed(1))
        await client.put("newer", "")
        assert [change.key for change in await told(watch, 1)] == ["newer"]
        watch.close()
        await client.close()


@ensureDeferred
async def test_a_future_revision_is_a_listing(client: Client) -> None:
    await client.put("a", "")
    async with client.watch(after=99) as watch:
        assert [type(change) for change in await told(watch, 3)] == [Reset, Put, Listed]


@ensureDeferred
async def test_a_paused_watch_that_becomes_garbage_is_closed_in_order(server: MemoryServer, client: Client) -> None:
    """Its connection must not be collected first: the reactor would go on with a number that is another file's."""

    async def begun() -> Any:
        watch = client.watch(after=0)
        await told(watch, 1)
        while watch._stream is not None and watch._stream.body._size < 64 * 1024:
            await deferLater(reactor, 0)
        holder = [watch]
        holder.append(holder)  # type: ignore[arg-type] # a circle, which only the garbage collector finds
        assert watch._stream is not None
        return watch._stream.body.transport._producer

    for number in range(3):
        await client.put(f"{number}", b"x" * 100_000)
    transport = ref(await begun())
    gc.collect()
    alive = transport()
    assert alive is not None
    while alive.connected:
        await deferLater(reactor, 0)


@ensureDeferred
async def test_a_lock_is_handed_over(client: Client) -> None:
    first = await client.lock("l", 30).acquire()
    waiting = [client.lock("l", 30).acquire() for _ in range(3)]
    tokens = [first.token]
    lease = first
    while waiting:
        await lease.release()
        lease = await first_of(waiting)
        tokens.append(lease.token)
    assert tokens == sorted(set(tokens)) and len(tokens) == 4
    await lease.release()


async def first_of(waiting: list[Deferred[Any]]) -> Any:
    """The first lease that anybody gets; it is taken out of the list."""
    while True:
        for done in waiting:
            if done.called and not isinstance(done.result, Deferred):
                waiting.remove(done)
                return await done
        await deferLater(reactor, 0)


@ensureDeferred
async def test_a_dead_holder_loses_its_lock() -> None:
    time = ManualTime()
    async with MemoryServer(time=time) as server:
        client = server.client()
        await client.put("l", "a holder that does not renew", ttl=30)
        waiting = client.lock("l", 30).acquire()
        while not waiting.called:
            time.advance(1)
            for _ in range(20):
                await deferLater(reactor, 0)
        lease = await waiting
        assert lease.is_held
        await lease.release()


@ensureDeferred
async def test_a_clear() -> None:
    http = await start("--profile", "native", "--profile", "lsfr", "--store", "memory")
    async with Client(http.base) as client:
        revision = await client.put("a", "")
        async with client.watch(after=revision) as watch:
            assert (await http("DELETE", "/clear")).status == 200
            [change] = await told(watch, 1)
            assert isinstance(change, Clear) and change.revision == revision + 1
    await http.stop()
