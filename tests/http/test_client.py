"""The client against the real store and server: over pairs of sockets, and over TCP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from kvtwist import __version__
from kvtwist.client import (
    Client,
    ClientError,
    Invalid,
    Json,
    PreconditionFailed,
    Record,
    TooLarge,
    Unavailable,
    Unexpected,
)
from kvtwist.profiles import Settings
from kvtwist.testing import ManualTime, MemoryServer
from tests.support.inprocess import start
from tests.support.server import PATIENCE

KEYS = ["a/b", "a//b", "/a", "a/", "..", ".", "ü %+&=?#", "\0", "+", "%2F", "😀", " ", "x" * 4096]


@pytest_twisted.async_yield_fixture(params=["pairs", "tcp"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    async with MemoryServer() as server:
        client = (
            server.client(timeout=PATIENCE) if request.param == "pairs" else Client(server.listen(), timeout=PATIENCE)
        )
        yield client
        await client.close()


async def keys(records: AsyncIterator[Record]) -> list[str]:
    return [record.key async for record in records]


@ensureDeferred
async def test_a_record_comes_back(client: Client) -> None:
    assert await client.get("a") is None
    for value, content_type, stored, expected_type in (
        (b"\xff\0", None, b"\xff\0", "application/octet-stream"),
        ("ü", None, "ü".encode(), "text/plain"),
        (Json({"a": [1.5, None]}), None, b'{"a":[1.5,null]}', "application/json"),
        ("<p>", "text/html", b"<p>", "text/html"),
        (b"", None, b"", "application/octet-stream"),
        (b"x" * 2**20, "image/png", b"x" * 2**20, "image/png"),
    ):
        revision = await client.put("a", value, content_type=content_type)  # type: ignore[arg-type]
        record = await client.get("a")
        assert record is not None
        assert (record.key, record.value, record.content_type) == ("a", stored, expected_type)
        assert (record.revision, record.expires_ms) == (revision, None)
    await client.put("a", Json(["ü"]))
    record = await client.get("a")
    assert record is not None and (record.text, record.json()) == ('["ü"]', ["ü"])


@ensureDeferred
async def test_every_key_is_itself(client: Client) -> None:
    for key in KEYS:
        await client.put(key, key)
    for key in KEYS:
        record = await client.get(key)
        assert record is not None and (record.key, record.text) == (key, key)
    assert await keys(client.range()) == sorted(KEYS, key=str.encode)
    for key in KEYS:
        assert await keys(client.range(key)) == sorted((k for k in KEYS if k.startswith(key)), key=str.encode)
    for key in KEYS:
        outcome = await client.txn().if_exists(key).get(key).delete(key).commit()
        record = outcome.record(0)
        assert outcome.committed and record is not None and (record.key, record.text) == (key, key)
    assert await keys(client.range()) == []


@ensureDeferred
async def test_conditions(client: Client) -> None:
    first = await client.put("a", "1", if_revision=0)
    for revision in (0, first + 1):
        with pytest.raises(PreconditionFailed):
            await client.put("a", "2", if_revision=revision)
    with pytest.raises(PreconditionFailed):
        await client.delete("a", if_revision=first + 1)
    second = await client.put("a", "2", if_revision=first)
    assert second > first
    assert await client.delete("a", if_revision=second) is True
    assert await client.delete("a") is False
    assert await client.get("a") is None


@ensureDeferred
async def test_ranges(client: Client) -> None:
    names = [f"p/{number:04}" for number in range(2345)]
    txn = client.txn().put("q", b"")
    for name in names:
        txn.put(name, name)
    await txn.commit()
    assert await keys(client.range("p/")) == names
    assert await keys(client.range("p/", reverse=True)) == names[::-1]
    assert await keys(client.range("p/", limit=1500)) == names[:1500]
    assert await keys(client.range("p/", limit=0)) == []
    assert await keys(client.range("p/", after=names[9], before=names[12])) == names[10:12]
    assert await keys(client.range(after=names[-1])) == ["q"]
    assert await keys(client.range(after="p/0002", reverse=True, limit=9)) == ["p/0001", "p/0000"]
    assert [record.value async for record in client.range("p/", limit=2, keys_only=True)] == [b"", b""]
    assert [record.text async for record in client.range("p/", limit=2)] == names[:2]
    assert await client.delete_prefix("p/") == 2345
    assert await keys(client.range()) == ["q"]


@ensureDeferred
async def test_values_of_a_range(client: Client) -> None:
    """Whatever a value is: only white space around JSON is lost."""
    values = {
        "bytes": (b"\xff\0\r\n", "application/octet-stream"),
        "json": (b'{"a": 1.0,\n "b": "\xc3\xbc"}', "application/json"),
        "spaced": (b" [1] ", "application/json"),
        "text": ('"ü\\"\r\n\0'.encode(), "text/plain"),
        "nothing": (b"", "text/plain"),
    }
    for key, (value, content_type) in values.items():
        await client.put(key, value, content_type=content_type)
    found = {record.key: (record.value, record.content_type) async for record in client.range()}
    assert found == {**values, "spaced": (b"[1]", "application/json")}


@ensureDeferred
async def test_transactions(client: Client) -> None:
    await client.put("z", "last")
    outcome = await (
        client.txn()
        .if_absent("a")
        .if_exists("z")
        .if_revision("b", 0)
        .range("z", limit=1)
        .range(after="z")
        .put("a", Json({"n": 1}), ttl=100)
        .put("b", b"\xff", content_type="image/png")
        .put("c", "text")
        .put("d", "[1]", content_type="application/json")
        .put("e", Json([2]), content_type="text/x")
        .get("a")
        .get("none")
        .delete("z")
        .delete("none")
        .otherwise()
        .get("a")
        .commit()
    )
    assert outcome.committed and len(outcome.results) == 11
    page, rest = outcome.page(0), outcome.page(1)
    assert ([record.text for record in page.records], page.following, rest.records) == (["last"], None, [])
    assert outcome.results[2:7] == [outcome.revision] * 5
    first = outcome.record(7)
    assert first is not None and first.json() == {"n": 1} and first.expires_ms == first.modified_ms + 100_000
    assert outcome.results[8:] == [None, True, False]
    stored = {record.key: (record.value, record.content_type) async for record in client.range()}
    assert stored == {
        "a": (b'{"n":1}', "application/json"),
        "b": (b"\xff", "image/png"),
        "c": (b"text", "text/plain"),
        "d": (b"[1]", "application/json"),
        "e": (b"[2]", "text/x"),
    }

    outcome = await client.txn().if_revision("a", 1).delete("a").otherwise().get("a").delete("c").commit()
    assert not outcome.committed
    assert outcome.record(0) == first and outcome.results[1] is True
    with pytest.raises(AssertionError):
        outcome.page(0)
    with pytest.raises(AssertionError):
        outcome.record(1)
    assert (await client.txn().commit()).results == []
    answered = await client.run(b'{"if": [{"key": "none", "exists": true}], "else": [{"get": {"key": "none"}}]}')
    assert (answered.committed, [bytes(result) for result in answered.results]) == (False, [b"null"])


@ensureDeferred
async def test_updates_of_many_clients_are_all_there(client: Client) -> None:
    def more(record: Record | None) -> str:
        return str(int(record.text) + 1 if record else 1)

    await gatherResults([client.update("n", more) for _ in range(20)])
    record = await client.get("n")
    assert record is not None and record.text == "20"


@ensureDeferred
async def test_a_deferred_is_as_good_as_a_coroutine(client: Client) -> None:
    done: Deferred[Any] = client.put("a", "1").addCallback(lambda revision: client.get("a"))
    assert (await done).text == "1"


@ensureDeferred
async def test_status_and_limits(client: Client) -> None:
    revision = await client.put("a", "1")
    status = await client.status()
    assert (status.version, status.revision, status.uptime >= 0) == (__version__, revision, True)
    with pytest.raises(Invalid, match="longer than 4096"):
        await client.get("x" * 4097)
    with pytest.raises(Invalid, match="not the JSON"):
        await client.put("a", b"{", content_type="application/json")
    with pytest.raises(Invalid):
        await client.put("a", b"", ttl=0)
    with pytest.raises(TooLarge):
        await client.put("a", b"x" * (8 * 2**20 + 1))


@ensureDeferred
async def test_a_value_of_the_largest_size(client: Client) -> None:
    for value in (b"\xff" * 8 * 2**20, b"x" * 8 * 2**20):
        await client.put("a", value)
        record = await client.get("a")
        assert record is not None and record.value == value
        assert [record.value async for record in client.range()] == [value]
        assert await client.delete("a")
        outcome = await client.txn().put("a", value).get("a").commit()
        record = outcome.record(1)
        assert record is not None and record.value == value


@ensureDeferred
async def test_a_lock_is_held_by_one_at_a_time(client: Client) -> None:
    async with client.lock("l", 10, owner="one") as lease:
        record = await client.get("l")
        assert record is not None and record.json()["owner"] == "one"
        assert (record.revision, record.expires_ms is not None) == (lease.token, True)
        assert await client.lock("l", 10).try_acquire() is None
    assert await client.get("l") is None
    again = await client.lock("l", 10).try_acquire()
    assert again is not None and again.token > lease.token
    await again.release()


@ensureDeferred
async def test_a_port_without_a_server() -> None:
    async with MemoryServer() as server:
        url = server.listen()
    async with Client(url, tries=1) as client:
        with pytest.raises(Unavailable, match="cannot be reached"):
            await client.get("a")


@ensureDeferred
async def test_a_server_without_the_profile() -> None:
    http = await start("--profile", "lsfr", "--store", "memory")
    async with Client(http.base) as client:
        calls = [client.get("a"), client.put("a", "1"), client.delete("a"), client.status(), client.txn().commit()]
        for call in calls:
            with pytest.raises(Unexpected, match="is that profile served there"):
                await call
    await http.stop()


@ensureDeferred
async def test_time_that_a_test_moves() -> None:
    time = ManualTime()
    async with MemoryServer(time=time) as server:
        client = server.client()
        await client.put("a", "1", ttl=60)
        lease = await client.lock("l", 30).acquire()
        record = await client.get("a")
        assert record is not None and record.expires_ms == record.modified_ms + 60_000 == time.seconds() * 1000 + 60_000
        time.advance(59.999)
        assert await client.get("a") is not None
        time.advance(0.001)
        assert await client.get("a") is None
        assert not lease.is_held, "there was no time to renew it"
        await client.close()


@ensureDeferred
async def test_a_lock_is_kept_as_long_as_it_is_renewed() -> None:
    time = ManualTime()
    async with MemoryServer(time=time) as server:
        client = server.client()
        lease = await client.lock("l", 30).acquire()
        revision = lease.token
        for _ in range(12):
            time.advance(10)
            revision = await renewed(client, revision)
        assert lease.is_held
        server.cut()
        time.advance(10)
        await renewed(client, revision)
        await lease.release()
        assert await client.get("l") is None


async def renewed(client: Client, revision: int) -> int:
    """Wait until the lock has another revision, and return that."""
    while True:
        record = await client.get("l")
        assert record is not None
        if record.revision > revision:
            return record.revision
        await deferLater(reactor, 0)


@ensureDeferred
async def test_the_limits_of_the_server_are_the_tests() -> None:
    async with MemoryServer(settings=Settings(max_value=10)) as server:
        with pytest.raises(TooLarge):
            await server.client().put("a", b"x" * 11)


@ensureDeferred
async def test_nothing_is_left_of_a_server() -> None:
    before = (set(reactor.getReaders()), reactor.getDelayedCalls())
    server = MemoryServer()
    client = server.client()
    url = server.listen()
    other = Client(url)
    await client.put("a", "1")
    assert await other.get("a") is not None
    await other.close()
    await server.stop()
    await server.stop()
    with pytest.raises(ClientError):
        await server.client(tries=1).get("a")
    assert (set(reactor.getReaders()), reactor.getDelayedCalls()) == before
