"""
What a store does of its own accord: it keeps within its memory, checkpoints, merges, and sweeps what has expired.
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
from kvtwist.engine.keyspace import Keyspace
from kvtwist.engine.limits import Limits
from kvtwist.engine.memtable import ENTRY_COST
from kvtwist.engine.operations import frees_space
from kvtwist.engine.pages import PageCache
from kvtwist.engine.timeline import Timeline
from kvtwist.engine.waiters import Waiters
from kvtwist.model import Append, Clear, Get, NoRoom, Operation, Put, Record, StoreUnavailable

log = Logger(namespace="kvtwist.store")

SWEEP_SECONDS = 1.0
SWEEP_RECORDS = 1000
"""Records taken out of memory in one go."""
MAKE_SPACE_SECONDS = 0.25
"""How soon room is made again for little that has changed since."""
STOP_SECONDS = 2.5
"""How long a clean stop waits for its checkpoint. Without one the next start replays the journal."""
INDEX_COST = 330
"""Memory that a page takes in the index of all pages, beside its first and last key; measured, rounded up."""


class Sweeper:
    """Gives up what has expired in the active memtables, a little at a time."""

    def __init__(self, keyspaces: dict[str, Keyspace], commit: GroupCommit | MemoryCommit, timeline: Timeline) -> None:
        self.swept = 0
        """How many it has given up since somebody set this to 0."""
        self._keyspaces = keyspaces
        self._commit = commit
        self._timeline = timeline

    def sweep(self) -> bool:
        """Give up some; returns whether there may be more."""
        if self._commit.latch.held:
            return False  # whoever holds it has looked at what there is
        now_ms = self._timeline.now_ms()
        swept = [self._sweep(keyspace, now_ms) for keyspace in self._keyspaces.values()]
        self.swept += sum(swept)
        return max(swept, default=0) == SWEEP_RECORDS

    def _sweep(self, keyspace: Keyspace, now_ms: int) -> int:
        tables = keyspace.tables
        expired = tables.active.expired(now_ms, SWEEP_RECORDS)
        swept = 0
        for key in expired:
            entry = tables.active.get(key)
            # What is not durable may be taken back; it is swept the next time.
            if entry is not None and entry.revision <= self._commit.durable:
                tables.forget(key)
                swept += 1
        return swept


class MemoryHousekeeping:
    """For a store that has no disk: it sweeps, and refuses what it has no room for."""

    counters = CheckpointCounters()

    def __init__(self, sweeper: Sweeper, keyspaces: dict[str, Keyspace], clock: IReactorTime, limits: Limits) -> None:
        self._sweeper = sweeper
        self._keyspaces = keyspaces
        self._clock = clock
        self._limits = limits
        self._next: IDelayedCall | None = None

    def start(self, replayed: bool) -> None:
        """Begin."""
        self._next = self._clock.callLater(SWEEP_SECONDS, self._tick)

    async def stop(self) -> None:
        """End."""
        if self._next is not None:
            self._next.cancel()

    def _tick(self) -> None:
        more = self._sweeper.sweep()
        self._next = self._clock.callLater(0 if more else SWEEP_SECONDS, self._tick)

    def wait_before(self, operations: Sequence[Operation]) -> Deferred[None] | None:
        """
        None: some operations may be done.

        :raises NoRoom: they may not, since they would take more memory.
        """
        held = sum(keyspace.tables.active.cost for keyspace in self._keyspaces.values())
        more = sum(self._growth(operation) for operation in operations)
        limit = self._limits.memory
        if not any(isinstance(operation, (Put, Append)) and operation.value for operation in operations):
            limit += limit // 16  # a deletion that is staged takes room before it makes some
        if more > 0 and held + more > limit:
            raise NoRoom(f"the store in memory is full ({self._limits.memory} bytes)")
        return None

    def _growth(self, operation: Operation) -> int:
        """By how much an operation makes the store larger."""
        if isinstance(operation, Get):
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
        """There is nothing to do."""
        return succeed(None)


class Housekeeping:
    """For a store on disk."""

    def __init__(
        self,
        sweeper: Sweeper,
        keyspaces: dict[str, Keyspace],
        cache: PageCache,
        disk_state: DiskState,
        commit: GroupCommit,
        timeline: Timeline,
        clock: IReactorTime,
        limits: Limits,
    ) -> None:
        self._sweeper = sweeper
        self._keyspaces = keyspaces
        self._cache = cache
        self._disk_state = disk_state
        self._commit = commit
        self._clock = clock
        self._limits = limits
        self._next: IDelayedCall | None = None
        self._replayed = False
        self._checkpointed = clock.seconds()
        self._checkpointer = Checkpointer(
            disk_state, keyspaces, commit, timeline, clock, limits, finished=self._after_checkpoint
        )
        self._compactor = Compactor(disk_state, timeline, clock, finished=self._pages_changed)
        self._disk_space = disk_state.storage.disk_space
        self._told_full = False
        self._making_space: Deferred[None] | None = None
        self._space_tried = Waiters()
        self._tried_at = -1
        self._made_space = -MAKE_SPACE_SECONDS
        commit.on_no_space = self._may_make_space
        self._size_cache()

    @property
    def counters(self) -> CheckpointCounters:
        """What checkpoints there were."""
        return self._checkpointer.counters

    def start(self, replayed: bool) -> None:
        """Begin; `replayed` says that the journal held something, which a checkpoint then moves into pages."""
        self._replayed = replayed
        self._disk_space_seen(None)
        self._next = self._clock.callLater(SWEEP_SECONDS, self._tick)

    async def stop(self) -> None:
        """End with a checkpoint, if it does not take too long."""
        self._checkpointer.stop()
        if self._next is not None:
            self._next.cancel()
        self._compactor.stop()
        if self._making_space is not None:
            self._making_space.cancel()
        if self._commit.broken:
            return
        too_long = self._clock.callLater(STOP_SECONDS, self._give_up)
        # One that was running already does not hold what came after it began.
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
        log.warn("the checkpoint takes too long for a stop; the next start replays the journal instead")
        self._checkpointer.give_up()

    def checkpoint(self) -> Deferred[None]:
        """Run a checkpoint, or wait for the one that runs. It does not fail: a failure is logged and counted."""
        return self._checkpointer.run()

    async def compact(self, advance: Callable[[int], object]) -> None:
        """See `Compactor.compact`."""
        await self._compactor.compact(advance)

    def wait_before(self, operations: Sequence[Operation]) -> Deferred[None] | None:
        """
        None: some operations may be done. Else what fires when it is time to ask again.

        :raises StoreUnavailable: checkpoints fail, so there will be no room before somebody does something about it.
        """
        for operation in operations:
            if type(operation) is Clear:
                wait = self._checkpointer.wait_before_clear()
                if wait is not None or len(operations) == 1:  # alone, it makes room
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
        self._checkpointer.begin()  # which makes room at once, by freezing, unless one is running already
        if not self._checkpointer.memtables_are_full():
            return None
        if self._checkpointer.failing:
            raise StoreUnavailable("memory is full of changes, and checkpoints fail")
        return self._checkpointer.run()

    def _wait_for_disk_space(self, removing: bool) -> Deferred[None] | None:
        """On a full disk deletions may go on as far as the reserve has room for them; then they have to make some."""
        if self._making_space is not None and not (removing and not self._disk_space.is_low):
            return self._space_made()
        full_memory = self._checkpointer.memtables_are_full(self._limits.unsynced)
        if removing and (self._disk_space.is_low or full_memory) and self._tried_at != self._commit.assigned:
            return self._space_made()  # once: there may be no room even for that
        return None

    def _may_make_space(self) -> bool:
        """Begin to make room for what has found none, unless that would be in vain."""
        if not self._disk_space.size or self._tried_at == self._commit.assigned:
            return False  # nothing has changed since the last time
        pending = self._checkpointer.running or self._commit.journal_bytes >= self._disk_space.size // len(PIECES)
        if not pending and self._clock.seconds() < self._made_space + MAKE_SPACE_SECONDS:
            return False
        self._space_made()
        return True

    def _space_made(self) -> Deferred[None]:
        """Move into pages what has been deleted, and take it out of older ones; fires when that is done."""
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
            log.failure("room could not be made")
        self._made_space = self._clock.seconds()
        self._making_space = None
        self._space_tried.fire()

    def _look_at_disk_space(self) -> None:
        looked = self._disk_state.storage.page_worker.run(self._disk_space.look)
        looked.addCallbacks(self._disk_space_seen, lambda failure: log.failure("the disk cannot be looked at", failure))

    def _disk_space_seen(self, _: None) -> None:
        full = self._disk_space.full
        if full and not self._told_full:
            log.warn("the disk is full: what is written is refused, deletions and checkpoints go on with what is kept")
        elif not full and self._told_full:
            log.info("there is room on the disk again")
        self._told_full = full

    def _tick(self) -> None:
        more = self._sweeper.sweep()
        self._next = self._clock.callLater(0 if more else SWEEP_SECONDS, self._tick)
        if self._disk_space.is_scarce or self._told_full:
            self._look_at_disk_space()
        # What has expired goes from the journal, too.
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
        """The index of all pages and the cache share what there is for pages."""
        tables = self._disk_state.tables.values()
        refs = (ref for t in tables for run in t.runs for ref in run.pages)
        index = sum(INDEX_COST + len(ref.first) + len(ref.stop or b"") for ref in refs)
        self._cache.resize(max(self._limits.pages - index, self._limits.pages // 4))
