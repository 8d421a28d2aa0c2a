"""
Group commit: many transactions, one sync.

At most one batch is on its way to the disk; what arrives meanwhile is the next one. All who wait for a batch, those who
wrote and those who read what it wrote, hear of it together. When a batch fails, so does the one that gathers behind it,
which was built on what the first one showed: everything that is not on disk is taken back, newest first.

Taking back a large transaction is done in slices, and the latch is held for as long as that takes.

If there was just no room, it may have been for one large value: those who were not alone in the batch hear that they
may try again, and whoever submits has to see to it that they are alone then.
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
"""Memory that a change takes beside its key and value until it is durable: for the journal, to take it back, and to
answer for it; measured, rounded up."""

T = TypeVar("T")
Undo = Callable[[], object]
Again = Callable[[Deferred[Any], str], object]
"""Tries a transaction again, alone, which there was no room for: is given who waits for it, and what went wrong."""


def _nobody() -> None:
    """In place of who wants to know."""


def _no_pause() -> Deferred[None]:
    return succeed(None)


class Crowded(NoRoom):
    """There was no room, which may be the fault of others: of the same batch, or of the one before."""


@define(eq=False)
class _Batch:
    transactions: list[Transaction] = Factory(list)
    undo: list[Undo] = Factory(list)
    writers: list[tuple[Deferred[Any], object, Again | None]] = Factory(list)
    """Each with what it is to hear, and who tries again."""
    readers: list[Deferred[int]] = Factory(list)
    weight: int = 0


@define
class CommitCounters:
    """What has happened since the start, for metrics."""

    batches: int = 0
    transactions: int = 0
    write_seconds: float = 0.0
    failures: int = 0


class GroupCommit:
    """
    :param revision: of the last transaction that is on disk already.
    :param clock: seconds from anywhere, to time the writes.
    """

    def __init__(self, writer: JournalWriter, worker: Worker, revision: int, clock: Callable[[], float]) -> None:
        self.counters = CommitCounters()
        self.journal_bytes = 0
        """Bytes written since the last rotation."""
        self.assigned = revision
        """The last revision that was given out."""
        self.durable = revision
        """The last revision that is as durable as it was asked to be."""
        self.unsynced = 0
        """About how many bytes of memory the changes take that are not durable yet."""
        self.rollbacks = 0
        """How many times everything that was not on disk has been taken back."""
        self.on_batch: Callable[[], object] = _nobody
        """Called behind each batch that has become durable. Set by whoever wants to know."""
        self.on_no_space: Callable[[], bool] = bool
        """Called when a transaction found no room though it was alone; returns whether it is to be tried once more."""
        self.latch = Latch()
        """Held while memory is not what it was after any transaction."""
        self.unsubmitted: list[Undo] = []
        """What takes back the slices of a transaction that is being applied: it goes if a batch fails meanwhile."""
        self.step = sys.maxsize
        """How many changes are taken back in one turn of the reactor."""
        self.pause: Callable[[], Deferred[None]] = _no_pause
        """Fires in the reactor's next turn."""
        self._writer = writer
        self._worker = worker
        self._clock = clock
        self._gathering = _Batch()
        self._flying: _Batch | None = None

    @property
    def broken(self) -> str | None:
        """Why nothing can be written any more, once that is so; see `JournalWriter.broken`."""
        return self._writer.broken

    def submit(self, transaction: Transaction, undo: list[Undo], outcome: T, again: Again | None = None) -> Deferred[T]:
        """
        Make a transaction durable. Its revision is the one behind `assigned`.

        :param outcome: what the Deferred fires with.
        :param again: called instead of a failure with `Crowded`, unless nobody waits any more.

        Fails with `StoreError`, after `undo` was called in reverse order: with `Crowded` if it may be tried again,
        alone.
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
        Fires once a revision is durable or was taken back, with the last durable revision of that moment: a smaller
        one means that it was taken back. It does not fail.
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
        Go on in a new segment, behind the batch that is on its way.

        What was accepted before a checkpoint began may still go to the old segment, or what came after it. That does
        no harm: a segment is kept until a checkpoint has all of it.
        Fires with the revision up to which the journal is on the disk itself.
        Fails with `OSError` when there cannot be a new segment; the old one is used on.
        """
        return self._worker.run(self._writer.rotate).addCallback(self._rotated)

    def flush(self) -> Deferred[int]:
        """Fires with the revision up to which the journal is on the disk itself; see `JournalWriter.flush`."""
        return self._worker.run(self._writer.flush)

    def _rotated(self, synced: int) -> int:
        self.journal_bytes = 0
        return synced

    def drop(self, revision: int) -> Deferred[None]:
        """Remove the segments that a checkpoint at that revision has made superfluous."""
        return self._worker.run(self._writer.drop, revision)

    def mark(self, after: int) -> Deferred[tuple[int, list[tuple[str, int]]]]:
        """What there is of the journal behind a revision, see `JournalWriter.mark`."""
        return self._worker.run(self._writer.mark, after)

    def close(self) -> Deferred[None]:
        """End the journal once all that was submitted is settled."""
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
        # The next batch leaves before anybody hears of this one: the disk does not wait for the reactor's work.
        self._flying = None
        if self._gathering.transactions:
            self._fly()
        for writer, outcome, _ in batch.writers:
            writer.callback(outcome)
        for reader in batch.readers:
            reader.callback(revision)
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
        """Undo all that is not on disk, newest first, and tell everybody who waits for it."""
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
        told: type[StoreError] = type(error)
        behind = Crowded if told is NoRoom else told
        if len(flying.writers) > 1 or (told is NoRoom and self.on_no_space()):
            told = behind
        # Who tries again does so before those go on who wait for room, which are among the readers.
        for writer, _, again in flying.writers:
            _tell(writer, told(str(error)), again)  # each its own: an error remembers who it was told
        for writer, _, again in gathering.writers:
            _tell(writer, behind(str(error)), again)
        for reader in flying.readers + gathering.readers:
            reader.callback(revision)

    def _undo(self, undo: list[Undo], count: int) -> None:
        for _ in range(count):
            undo.pop()()


def _tell(writer: Deferred[Any], error: StoreError, again: Again | None) -> None:
    if again is None or not isinstance(error, Crowded):
        writer.errback(error)
    elif not writer.called:  # it has been cancelled: nobody waits for it
        again(writer, str(error))


class MemoryCommit:
    """In place of a `GroupCommit` where there is no disk: what is applied is as durable as it will ever be."""

    journal_bytes = 0
    rollbacks = 0
    broken: str | None = None

    def __init__(self) -> None:
        self.counters = CommitCounters()
        self.assigned = self.durable = 0
        self.latch = Latch()
        self.unsubmitted: list[Undo] = []

    def submit(self, transaction: Transaction, undo: list[Undo], outcome: T, again: Again | None = None) -> Deferred[T]:
        """See `GroupCommit.submit`."""
        self.assigned = self.durable = transaction.revision
        self.counters.transactions += 1
        return succeed(outcome)

    def settled(self, revision: int) -> Deferred[int]:
        """See `GroupCommit.settled`."""
        if revision <= self.durable:
            return succeed(self.durable)
        return Deferred.fromCoroutine(self.latch.free()).addCallback(lambda _: self.durable)
