"""The client that blocks, in a thread beside the reactor's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

import kvtwist.client
from kvtwist.client import (
    Delete,
    Invalid,
    Json,
    Listed,
    LockLost,
    Outcome,
    PreconditionFailed,
    Put,
    Record,
    Reset,
    _http,
)
from kvtwist.client._http import Body
from kvtwist.client.sync import Client
from kvtwist.testing import MemoryServer
from tests.support.server import PATIENCE

T = TypeVar("T")


async def in_thread(work: Callable[[Client], T]) -> T:
    """What a thread finds with a client of an empty server."""
    async with MemoryServer() as server:
        url = server.listen()

        def run() -> T:
            with Client(url, timeout=PATIENCE) as client:
                return work(client)

        result: T = await deferToThread(run)
        return result


@ensureDeferred
async def test_its_calls_are_those_of_the_other_one() -> None:
    ours, theirs = (
        {name for name in vars(kind) if not name.startswith("_")} for kind in (Client, kvtwist.client.Client)
    )
    assert ours == theirs


@ensureDeferred
async def test_keys() -> None:
    def work(client: Client) -> None:
        assert client.get("a") is None
        revision = client.put("a", Json([1]), ttl=100, if_revision=0)
        record = client.get("a")
        assert record is not None and (record.json(), record.revision) == ([1], revision)
        assert record.expires_ms is not None
        with pytest.raises(PreconditionFailed):
            client.put("a", b"", if_revision=0)
        assert client.put("b", "x", content_type="text/html", retry=True) == revision + 1
        assert client.delete("a", if_revision=revision) is True
        assert client.delete("a", retry=True) is False
        client.update("n", more, content_type="text/n", ttl=100)
        client.update("n", more)
        record = client.get("n")
        assert record is not None and (record.text, record.content_type, record.expires_ms) == ("2", "text/n", None)
        assert client.status().revision == record.revision
        with pytest.raises(Invalid):
            client.get("")

    def more(record: Record | None) -> str:
        return str(int(record.text) + 1 if record else 1)

    await in_thread(work)


@ensureDeferred
async def test_many_keys() -> None:
    def work(client: Client) -> None:
        txn = client.txn()
        for number in range(1500):
            txn.put(f"p/{number:04}", "v")
        outcome: Outcome = txn.commit()
        assert outcome.committed and len(outcome.results) == 1500
        assert [record.key for record in client.range("p/")] == [f"p/{number:04}" for number in range(1500)]
        found = client.range("p/", after="p/0003", before="p/0001", limit=9, reverse=True, keys_only=True)
        assert [(record.key, record.value) for record in found] == [("p/0002", b"")]
        assert client.txn().if_absent("p/0001").delete("p/0001").otherwise().get("p/0001").commit(retry=True).record(0)
        assert client.delete_prefix("p/") == 1500
        assert list(client.range()) == []

    await in_thread(work)


@ensureDeferred
async def test_locks() -> None:
    def work(client: Client) -> None:
        with client.lock("l", 10, owner="me") as lease:
            record = client.get("l")
            assert record is not None and (record.revision, record.json()["owner"]) == (lease.token, "me")
            assert lease.is_held and lease.key == "l"
            lease.check()
            assert client.lock("l", 10).try_acquire() is None
        assert not lease.is_held
        with pytest.raises(LockLost):
            lease.check()
        with client.lock("l", 10).acquire() as lease:
            assert client.get("l") is not None
        assert client.get("l") is None
        taken = client.lock("l", 10).try_acquire()
        assert taken is not None
        taken.release()

    await in_thread(work)


@ensureDeferred
async def test_the_reactors_thread_must_not_wait() -> None:
    with pytest.raises(RuntimeError, match=r"use kvtwist\.client\.Client"):
        Client()
    with pytest.raises(Invalid):
        await deferToThread(Client, "nowhere")


@ensureDeferred
async def test_an_error_while_waiting_cancels_the_call() -> None:
    from kvtwist.client import _thread

    cancelled: Deferred[None] = Deferred()

    class Interrupted:
        """A future whose waiting ends by Ctrl-C."""

        def result(self) -> None:
            raise KeyboardInterrupt

        def done(self) -> bool:
            return False

        def set_result(self, result: object) -> None: ...

        def set_exception(self, error: object) -> None: ...

    def wait() -> None:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(_thread, "Future", lambda: Interrupted())
            _thread.blocking(lambda: Deferred(lambda _: cancelled.callback(None)))

    await deferToThread(wait)
    await cancelled


@ensureDeferred
async def test_watches() -> None:
    def work(client: Client) -> None:
        revision = client.put("a", "1")
        with client.watch("a", after=0) as changes:
            change = next(changes)
            assert isinstance(change, Put) and (change.key, changes.revision) == ("a", revision)
            client.delete("a")
            assert isinstance(next(changes), Delete)
        assert list(changes) == []
        with client.follow(key="a") as changes:
            assert [next(changes), next(changes)] == [Reset(), Listed(revision + 1)]

    await in_thread(work)


@ensureDeferred
async def test_a_watch_that_nobody_has_any_more_is_closed() -> None:
    def work(client: Client) -> Body:
        client.put("a", "1")
        changes = client.watch("a", after=0)
        next(changes)
        assert changes._watch._stream is not None
        return changes._watch._stream.body

    async with MemoryServer() as server:
        url = server.listen()
        body = await deferToThread(lambda: work(Client(url)))
        while body._end is None:
            await deferLater(reactor, 0)
        assert body not in _http._open
