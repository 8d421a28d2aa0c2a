"""
A store in the hands of a tool: opened and closed by plain code that waits for nothing.

It is the store that a server opens: it takes the directory's lock, replays the journal, and ends with a checkpoint. Its
workers are no threads and its clock never rings, so that every Deferred has fired when a call returns.
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
        """Its last transaction."""
        return self._storage.commit.assigned

    def keyspaces(self) -> list[str]:
        """The names of its keyspaces, in order; some may be empty."""
        return sorted(self._store.figures().keyspaces)

    def records(self, keyspace: str) -> int:
        """About how many records a keyspace has, see `kvtwist.model.Usage`."""
        return self._store.usage(keyspace).records

    def scan(self, keyspace: str, start: bytes = b"") -> Iterator[tuple[bytes, Record]]:
        """Every key from `start` on and its record, in order. :raises StoreDamaged: a page cannot be read."""
        at: bytes | None = start
        while at is not None:
            piece = _result(self._store.scan(keyspace, at))
            yield from piece.items
            at = piece.resume

    def get(self, keyspace: str, key: bytes) -> Record | None:
        """The record under a key."""
        return _result(self._store.get(keyspace, key))

    def write(self, operations: Sequence[Operation]) -> None:
        """Do operations together, durably. :raises StoreError: nothing was done, or it is not known what."""
        _result(self._store.transact([], operations))

    def checkpoint(self) -> None:
        """Write into pages all that is in the journal. :raises StoreError: it could not be finished."""
        housekeeping = self._store.housekeeping
        failed = housekeeping.counters.failed
        _result(housekeeping.checkpoint())
        if housekeeping.counters.failed > failed:
            raise StoreError(f"{self._storage.path}: the checkpoint failed")

    def compact(self, advance: Callable[[int], object]) -> None:
        """
        Write all that counts into one run of each keyspace, without what was superseded or has expired.

        :param advance: called with the number of pages that have been written since the last time; may raise
            `StoreError`, to stop it.
        :raises StoreError: it could not be finished; :raises OSError: likewise.
        """
        housekeeping = self._store.housekeeping
        assert isinstance(housekeeping, Housekeeping)
        self.checkpoint()
        _result(Deferred.fromCoroutine(housekeeping.compact(advance)))

    def pages(self) -> int:
        """How many pages it has on disk."""
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
    Open the store in a directory, for as long as the block lasts.

    :param create: make a new one where there is none: the directory is missing, or empty.
    :param timeline: the store's time, if not as a server has it.
    :raises NotAStore: there is none.
    :raises StoreInUse: another process has it open.
    :raises StoreDamaged: it is not what was written.
    :raises StoreError: it cannot be used at all.
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
    """Whether a directory with these names in it holds nothing, but for what a file system or a lock has put there."""
    return {*names} <= {"lock", "lost+found", *others}


def _is_free(disk: Disk, path: str) -> bool:
    """Whether a new store can be made there. :raises NotAStore: there is something else."""
    try:
        return is_vacant(disk.names(path))
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        raise NotAStore(f"{path} is not a directory") from None
    except OSError as error:
        raise StoreError(f"cannot use {path}: {error.strerror}") from error


def _result(deferred: Deferred[T]) -> T:
    """What a Deferred has fired with; raises what it has failed with."""
    results: list[T | Failure] = []
    deferred.addBoth(results.append)
    if not results:
        raise AssertionError("a Deferred has not fired, although nothing runs beside it")
    [result] = results
    if isinstance(result, Failure):
        result.raiseException()
    assert not isinstance(result, Failure)
    return result
