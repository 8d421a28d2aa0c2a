"""
`twisted.persisted.dirdbm.DirDBM` as it is shipped: a file to a record, in the reactor thread, and NOT DURABLE.

It never syncs, and replaces an entry by removing it first: what it gains over the others it gains that way.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.persisted.dirdbm import DirDBM

from bench.batches import Records
from bench.contender import SLICE, Piece, Slice


class PlainDirDBM:
    """See `Contender`."""

    def __init__(self, reactor: Any, directory: str) -> None:
        self._directory = directory
        self._sorted: list[bytes] | None = None

    def open(self) -> int:
        """See `Contender.open`."""
        self._entries = DirDBM(self._directory.encode())
        return 0

    def get(self, key: bytes) -> Deferred[bytes | None]:
        """See `Contender.get`."""
        return succeed(self._entries.get(key))

    def value(self, found: bytes) -> bytes:
        """See `Contender.value`."""
        return found

    def put(self, key: bytes, value: bytes) -> Deferred[None]:
        """See `Contender.put`."""
        self._entries[key] = value
        return succeed(None)

    def put_all(self, records: Records, ttl_ms: int | None = None) -> Deferred[None]:
        """See `Contender.put_all`. Neither is it a transaction here, nor does anything expire."""
        for key, value in records:
            self._entries[key] = value
        return succeed(None)

    def scan(self, start: bytes, stop: bytes | None = None) -> Deferred[Slice]:
        """See `Contender.scan`. There is no order: a scan lists all names and sorts them, once for all its slices."""
        if self._sorted is None:
            keys = self._entries.keys()
            self._sorted = sorted(key for key in keys if start <= key and (stop is None or key < stop))
        items = [(key, self._entries[key]) for key in self._sorted[:SLICE]]
        self._sorted = self._sorted[SLICE:]
        resume = self._sorted[0] if self._sorted else None
        if resume is None:
            self._sorted = None
        return succeed(Piece(items, resume))

    def clear(self) -> Deferred[None]:
        """See `Contender.clear`."""
        self._entries.clear()
        return succeed(None)

    def count(self) -> int:
        """See `Contender.count`."""
        return len(self._entries)

    def checkpoint(self) -> Deferred[None]:
        """See `Contender.checkpoint`. There is no journal."""
        return succeed(None)

    def close(self) -> Deferred[None]:
        """See `Contender.close`."""
        return succeed(None)
