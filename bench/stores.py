"""
The embedded stores that engine.py compares, with one interface and in one Twisted loop.

All but DirDBM answer a write when it is durable. SQLite and LMDB write in a thread with kvtwist's own rule of group
commit: at most one batch is being written, all that arrives meanwhile is the next, with one sync for each. They read in
the reactor thread, where they are fastest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

SLICE: Final = 1000
"""Records that `Store.scan` returns at most."""
_CACHE_KIB: Final = 128 * 1024
_JOURNAL_PAGES: Final = 64 * 2**20 // 4096
"""SQLite gets as much cache and journal as kvtwist has by default; its own defaults are smaller."""
_LMDB_MAP: Final = 16 * 2**30

Found = tuple[Sequence[tuple[bytes, Any]], bytes | None]
"""A slice of a scan in key order, and the key to go on from; None at the end."""


class Store(Protocol):
    """All methods are called in the reactor thread. A Deferred may have fired already."""

    def open(self) -> None:
        """Open the store, or make it. Blocks."""

    def get(self, key: bytes) -> Deferred[Any]:
        """The record under a key, or None."""

    def value(self, record: Any) -> bytes:
        """The value of a record; most stores return it as it is."""
        value: bytes = record
        return value

    def put(self, key: bytes, value: bytes) -> Deferred[Any]:
        """Fires when the record is as durable as the store makes it."""

    def scan(self, start: bytes, stop: bytes | None = None) -> Deferred[Found]:
        """Up to `SLICE` records from a key on."""

    def close(self) -> Deferred[Any]:
        """Close the store; nothing is left in a journal."""


class Kvtwist(Store):
    """The engine as `twistd kvstore` puts it together by default, without the services that listen."""

    def __init__(self, reactor: Any, directory: str) -> None:
        from kvtwist.engine import StoreService
        from kvtwist.model import DATA, OCTETS, Put
        from kvtwist.tap import Options, makeService

        options = Options({})
        options.parseOptions(["--store", "dir", "--working-dir", directory, "--admin", "off"])
        self._service = next(part for part in makeService(options) if isinstance(part, StoreService))
        self._store = self._service.store
        self._keyspace = DATA
        self._operation = lambda key, value: Put(DATA, key, value, OCTETS)

    def open(self) -> None:
        self._service.privilegedStartService()
        self._service.startService()

    def get(self, key: bytes) -> Deferred[Any]:
        return self._store.get(self._keyspace, key)

    def value(self, record: Any) -> bytes:
        value: bytes = record.value
        return value

    def put(self, key: bytes, value: bytes) -> Deferred[Any]:
        return self._store.transact((), (self._operation(key, value),))

    def scan(self, start: bytes, stop: bytes | None = None) -> Deferred[Found]:
        found = self._store.scan(self._keyspace, start, stop, SLICE)
        return found.addCallback(lambda part: (part.items, part.resume))

    def close(self) -> Deferred[None]:
        return self._service.stopService()


class _GroupCommit:
    """:param write: writes records in one durable transaction; called in a thread."""

    def __init__(self, reactor: Any, write: Callable[[list[tuple[bytes, bytes]]], None]) -> None:
        self._reactor = reactor
        self._write = write
        self._pool = ThreadPool(minthreads=1, maxthreads=1, name="writer")
        self._records: list[tuple[bytes, bytes]] = []
        self._waiting: list[Deferred[None]] = []
        self._writing = False
        self._pool.start()

    def put(self, key: bytes, value: bytes) -> Deferred[None]:
        """Fires when the record's batch is durable."""
        done: Deferred[None] = Deferred()
        self._records.append((key, value))
        self._waiting.append(done)
        if not self._writing:
            self._start()
        return done

    def stop(self) -> None:
        """End the thread."""
        self._pool.stop()

    def _start(self) -> None:
        records, waiting = self._records, self._waiting
        self._records, self._waiting = [], []
        self._writing = True
        deferToThreadPool(self._reactor, self._pool, self._write, records).addBoth(self._written, waiting)

    def _written(self, result: Failure | None, waiting: list[Deferred[None]]) -> None:
        self._writing = False
        if self._records:
            self._start()
        for done in waiting:
            done.callback(result)


class SQLite(Store):
    """Python's sqlite3: WAL and synchronous=FULL."""

    def __init__(self, reactor: Any, directory: str) -> None:
        os.makedirs(directory, exist_ok=True)
        self._path = os.path.join(directory, "data.sqlite")
        self._group_commit = _GroupCommit(reactor, self._write)

    def open(self) -> None:
        self._writer, self._reader = self._connect(), self._connect()
        self._writer.execute("CREATE TABLE IF NOT EXISTS kv (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")

    def _connect(self) -> Any:
        import sqlite3

        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_JOURNAL_PAGES}")
        return connection

    def get(self, key: bytes) -> Deferred[bytes | None]:
        row = self._reader.execute("SELECT value FROM kv WHERE key = ?", (key,)).fetchone()
        return succeed(None if row is None else row[0])

    def put(self, key: bytes, value: bytes) -> Deferred[None]:
        return self._group_commit.put(key, value)

    def scan(self, start: bytes, stop: bytes | None = None) -> Deferred[Found]:
        bound, values = ("", (start, SLICE)) if stop is None else ("AND key < ?", (start, stop, SLICE))
        query = f"SELECT key, value FROM kv WHERE key >= ? {bound} ORDER BY key LIMIT ?"
        rows = self._reader.execute(query, values).fetchall()
        return succeed((rows, rows[-1][0] + b"\0" if len(rows) == SLICE else None))

    def close(self) -> Deferred[None]:
        self._group_commit.stop()
        self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._reader.close()
        self._writer.close()
        return succeed(None)

    def _write(self, records: list[tuple[bytes, bytes]]) -> None:
        self._writer.execute("BEGIN IMMEDIATE")
        self._writer.executemany("INSERT OR REPLACE INTO kv VALUES (?, ?)", records)
        self._writer.execute("COMMIT")


class LMDB(Store):
    """The lmdb package as it is shipped: synced, without a writable map. Each read is a transaction."""

    def __init__(self, reactor: Any, directory: str) -> None:
        self._directory = directory
        self._group_commit = _GroupCommit(reactor, self._write)

    def open(self) -> None:
        import lmdb

        self._environment = lmdb.open(self._directory, map_size=_LMDB_MAP)

    def get(self, key: bytes) -> Deferred[bytes | None]:
        with self._environment.begin() as transaction:
            return succeed(transaction.get(key))

    def put(self, key: bytes, value: bytes) -> Deferred[None]:
        return self._group_commit.put(key, value)

    def scan(self, start: bytes, stop: bytes | None = None) -> Deferred[Found]:
        items: list[tuple[bytes, bytes]] = []
        with self._environment.begin() as transaction, transaction.cursor() as cursor:
            if cursor.set_range(start):
                for key, value in cursor:
                    if stop is not None and key >= stop:
                        break
                    if len(items) == SLICE:
                        return succeed((items, key))
                    items.append((key, value))
        return succeed((items, None))

    def close(self) -> Deferred[None]:
        self._group_commit.stop()
        self._environment.close()
        return succeed(None)

    def _write(self, records: list[tuple[bytes, bytes]]) -> None:
        with self._environment.begin(write=True) as transaction:
            for key, value in records:
                transaction.put(key, value)


class PlainDirDBM(Store):
    """`twisted.persisted.dirdbm.DirDBM` as shipped: a file for each record, never synced. A scan sorts all names."""

    def __init__(self, reactor: Any, directory: str) -> None:
        self._directory = directory
        self._ahead: list[bytes] | None = None
        """The keys that the present scan has still to return."""

    def open(self) -> None:
        from twisted.persisted.dirdbm import DirDBM

        self._entries = DirDBM(self._directory.encode())

    def get(self, key: bytes) -> Deferred[bytes | None]:
        return succeed(self._entries.get(key))

    def put(self, key: bytes, value: bytes) -> Deferred[None]:
        self._entries[key] = value
        return succeed(None)

    def scan(self, start: bytes, stop: bytes | None = None) -> Deferred[Found]:
        if self._ahead is None:
            self._ahead = sorted(
                key for key in list(self._entries.keys()) if start <= key and (stop is None or key < stop)
            )
        keys, rest = self._ahead[:SLICE], self._ahead[SLICE:]
        self._ahead = rest or None
        return succeed(([(key, self._entries[key]) for key in keys], rest[0] if rest else None))

    def close(self) -> Deferred[None]:
        return succeed(None)


STORES: Final[dict[str, Callable[[Any, str], Store]]] = {
    "kvtwist": Kvtwist,
    "sqlite": SQLite,
    "lmdb": LMDB,
    "dirdbm": PlainDirDBM,
}


def is_installed(name: str) -> bool:
    """Whether the store can be used: lmdb is an optional package."""
    return name != "lmdb" or find_spec("lmdb") is not None
