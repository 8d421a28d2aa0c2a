"""
Admission: which transaction may be applied now, which one waits, and which one is tried again alone.

A transaction waits while there is no memory or disk space for it, while a large transaction is being applied in steps,
and while others wait. Queued transactions are admitted one at a time, in the order in which they came.

When there is no disk space for a batch, its transactions are tried again before all others, and each is alone in its
batch: so only those fail that really do not fit. Nothing else is written meanwhile. A transaction that builds on one
that fails would fail with it, and on a full disk repeating all of them for every failure would take for ever.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from kvtwist.engine.commit import GroupCommit, MemoryCommit
from kvtwist.engine.housekeeping import Housekeeping, MemoryHousekeeping
from kvtwist.engine.operations import frees_space, size_of
from kvtwist.model import Condition, NoRoom, Operation, Read

log = Logger(namespace="kvtwist.store")

STEP_SECONDS = 0.005
"""How long queued transactions are admitted before the reactor goes on."""


class Pending(Struct, frozen=True, gc=False):
    """
    A transaction that has not been applied yet.

    :ivar otherwise: the operations that are applied where a condition does not hold.
    :ivar branches: the operations of both branches.
    :ivar refusal: why it failed the last time, if it is tried again; such a transaction is alone in its batch.
    """

    conditions: Sequence[Condition]
    operations: Sequence[Operation]
    otherwise: Sequence[Operation]
    branches: Sequence[Operation]
    refusal: str | None = None

    @property
    def parts(self) -> tuple[Condition | Operation, ...]:
        """The conditions, then the operations of both branches."""
        return (*self.conditions, *self.operations, *self.otherwise)

    @property
    def size(self) -> int:
        """About how many bytes of the journal it takes."""
        return sum(map(size_of, self.branches))


_Queue = deque[tuple[Pending, Deferred[None]]]
"""Pending transactions, each with a Deferred that fires when it is admitted, or fails when it is refused."""


class Admission:
    """Admits the transactions of one store."""

    def __init__(
        self,
        commit: GroupCommit | MemoryCommit,
        housekeeping: Housekeeping | MemoryHousekeeping,
        clock: IReactorTime,
    ) -> None:
        self._commit = commit
        self._housekeeping = housekeeping
        self._clock = clock
        self._waiting: _Queue = deque()
        self._retries: _Queue = deque()
        self._admitting = False
        self._applied: Deferred[None] = Deferred()
        """Fires when the admitted transaction has been applied, or has failed."""
        self._step_began = 0.0
        self._no_space_for = sys.maxsize
        """The size of the last retry that found no space; others that are as large are refused without a try."""

    def must_wait(self, pending: Pending) -> bool:
        """
        Return whether a transaction has to wait for its admission. Reading alone waits for large transactions only.

        :raises StoreError: there is no space for it, and waiting would not help.
        """
        if self._commit.latch.held:
            return True
        for operation in pending.branches:
            if not isinstance(operation, Read):
                return self._admitting or self._housekeeping.wait_before(pending.branches) is not None
        return False

    @asynccontextmanager
    async def admitted(self, pending: Pending) -> AsyncIterator[None]:
        """
        Wait until a transaction may be applied; no other one is admitted before the block ends.

        :raises StoreError: it is refused.
        """
        admitted: Deferred[None] = Deferred()
        queue = self._waiting if pending.refusal is None else self._retries
        queue.append((pending, admitted))
        if not self._admitting:
            Deferred.fromCoroutine(self._admit())
        await admitted
        try:
            yield
        finally:
            self._applied.callback(None)

    async def _admit(self) -> None:
        """Admit all that are queued. (A lock for each would nest as deep as the queue is long.)"""
        self._admitting = True
        self._step_began = self._clock.seconds()
        self._no_space_for = sys.maxsize
        try:
            while self._retries or self._waiting:
                await self._admit_next()
        except Exception:
            failure = Failure()
            log.failure("queued transactions cannot be admitted", failure)
            while queue := self._retries or self._waiting:
                queue.popleft()[1].errback(failure)
        finally:
            self._admitting = False

    async def _admit_next(self) -> None:
        if self._clock.seconds() - self._step_began > STEP_SECONDS:
            await deferLater(self._clock, 0)
            self._step_began = self._clock.seconds()
        await self._commit.latch.free()
        queue = self._retries or self._waiting
        retried = queue is self._retries
        pending, admitted = queue[0]
        try:
            if retried:
                await self._settled()
                self._check_size(pending)
            else:
                self._no_space_for = sys.maxsize
            wait = self._housekeeping.wait_before(pending.branches)
        except Exception as error:
            queue.popleft()
            admitted.errback(error)
            return
        if wait is not None:
            await wait
            self._step_began = self._clock.seconds()
            return
        queue.popleft()
        if admitted.called:
            return  # it was cancelled
        applied: Deferred[None] = Deferred()
        self._applied = applied
        admitted.callback(None)
        await applied
        if retried:
            if not await self._settled() and self._commit.broken is None:
                self._no_space_for = pending.size
            self._step_began = self._clock.seconds()

    def _check_size(self, pending: Pending) -> None:
        if pending.size >= self._no_space_for and not frees_space(pending.branches):
            raise NoRoom(pending.refusal)

    async def _settled(self) -> bool:
        """Return whether all that was submitted is durable, once it is, or was taken back."""
        revision = self._commit.assigned
        return await self._commit.settled(revision) >= revision
