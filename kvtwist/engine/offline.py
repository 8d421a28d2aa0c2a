"""
The store for command-line tools: it blocks, and needs no reactor.

It is the server's store: it locks the directory, replays the journal, and ends with a checkpoint. Its workers are no
threads and its clock never advances, so every Deferred has fired when a call returns.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from kvtwist.engine.disk import Disk
from kvtwist.engine.housekeeping import Housekeeping
from kvtwist.engine.inspection.directory import NotAStore, look
from kvtwist.engine.limits import Limits
from kvtwist.engine.storage import Storage
from kvtwist.engine.store import Store
from kvtwist.engine.timeline import Timeline
from kvtwist.engine.worker import InlineWorker
from kvtwist.model import Operation, Record, StoreError

T = TypeVar("T")


class OfflineStore:
    """An open store. See `opened`."""

    def __init__(self, store: Store, storage: Storage) -> None:
        self._store = store
        self._storage = storage

    @property
    def revision(self) -> int:
        """The revision of the last transaction."""
        return self._storage.commit.assigned

    def keyspaces(self) -> list[str]:
        """The names of the keyspaces, sorted; some may be empty."""
        return sorted(self._store.figures().keyspaces)

    def records(self, keyspace: str) -> int:
        """About how many records a keyspace holds, see `kvtwist.model.Usage`."""
        return self._store.usage(keyspace).records

    def scan(self, keyspace: str, start: bytes = b"") -> Iterator[tuple[bytes, Record]]:
        """(key, record) from `start` on, in order. :raises StoreDamaged: a page cannot be read."""
        at: bytes | None = start
        while at is not None:
            piece = _result(self._store.scan(keyspace, at))
            yield from piece.items
            at = piece.resume

    def get(self, keyspace: str, key: bytes) -> Record | None:
        """The record under a key; None if there is none."""
        return _result(self._store.get(keyspace, key))

    def write(self, operations: Sequence[Operation]) -> None:
        """
        Do operations in one durable transaction.

        :raises StoreError: it failed. After a failed sync it may be on disk all the same.
        """
        _result(self._store.transact([], operations))

    def checkpoint(self) -> None:
        """Run a checkpoint. :raises StoreError: it failed."""
        housekeeping = self._store.housekeeping
        failed = housekeeping.counters.failed
        _result(housekeeping.checkpoint())
        if housekeeping.counters.failed > failed:
            raise StoreError(f"{self._storage.path}: the checkpoint failed")

    def compact(self, advance: Callable[[int], object]) -> None:
        """
        Write each keyspace as one run, without superseded, removed and expired records.

        :param advance: called with the number of pages written since the last call; may raise `StoreError`, to stop.
        :raises StoreError: it failed; :raises OSError: likewise.
        """
        housekeeping = self._store.housekeeping
        assert isinstance(housekeeping, Housekeeping)
        self.checkpoint()
        _result(Deferred.fromCoroutine(housekeeping.compact(advance)))

    def pages(self) -> int:
        """The number of pages on disk."""
        return len(self._storage.manifest.pages())


@contextmanager
def opened(
    path: str,
    create: bool = False,
    limits: Limits | None = None,
    disk: Disk | None = None,
    timeline: Timeline | None = None,
) -> Iterator[OfflineStore]:
    """
    Open the store in a directory until the end of the block.

    :param create: make a store if the directory is missing or empty.
    :param timeline: the store's time, if not the server's.
    :raises NotAStore: there is no store.
    :raises StoreInUse: another process has it open.
    :raises StoreDamaged: a file does not hold what was written to it.
    :raises StoreError: it cannot be used for another reason.
    """
    disk = disk or Disk()
    if not (create and _is_free(disk, path)):
        look(disk, path)
    storage = Storage(path, disk, InlineWorker(), InlineWorker())
    at_once = evolve(limits or Limits(), step=sys.maxsize)
    store = Store(Clock(), timeline or Timeline(), storage, at_once)
    store.open()
    store.start()
    try:
        yield OfflineStore(store, storage)
    finally:
        _result(Deferred.fromCoroutine(store.close()))


def is_vacant(names: Sequence[str], *others: str) -> bool:
    """Whether a directory with these names is empty, except for files of the file system, a lock, and `others`."""
    return {*names} <= {"lock", "lost+found", *others}


def _is_free(disk: Disk, path: str) -> bool:
    """Whether a new store can be made at a path. :raises NotAStore: the path is not a directory."""
    try:
        return is_vacant(disk.names(path))
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        raise NotAStore(f"{path} is not a directory") from None
    except OSError as error:
        raise StoreError(f"cannot use {path}: {error.strerror}") from error


def _result(deferred: Deferred[T]) -> T:
    """The result of a Deferred that has fired. Raises its exception if it failed."""
    results: list[T | Failure] = []
    deferred.addBoth(results.append)
    if not results:
        raise AssertionError("a Deferred has not fired, although nothing runs beside it")
    [result] = results
    if isinstance(result, Failure):
        result.raiseException()
    assert not isinstance(result, Failure)
    return result
