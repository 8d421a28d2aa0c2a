"""
Group commit: many transactions, one sync.

At most one batch is being written; transactions that arrive meanwhile form the next one. Writes, and reads that saw
them, are answered together when their batch is durable. When a batch fails, so does the next one, which may build on
it: everything that is not on disk is taken back, newest first.

Taking back many changes is done in steps, and the latch is held meanwhile.

If there was no disk space, one large value may be the reason. So transactions that were not alone in their batch are
given to the store to try again, alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from attrs import Factory, define
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from kvtwist.engine.frame import Transaction
from kvtwist.engine.journal import JournalWriter
from kvtwist.engine.latch import Latch
from kvtwist.engine.worker import Worker
from kvtwist.model import NoRoom, StoreError

log = Logger(namespace="kvtwist.store")

CHANGE_COST = 400
"""Memory of a change, besides its key and value, until it is durable: for the journal, the undo and the answer;
measured, rounded up."""

T = TypeVar("T")
Undo = Callable[[], object]
Again = Callable[[Deferred[Any], str], object]
"""Tries a transaction again, alone: called with the Deferred to fire, and the reason of the failure."""


def _nobody() -> None:
    """The default of `on_batch`."""


def ignored(transactions: list[Transaction]) -> None:
    """The default of `on_transactions`."""


def _no_pause() -> Deferred[None]:
    return succeed(None)


class Crowded(NoRoom):
    """There was no disk space, perhaps because of other transactions in the same batch or the one before."""


@define(eq=False)
class _Batch:
    transactions: list[Transaction] = Factory(list)
    undo: list[Undo] = Factory(list)
    writers: list[tuple[Deferred[Any], object, Again | None]] = Factory(list)
    """The Deferred of each transaction, its outcome, and the function that tries it again."""
    readers: list[Deferred[int]] = Factory(list)
    weight: int = 0


@define
class CommitCounters:
    """Counts since the start, for metrics."""

    batches: int = 0
    transactions: int = 0
    write_seconds: float = 0.0
    failures: int = 0


class GroupCommit:
    """
    :param revision: the last transaction on disk.
    :param clock: seconds from any origin, to time the writes.
    """

    def __init__(self, writer: JournalWriter, worker: Worker, revision: int, clock: Callable[[], float]) -> None:
        self.counters = CommitCounters()
        self.journal_bytes = 0
        """Bytes written since the last rotation."""
        self.assigned = revision
        """The last revision that was assigned."""
        self.durable = revision
        """The last revision that is as durable as configured."""
        self.unsynced = 0
        """About how many bytes of memory the changes take that are not durable yet."""
        self.rollbacks = 0
        """How many times all changes that were not on disk were taken back."""
        self.on_batch: Callable[[], object] = _nobody
        """Called after each batch that has become durable."""
        self.on_transactions: Callable[[list[Transaction]], object] = ignored
        """Called with the transactions of each batch that has become durable."""
        self.on_no_space: Callable[[], bool] = bool
        """Called when a transaction found no disk space although it was alone; returns whether to try it once more."""
        self.latch = Latch()
        """Held while memory holds half of a transaction."""
        self.unsubmitted: list[Undo] = []
        """The undo of a large transaction that is being applied: it is taken back if a batch fails meanwhile."""
        self.step = sys.maxsize
        """How many changes are taken back before the reactor goes on."""
        self.pause: Callable[[], Deferred[None]] = _no_pause
        """Returns a Deferred that fires in the next reactor iteration."""
        self._writer = writer
        self._worker = worker
        self._clock = clock
        self._gathering = _Batch()
        self._flying: _Batch | None = None

    @property
    def broken(self) -> str | None:
        """Why the store is read-only, if it is; see `JournalWriter.broken`."""
        return self._writer.broken

    def submit(self, transaction: Transaction, undo: list[Undo], outcome: T, again: Again | None = None) -> Deferred[T]:
        """
        Make a transaction durable. Its revision must be the one after `assigned`.

        :param outcome: the result of the Deferred.
        :param again: called instead of a failure with `Crowded`, unless the Deferred was cancelled.

        Fails with `StoreError`, after `undo` was called in reverse order; with `Crowded` if the transaction may be
        tried again, alone.
        """
        done: Deferred[T] = Deferred()
        self.assigned = transaction.revision
        batch = self._gathering
        batch.transactions.append(transaction)
        batch.undo.extend(undo)
        batch.writers.append((done, outcome, again))
        weight = CHANGE_COST * len(transaction.changes)
        for change in transaction.changes:
            weight += len(change.key or b"") + len(change.value or b"")
        batch.weight += weight
        self.unsynced += weight
        if self._flying is None:
            self._fly()
        return done

    def settled(self, revision: int) -> Deferred[int]:
        """
        Fires when a revision is durable or was taken back, with the last durable revision at that moment: a smaller
        one means that the revision was taken back. It does not fail.
        """
        if revision <= self.durable:
            return succeed(self.durable)
        flying = self._flying
        batch = flying if flying is not None and revision <= flying.transactions[-1].revision else self._gathering
        settled: Deferred[int] = Deferred()
        batch.readers.append(settled)
        return settled

    def rotate(self) -> Deferred[int]:
        """
        Go on in a new segment, after the batch that is being written.

        Transactions from before and after the beginning of a checkpoint may get into either segment. That does no harm:
        a segment is kept until a checkpoint has all of it.
        Fires with the revision up to which the journal is on disk.
        Fails with `OSError` when there cannot be a new segment; the old one remains in use.
        """
        return self._worker.run(self._writer.rotate).addCallback(self._rotated)

    def flush(self) -> Deferred[int]:
        """Fires with the revision up to which the journal is on disk; see `JournalWriter.flush`."""
        return self._worker.run(self._writer.flush)

    def _rotated(self, synced: int) -> int:
        self.journal_bytes = 0
        return synced

    def drop(self, revision: int) -> Deferred[None]:
        """Remove the segments that are not needed after a checkpoint of that revision."""
        return self._worker.run(self._writer.drop, revision)

    def mark(self, after: int) -> Deferred[tuple[int, list[tuple[str, int]]]]:
        """The files of the journal after a revision, see `JournalWriter.mark`."""
        return self._worker.run(self._writer.mark, after)

    def close(self) -> Deferred[None]:
        """Close the journal when all submitted transactions are settled."""
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        await self.settled(self.assigned)
        await self._worker.run(self._writer.close)

    def _fly(self) -> None:
        batch = self._flying = self._gathering
        self._gathering = _Batch()
        started = self._clock()
        flight = self._worker.run(self._writer.append, batch.transactions)
        flight.addCallbacks(self._landed, self._crashed, callbackArgs=(batch, started))

    def _landed(self, size: int, batch: _Batch, started: float) -> None:
        counters = self.counters
        counters.batches += 1
        counters.transactions += len(batch.transactions)
        counters.write_seconds += self._clock() - started
        self.journal_bytes += size
        self.unsynced -= batch.weight
        revision = self.durable = batch.transactions[-1].revision
        # The next batch begins before this one is answered, so that the disk does not wait for the reactor.
        self._flying = None
        if self._gathering.transactions:
            self._fly()
        for writer, outcome, _ in batch.writers:
            writer.callback(outcome)
        for reader in batch.readers:
            reader.callback(revision)
        self.on_transactions(batch.transactions)
        self.on_batch()

    def _crashed(self, failure: Failure) -> None:
        self.counters.failures += 1
        error = failure.value
        if not isinstance(error, StoreError):
            error = self._writer.give_up(f"the journal cannot be written ({error})")
        self.rollbacks += 1
        taken_back = Deferred.fromCoroutine(self._take_back(error))
        taken_back.addErrback(lambda failed: log.failure("a batch could not be taken back", failed))

    async def _take_back(self, error: StoreError) -> None:
        """Undo all changes that are not on disk, newest first, and answer all that wait for them."""
        assert self._flying is not None
        flying, gathering = self._flying, self._gathering
        undo = flying.undo + gathering.undo + self.unsubmitted
        self.unsubmitted = []
        self.latch.hold()
        while len(undo) > self.step:
            self._undo(undo, self.step)
            await self.pause()
        self._undo(undo, len(undo))
        self._flying = None
        self._gathering = _Batch()
        self.unsynced = 0
        revision = self.assigned = self.durable
        self.latch.release()
        kind: type[StoreError] = type(error)
        kind_of_next = Crowded if kind is NoRoom else kind
        if len(flying.writers) > 1 or (kind is NoRoom and self.on_no_space()):
            kind = kind_of_next
        # Retries are queued before the waiting transactions go on, which are among the readers.
        for writer, _, again in flying.writers:
            _fail(writer, kind(str(error)), again)  # each its own exception, which gets a traceback of its own
        for writer, _, again in gathering.writers:
            _fail(writer, kind_of_next(str(error)), again)
        for reader in flying.readers + gathering.readers:
            reader.callback(revision)

    def _undo(self, undo: list[Undo], count: int) -> None:
        for _ in range(count):
            undo.pop()()


def _fail(writer: Deferred[Any], error: StoreError, again: Again | None) -> None:
    if again is None or not isinstance(error, Crowded):
        writer.errback(error)
    elif not writer.called:  # else it was cancelled
        again(writer, str(error))


class MemoryCommit:
    """The `GroupCommit` of a store in memory: a transaction that is applied counts as durable."""

    journal_bytes = 0
    rollbacks = 0
    broken: str | None = None

    def __init__(self) -> None:
        self.counters = CommitCounters()
        self.assigned = self.durable = 0
        self.latch = Latch()
        self.unsubmitted: list[Undo] = []
        self.on_transactions: Callable[[list[Transaction]], object] = ignored

    def submit(self, transaction: Transaction, undo: list[Undo], outcome: T, again: Again | None = None) -> Deferred[T]:
        """See `GroupCommit.submit`."""
        self.assigned = self.durable = transaction.revision
        self.counters.transactions += 1
        self.on_transactions([transaction])
        return succeed(outcome)

    def settled(self, revision: int) -> Deferred[int]:
        """See `GroupCommit.settled`."""
        if revision <= self.durable:
            return succeed(self.durable)
        return Deferred.fromCoroutine(self.latch.free()).addCallback(lambda _: self.durable)
