"""
The work that a store does by itself: it keeps within its memory and disk space, runs checkpoints, compacts, and sweeps
expired records.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from kvtwist.engine.checkpointer import CheckpointCounters, Checkpointer
from kvtwist.engine.commit import GroupCommit, MemoryCommit
from kvtwist.engine.compactor import PURGE_SECONDS, Compactor
from kvtwist.engine.disk_space import PIECES
from kvtwist.engine.disk_state import DiskState
from kvtwist.engine.expiry import Expiry
from kvtwist.engine.keyspace import Keyspace
from kvtwist.engine.limits import Limits
from kvtwist.engine.memtable import ENTRY_COST
from kvtwist.engine.operations import frees_space
from kvtwist.engine.pages import PageCache
from kvtwist.engine.timeline import Timeline
from kvtwist.engine.waiters import Waiters
from kvtwist.model import Append, Clear, NoRoom, Operation, Put, Read, Record, StoreUnavailable

log = Logger(namespace="kvtwist.store")

SWEEP_SECONDS = 1.0
SWEEP_RECORDS = 1000
"""How many records of a keyspace are swept in one step."""
MAKE_SPACE_SECONDS = 0.25
"""The pause before disk space is freed again if little has changed since."""
STOP_SECONDS = 2.5
"""How long a clean stop waits for its checkpoint. Without it the next start replays the journal."""
INDEX_COST = 330
"""Memory of a page in the index of all pages, besides its first and last key; measured, rounded up."""


class Sweeper:
    """Removes expired records from the active memtables, some at a time."""

    def __init__(self, keyspaces: dict[str, Keyspace], commit: GroupCommit | MemoryCommit, expiry: Expiry) -> None:
        self.swept = 0
        """How many records were swept since this was last set to 0."""
        self._keyspaces = keyspaces
        self._commit = commit
        self._expiry = expiry

    def sweep(self) -> bool:
        """Sweep some records; return whether there may be more."""
        if self._commit.latch.held:
            return False  # the transaction that holds it has looked at these records
        swept = [self._sweep(keyspace, self._expiry.droppable_ms(name)) for name, keyspace in self._keyspaces.items()]
        self.swept += sum(swept)
        return max(swept, default=0) == SWEEP_RECORDS

    def _sweep(self, keyspace: Keyspace, droppable_ms: int) -> int:
        tables = keyspace.tables
        expired = tables.active.expired(droppable_ms, SWEEP_RECORDS)
        swept = 0
        for key in expired:
            entry = tables.active.get(key)
            # A record that is not durable may be taken back. It is swept later.
            if entry is not None and entry.revision <= self._commit.durable:
                tables.forget(key)
                swept += 1
        return swept


class MemoryHousekeeping:
    """For a store in memory: it sweeps, and refuses transactions for which there is no memory."""

    counters = CheckpointCounters()

    def __init__(
        self,
        sweeper: Sweeper,
        expiry: Expiry,
        keyspaces: dict[str, Keyspace],
        clock: IReactorTime,
        limits: Limits,
    ) -> None:
        self._sweeper = sweeper
        self._expiry = expiry
        self._keyspaces = keyspaces
        self._clock = clock
        self._limits = limits
        self._next: IDelayedCall | None = None

    def start(self, replayed: bool) -> None:
        """Begin."""
        self._next = self._clock.callLater(SWEEP_SECONDS, self._tick)

    async def stop(self) -> None:
        """End."""
        self._expiry.stop()
        if self._next is not None:
            self._next.cancel()

    def _tick(self) -> None:
        self._expiry.look()
        more = self._sweeper.sweep()
        self._next = self._clock.callLater(0 if more else SWEEP_SECONDS, self._tick)

    def wait_before(self, operations: Sequence[Operation]) -> Deferred[None] | None:
        """
        What a transaction has to wait for, which is nothing.

        :raises NoRoom: there is no memory for it.
        """
        held = sum(keyspace.tables.active.cost for keyspace in self._keyspaces.values())
        more = sum(self._growth(operation) for operation in operations)
        limit = self._limits.memory
        if not any(isinstance(operation, (Put, Append)) and operation.value for operation in operations):
            limit += limit // 16  # a staged deletion takes memory before it frees some
        if more > 0 and held + more > limit:
            raise NoRoom(f"the store in memory is full ({self._limits.memory} bytes)")
        return None

    def _growth(self, operation: Operation) -> int:
        """How many bytes an operation adds."""
        if isinstance(operation, Read):
            return 0
        table = self._keyspaces[operation.keyspace].tables.active
        if isinstance(operation, Clear):
            return -table.cost
        if isinstance(operation, Append):
            return ENTRY_COST + len(operation.prefix) + len(operation.value)
        now = table.get(operation.key)
        old = ENTRY_COST + len(operation.key) + len(now.value) if isinstance(now, Record) else 0
        return (ENTRY_COST + len(operation.key) + len(operation.value) if isinstance(operation, Put) else 0) - old

    def checkpoint(self) -> Deferred[None]:
        """Do nothing: there is no disk."""
        return succeed(None)


class Housekeeping:
    """For a store on disk."""

    def __init__(
        self,
        sweeper: Sweeper,
        expiry: Expiry,
        keyspaces: dict[str, Keyspace],
        cache: PageCache,
        disk_state: DiskState,
        commit: GroupCommit,
        timeline: Timeline,
        clock: IReactorTime,
        limits: Limits,
    ) -> None:
        self._sweeper = sweeper
        self._expiry = expiry
        self._cache = cache
        self._disk_state = disk_state
        self._commit = commit
        self._clock = clock
        self._limits = limits
        self._next: IDelayedCall | None = None
        self._replayed = False
        self._checkpointed = clock.seconds()
        self._checkpointer = Checkpointer(
            disk_state, keyspaces, commit, timeline, expiry, clock, limits, finished=self._after_checkpoint
        )
        self._compactor = Compactor(disk_state, timeline, expiry, clock, finished=self._pages_changed)
        self._disk_space = disk_state.storage.disk_space
        self._logged_full = False
        self._making_space: Deferred[None] | None = None
        self._space_tried = Waiters()
        self._tried_at = -1
        self._made_space = -MAKE_SPACE_SECONDS
        commit.on_no_space = self._may_make_space
        self._size_cache()

    @property
    def counters(self) -> CheckpointCounters:
        """The counters of checkpoints."""
        return self._checkpointer.counters

    def start(self, replayed: bool) -> None:
        """Begin. If the start `replayed` transactions, a checkpoint soon moves them into pages."""
        self._replayed = replayed
        self._disk_space_seen(None)
        self._next = self._clock.callLater(SWEEP_SECONDS, self._tick)

    async def stop(self) -> None:
        """End with a checkpoint, if it does not take too long."""
        self._expiry.stop()
        self._checkpointer.stop()
        if self._next is not None:
            self._next.cancel()
        self._compactor.stop()
        if self._making_space is not None:
            self._making_space.cancel()
        if self._commit.broken:
            return
        too_long = self._clock.callLater(STOP_SECONDS, self._give_up)
        # A checkpoint that was running already does not hold later transactions.
        while not self._all_in_pages() and too_long.active():
            failed = self.counters.failed
            await self.checkpoint()
            if self.counters.failed > failed:
                break
        if too_long.active():
            too_long.cancel()

    def _all_in_pages(self) -> bool:
        return self._disk_state.storage.manifest.revision >= self._commit.assigned

    def _give_up(self) -> None:
        log.warn("the last checkpoint was cancelled because it took too long; the next start replays the journal")
        self._checkpointer.give_up()

    def checkpoint(self) -> Deferred[None]:
        """See `Checkpointer.run`."""
        return self._checkpointer.run()

    async def compact(self, advance: Callable[[int], object]) -> None:
        """See `Compactor.compact`."""
        await self._compactor.compact(advance)

    def wait_before(self, operations: Sequence[Operation]) -> Deferred[None] | None:
        """
        What a transaction has to wait for: a Deferred after which to ask again; None if it may be applied now.

        :raises StoreUnavailable: memory is full, and checkpoints fail, so waiting would not help.
        """
        for operation in operations:
            if type(operation) is Clear:
                wait = self._checkpointer.wait_before_clear()
                if wait is not None or len(operations) == 1:  # on its own it frees memory
                    return wait
        if self._commit.unsynced >= self._limits.unsynced:
            return self._commit.settled(self._commit.assigned).addCallback(lambda _: None)
        if self._disk_space.full:
            removing = frees_space(operations)
            wait = self._wait_for_disk_space(removing)
            if wait is not None or (removing and not self._checkpointer.memtables_are_full(self._limits.unsynced)):
                return wait
        if not self._checkpointer.memtables_are_full():
            return None
        self._checkpointer.begin()  # it frees the active memtables at once, unless one is running already
        if not self._checkpointer.memtables_are_full():
            return None
        if self._checkpointer.failing:
            raise StoreUnavailable("memory is full of changes, and checkpoints fail")
        return self._checkpointer.run()

    def _wait_for_disk_space(self, removing: bool) -> Deferred[None] | None:
        """On a full disk deletions may use the reserve; when it is low, they wait until space is freed."""
        if self._making_space is not None and not (removing and not self._disk_space.is_low):
            return self._space_made()
        full_memory = self._checkpointer.memtables_are_full(self._limits.unsynced)
        if removing and (self._disk_space.is_low or full_memory) and self._tried_at != self._commit.assigned:
            return self._space_made()  # only once: there may be no space even for that
        return None

    def _may_make_space(self) -> bool:
        """Begin to free disk space for a transaction that found none, unless that would be useless."""
        if not self._disk_space.size or self._tried_at == self._commit.assigned:
            return False  # nothing has changed since the last attempt
        pending = self._checkpointer.running or self._commit.journal_bytes >= self._disk_space.size // len(PIECES)
        if not pending and self._clock.seconds() < self._made_space + MAKE_SPACE_SECONDS:
            return False
        self._space_made()
        return True

    def _space_made(self) -> Deferred[None]:
        """Free disk space: run a checkpoint, and thin the runs. Fires after the attempt."""
        done = self._space_tried.add()
        if self._making_space is None:
            making = Deferred.fromCoroutine(self._make_space())
            if not making.called:
                self._making_space = making
        return done

    async def _make_space(self) -> None:
        self._tried_at = self._commit.assigned
        try:
            if not self._all_in_pages():
                await self._checkpointer.run()
            await self._compactor.thin_all()
            if self._checkpointer.failing:
                await self._checkpointer.run()
        except CancelledError:
            pass  # the store is closing
        except Exception:
            log.failure("disk space could not be freed")
        self._made_space = self._clock.seconds()
        self._making_space = None
        self._space_tried.fire()

    def _look_at_disk_space(self) -> None:
        looked = self._disk_state.storage.page_worker.run(self._disk_space.look)
        looked.addCallbacks(
            self._disk_space_seen, lambda failure: log.failure("the free disk space cannot be measured", failure)
        )

    def _disk_space_seen(self, _: None) -> None:
        full = self._disk_space.full
        if full and not self._logged_full:
            log.warn("the disk is full: writes are refused; deletions and checkpoints go on with the reserve")
        elif not full and self._logged_full:
            log.info("there is free disk space again")
        self._logged_full = full

    def _tick(self) -> None:
        self._expiry.look()
        more = self._sweeper.sweep()
        self._next = self._clock.callLater(0 if more else SWEEP_SECONDS, self._tick)
        if self._disk_space.is_scarce or self._logged_full:
            self._look_at_disk_space()
        # A checkpoint removes expired records from the journal, too.
        expired = self._sweeper.swept and self._clock.seconds() - self._checkpointed >= PURGE_SECONDS
        scarce = self._disk_space.is_scarce and not self._all_in_pages()
        if self._disk_space.full and (not self._checkpointer.failing or self._tried_at != self._commit.assigned):
            self._space_made()
        elif self._replayed or expired or scarce or self._checkpointer.failing:
            self._replayed = False
            self._checkpointer.begin()
        self._compactor.begin()

    def _after_checkpoint(self, superfluous: set[int]) -> None:
        self._sweeper.swept = 0
        if self._disk_space.full and self._next is not None and self._next.active():
            self._space_made()
        self._checkpointed = self._clock.seconds()
        self._pages_changed(superfluous)
        self._compactor.begin()

    def _pages_changed(self, superfluous: set[int]) -> None:
        for number in superfluous:
            self._cache.discard(number)
        self._size_cache()

    def _size_cache(self) -> None:
        """The index of all pages takes its memory from the page cache."""
        tables = self._disk_state.tables.values()
        refs = (ref for t in tables for run in t.runs for ref in run.pages)
        index = sum(INDEX_COST + len(ref.first) + len(ref.stop or b"") for ref in refs)
        self._cache.resize(max(self._limits.pages - index, self._limits.pages // 4))
