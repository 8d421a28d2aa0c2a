"""
LMDB, as its package is shipped: synced, without a writable map, one writer thread with group commit.

Each read is a transaction of its own, as each `get` of kvtwist sees the latest state. Its memory map counts as resident
memory although the kernel may take it back at any time; the tables therefore tell anonymous memory from mapped files.
"""

from __future__ import annotations

from typing import Any

import lmdb
from twisted.internet.defer import Deferred, succeed

from bench.batches import GroupWriter, Records
from bench.contender import SLICE, Piece, Slice

_MAP_BYTES = 16 * 2**30


class LMDB:
    """See `Contender`."""

    def __init__(self, reactor: Any, directory: str) -> None:
        self._directory = directory
        self._writer = GroupWriter(reactor, self._write)

    def open(self) -> int:
        """See `Contender.open`."""
        self._environment = lmdb.open(self._directory, map_size=_MAP_BYTES)
        return 0

    def get(self, key: bytes) -> Deferred[bytes | None]:
        """See `Contender.get`."""
        with self._environment.begin() as transaction:
            return succeed(transaction.get(key))

    def value(self, found: bytes) -> bytes:
        """See `Contender.value`."""
        return found

    def put(self, key: bytes, value: bytes) -> Deferred[None]:
        """See `Contender.put`."""
        return self._writer.put(((key, value),))

    def put_all(self, records: Records, ttl_ms: int | None = None) -> Deferred[None]:
        """See `Contender.put_all`. Nothing expires here."""
        return self._writer.put(records)

    def scan(self, start: bytes, stop: bytes | None = None) -> Deferred[Slice]:
        """See `Contender.scan`."""
        items: list[tuple[bytes, bytes]] = []
        with self._environment.begin() as transaction, transaction.cursor() as cursor:
            if cursor.set_range(start):
                for key, value in cursor:
                    if stop is not None and key >= stop:
                        break
                    if len(items) == SLICE:
                        return succeed(Piece(items, key))
                    items.append((key, value))
        return succeed(Piece(items, None))

    def clear(self) -> Deferred[Any]:
        """See `Contender.clear`."""
        return self._writer.run(self._drop)

    def _drop(self) -> None:
        with self._environment.begin(write=True) as transaction:
            transaction.drop(self._environment.open_db(txn=transaction), delete=False)

    def count(self) -> int:
        """See `Contender.count`."""
        return int(self._environment.stat()["entries"])

    def checkpoint(self) -> Deferred[None]:
        """See `Contender.checkpoint`. There is no journal: every transaction writes its pages to their place."""
        return succeed(None)

    def close(self) -> Deferred[None]:
        """See `Contender.close`."""
        return self._writer.run(lambda: None).addCallback(self._close)

    def _close(self, _: None) -> None:
        self._writer.stop()
        self._environment.close()

    def _write(self, records: Records) -> None:
        with self._environment.begin(write=True) as transaction:
            for key, value in records:
                transaction.put(key, value)
