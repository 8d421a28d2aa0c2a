"""Going through a keyspace that may be larger than memory, and sending what may be larger than memory."""

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
"""What is left of a slice: whoever takes an item out of it with `popleft` can let go of it."""


async def scan(
    store: IStore, keyspace: str, start: bytes = b"", stop: bytes | None = None, reverse: bool = False
) -> AsyncIterator[Items]:
    """Every (key, record) of a range, a slice at a time. See `IStore.scan`."""
    while True:
        found = await store.scan(keyspace, start, stop, reverse=reverse)
        items, resume = deque(found.items), found.resume
        del found  # which has all of them
        yield items
        if resume is None:
            return
        await deferLater(reactor, 0)  # others get their turn between two slices
        if reverse:
            stop = resume
        else:
            start = resume


async def gathered(store: IStore, keyspace: str) -> tuple[list[tuple[bytes, Record]], UnchangedSince]:
    """
    Every (key, record) of a keyspace, for a transaction on the condition that comes with it: that this is still what
    the keyspace holds. What fits into a slice is there at once, so that nobody can come in between.
    """
    found = await store.scan(keyspace, settled=False)
    items = list(found.items)
    if found.resume is not None:
        async for more in scan(store, keyspace, found.resume):
            items += more
    return items, UnchangedSince(keyspace, found.revision, found.rollbacks)


@implementer(IPushProducer)
class _Producer:
    """Open while the connection takes more."""

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
        """The connection is gone; who waits is cancelled by whoever called the handler."""

    async def resumed(self) -> None:
        if self._paused is not None:
            await self._paused


class Chunks(Protocol):
    """The pieces of a body. As an asynchronous generator has, it has an end that can come early."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None:
        """Let go of all that the rest would have been made from."""


async def send(request: Any, chunks: Chunks) -> None:
    """Write a body piece by piece, as fast as the client takes it; status and headers must be set before."""
    producer = _Producer()
    request.registerProducer(producer, True)
    try:
        async for chunk in chunks:
            request.write(chunk)
            del chunk  # or it would be kept until the next one is there
            await producer.resumed()
    except Exception:
        await chunks.aclose()  # a client that has left must not cost memory until Python looks for garbage
        raise
    finally:
        request.unregisterProducer()
