"""Scans of a keyspace, and responses, that may be larger than memory."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Protocol

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import deferLater
from zope.interface import implementer

from kvtwist.interfaces import IStore
from kvtwist.model import Record, UnchangedSince

Items = deque[tuple[bytes, Record]]
"""The rest of a slice: a record that `popleft` has removed can be freed."""


async def scan(
    store: IStore, keyspace: str, start: bytes = b"", stop: bytes | None = None, reverse: bool = False
) -> AsyncIterator[Items]:
    """Scan a range, a slice at a time. See `IStore.scan`."""
    while True:
        found = await store.scan(keyspace, start, stop, reverse=reverse)
        items, resume = deque(found.items), found.resume
        del found  # it refers to all records of the slice
        yield items
        if resume is None:
            return
        await deferLater(reactor, 0)  # other requests are answered between two slices
        if reverse:
            stop = resume
        else:
            start = resume


async def gathered(store: IStore, keyspace: str) -> tuple[list[tuple[bytes, Record]], UnchangedSince]:
    """
    Every (key, record) of a keyspace, and the condition that the keyspace has not changed since, for a transaction.

    A keyspace that fits one slice is read without returning to the reactor, so no other write can intervene.
    """
    found = await store.scan(keyspace, settled=False)
    items = list(found.items)
    if found.resume is not None:
        async for more in scan(store, keyspace, found.resume):
            items += more
    return items, UnchangedSince(keyspace, found.revision, found.rollbacks)


@implementer(IPushProducer)
class _Producer:
    """Tells a coroutine when the connection takes more."""

    def __init__(self) -> None:
        self._paused: Deferred[None] | None = None

    def pauseProducing(self) -> None:
        if self._paused is None:
            self._paused = Deferred()

    def resumeProducing(self) -> None:
        paused, self._paused = self._paused, None
        if paused is not None:
            paused.callback(None)

    def stopProducing(self) -> None:
        """Do nothing: the dispatcher cancels the handler when the client has left."""

    async def resumed(self) -> None:
        if self._paused is not None:
            await self._paused


class Chunks(Protocol):
    """The pieces of a body, such as an asynchronous generator."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None:
        """Make no more pieces, and free what they would have been made from."""


async def send(request: Any, chunks: Chunks) -> None:
    """Write a body piece by piece, as fast as the client takes it. Set the headers before."""
    producer = _Producer()
    request.registerProducer(producer, True)
    try:
        async for chunk in chunks:
            request.write(chunk)
            del chunk  # free it before the next one is made
            await producer.resumed()
    except Exception:
        await chunks.aclose()  # free memory now; a client that has left must not hold it until garbage is collected
        raise
    finally:
        request.unregisterProducer()
