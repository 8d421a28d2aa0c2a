"""
SQLite, by Python's own module: WAL, synchronous=FULL, one writer thread with group commit.

It gets what kvtwist gets: 64 MiB of journal before a checkpoint and 128 MiB of cache, both more than its defaults.
Reads run in the reactor thread, where they are fastest.
"""

from __future__ import annotations

import os
import sqlite3
from typing import Any

from twisted.internet.defer import Deferred, succeed

from bench.batches import GroupWriter, Records
from bench.contender import SLICE, Piece, Slice

_CACHE_KIB = 128 * 1024
_SCAN = "SELECT key, value FROM kv WHERE key >= ? ORDER BY key LIMIT ?"
_SCAN_TO = "SELECT key, value FROM kv WHERE key >= ? AND key < ? ORDER BY key LIMIT ?"
_JOURNAL_PAGES = 64 * 2**20 // 4096


class SQLite:
    """See `Contender`."""

    def __init__(self, reactor: Any, directory: str) -> None:
        os.makedirs(directory, exist_ok=True)
        self._path = os.path.join(directory, "data.sqlite")
        self._writer = GroupWriter(reactor, self._write)

    def open(self) -> int:
        """See `Contender.open`."""
        self._writing = self._connect()
        self._reading = self._connect()
        self._writing.execute("CREATE TABLE IF NOT EXISTS kv (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")
        return 0

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_JOURNAL_PAGES}")
        return connection

    def get(self, key: bytes) -> Deferred[bytes | None]:
        """See `Contender.get`."""
        row = self._reading.execute("SELECT value FROM kv WHERE key = ?", (key,)).fetchone()
        return succeed(None if row is None else row[0])

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
        if stop is None:
            rows = self._reading.execute(_SCAN, (start, SLICE)).fetchall()
        else:
            rows = self._reading.execute(_SCAN_TO, (start, stop, SLICE)).fetchall()
        return succeed(Piece(rows, rows[-1][0] + b"\0" if len(rows) == SLICE else None))

    def clear(self) -> Deferred[Any]:
        """See `Contender.clear`."""
        return self._writer.run(lambda: self._writing.execute("DELETE FROM kv"))

    def count(self) -> int:
        """See `Contender.count`."""
        return int(self._reading.execute("SELECT count(*) FROM kv").fetchone()[0])

    def checkpoint(self) -> Deferred[Any]:
        """See `Contender.checkpoint`."""
        return self._writer.run(self._truncate)

    def _truncate(self) -> None:
        busy, _, _ = self._writing.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise RuntimeError("the checkpoint could not finish")

    def close(self) -> Deferred[None]:
        """See `Contender.close`."""
        return self.checkpoint().addCallback(self._close)

    def _close(self, _: object) -> None:
        self._writer.stop()
        self._reading.close()
        self._writing.close()

    def _write(self, records: Records) -> None:
        self._writing.execute("BEGIN IMMEDIATE")
        self._writing.executemany("INSERT OR REPLACE INTO kv VALUES (?, ?)", records)
        self._writing.execute("COMMIT")
