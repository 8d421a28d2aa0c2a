"""
kvtwist as a contender. The one place of the benchmarks that knows how its engine is put together.

Its store's own Deferreds are handed out as they are, so that nothing is measured but the store.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

from twisted.internet.defer import Deferred

from bench.contender import SLICE, Slice
from kvtwist.engine import Limits, Store
from kvtwist.engine.disk import Disk
from kvtwist.engine.storage import Storage
from kvtwist.engine.timeline import Timeline
from kvtwist.engine.worker import ThreadWorker
from kvtwist.model import DATA, OCTETS, Clear, Operation, Put, Record


class Kvtwist:
    """:param memory_limit: in bytes, as `--memory-limit` sets it; None for the engine's default."""

    def __init__(self, reactor: Any, directory: str, memory_limit: int | None = None) -> None:
        journal, pages, reads = (ThreadWorker(reactor, name) for name in ("journal", "pages", "reads"))
        storage = Storage(directory, Disk(), journal, pages, read_worker=reads)
        limits = Limits() if memory_limit is None else Limits.within(memory_limit)
        self._store = Store(reactor, Timeline(reactor.seconds, time.monotonic), storage, limits)

    def open(self) -> int:
        """See `Contender.open`."""
        recovery = self._store.open()
        self._store.start()
        return recovery.transactions

    def get(self, key: bytes) -> Deferred[Any]:
        """See `Contender.get`."""
        return self._store.get(DATA, key)

    def value(self, found: Record) -> bytes:
        """See `Contender.value`."""
        return found.value

    def put(self, key: bytes, value: bytes) -> Deferred[Any]:
        """See `Contender.put`."""
        return self._store.transact((), (Put(DATA, key, value, OCTETS),))

    def put_all(self, records: Sequence[tuple[bytes, bytes]], ttl_ms: int | None = None) -> Deferred[Any]:
        """See `Contender.put_all`."""
        operations: list[Operation] = [Put(DATA, key, value, OCTETS, ttl_ms) for key, value in records]
        return self._store.transact((), operations)

    def scan(self, start: bytes, stop: bytes | None = None) -> Deferred[Slice]:
        """See `Contender.scan`."""
        return cast("Deferred[Slice]", self._store.scan(DATA, start, stop, SLICE))

    def clear(self) -> Deferred[Any]:
        """See `Contender.clear`."""
        return self._store.transact((), (Clear(DATA),))

    def count(self) -> int:
        """See `Contender.count`."""
        return self._store.usage(DATA).records

    def checkpoint(self) -> Deferred[None]:
        """See `Contender.checkpoint`."""
        return Deferred.fromCoroutine(self._checkpoint())

    async def _checkpoint(self) -> None:
        await self._store.housekeeping.checkpoint()
        if self._store.figures().journal_bytes:  # that was one which had begun before
            await self._store.housekeeping.checkpoint()
        if self._store.figures().failed_checkpoints:
            raise RuntimeError("a checkpoint failed")

    def close(self) -> Deferred[None]:
        """See `Contender.close`. The checkpoint comes first: within a clean stop it has some seconds only."""
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        await self._checkpoint()
        await self._store.close()
