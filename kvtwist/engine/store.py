"""
The store: `IStore` over memtables and pages.

A transaction is looked up, checked, applied to memory and submitted for the next batch in one go in the reactor thread,
so transactions have one order, that of their revisions. It is answered when it is durable, and so is every read that
saw it. If it needs a page that is not in memory, it starts over once the page is loaded.

A large transaction is applied in steps, between which the reactor goes on. A latch keeps all others from memory that
holds half of a transaction. `kvtwist.engine.admission` decides when a transaction may be applied.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from types import MappingProxyType

from msgspec import Struct
from msgspec.structs import replace
from twisted.internet.defer import Deferred, DeferredSemaphore, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from zope.interface import implementer

from kvtwist.engine.admission import Admission, Pending
from kvtwist.engine.backlog import Backlog
from kvtwist.engine.backup import Backup
from kvtwist.engine.changes import ChangeFeed
from kvtwist.engine.commit import GroupCommit, MemoryCommit, Undo
from kvtwist.engine.disk_state import DiskState
from kvtwist.engine.expiry import Expiry
from kvtwist.engine.frame import Change, Transaction
from kvtwist.engine.housekeeping import Housekeeping, MemoryHousekeeping, Sweeper
from kvtwist.engine.keyspace import Keyspace
from kvtwist.engine.limits import Limits
from kvtwist.engine.memtable import Entry, Tombstone, Trace, alive, traced, value_size
from kvtwist.engine.operations import Expire, change_of, expiry_of, has_valid_key, returns_records
from kvtwist.engine.page import MAX_KEY
from kvtwist.engine.page_loader import PageLoader
from kvtwist.engine.pages import PageCache
from kvtwist.engine.reading import Reading
from kvtwist.engine.reads import Reads
from kvtwist.engine.recent import Recent
from kvtwist.engine.recovery import Recovery
from kvtwist.engine.sorted_run import PageNeeded
from kvtwist.engine.storage import Storage
from kvtwist.engine.timeline import Timeline
from kvtwist.interfaces import IBackups, IStore
from kvtwist.model import (
    Changes,
    Condition,
    Exists,
    Figures,
    Get,
    Operation,
    Outcome,
    Position,
    Range,
    Read,
    Record,
    Result,
    Room,
    Slice,
    StoreError,
    StoreUnavailable,
    TooMuchToRead,
    Unchanged,
    UnchangedSince,
    Usage,
    Watched,
)

_LOOKUPS = (Exists, Unchanged, Room, Get, Range, Expire)


class _Known(dict[tuple[str, bytes], Entry | None]):
    """
    The entries that a transaction needs, by keyspace and key.

    :ivar slices: the results of its ranges.
    :ivar size: bytes of the records that it returns.
    """

    slices: Mapping[Range, Slice] = MappingProxyType({})  # of the class: most transactions have none
    size = 0


_TOO_LONG = f"a key is at most {MAX_KEY} bytes long"
_STOPPING = "the server is stopping"
GATHERING = 4
"""How many transactions may gather records at a time: each may take `Limits.results` bytes."""


class _Effects(Struct, gc=False):
    """
    What applying a transaction has done so far.

    :ivar committed: whether the conditions held.
    :ivar undo: takes it back, when called in reverse order.
    """

    committed: bool
    revision: int
    time_ms: int
    results: list[Result] = []
    changes: list[Change] = []
    undo: list[Undo] = []


@implementer(IStore, IBackups)
class Store:
    """
    May be used between `open` and `close`. What needs the disk is done after `start`.

    :param clock: schedules the housekeeping; `timeline` stamps the records.
    :param storage: the directory that holds the store; None for a store in memory.
    """

    housekeeping: Housekeeping | MemoryHousekeeping

    def __init__(
        self, clock: IReactorTime, timeline: Timeline, storage: Storage | None = None, limits: Limits | None = None
    ) -> None:
        self.limits = limits or Limits()
        self._clock = clock
        self._timeline = timeline
        self._storage = storage
        self._disk_state: DiskState | None = None
        self._commit: GroupCommit | MemoryCommit = MemoryCommit()
        self._keyspaces: dict[str, Keyspace] = defaultdict(self._new_keyspace)
        self._opened_at = 0
        self._cache = PageCache(self.limits.pages)
        self._loader = PageLoader(self._cache, storage)
        self._cached = self._loader.cached
        self._gathering = DeferredSemaphore(GATHERING)
        """For transactions that return records and wait while they gather them."""
        self._closed = False

    # --- opening and closing --------------------------------------------------------------------------------------

    def open(self) -> Recovery:
        """
        Read back what is on disk. Blocks: call it before the reactor runs.

        :raises StoreError: the store cannot be used; the message says why in one line.
        """
        self._recovery = recovery = Recovery()
        self._replayed = Recent(self.limits.changes)
        if self._storage is None:
            sweeper = self._new_sweeper(self._commit)
            self.housekeeping = MemoryHousekeeping(sweeper, self._expiry, self._keyspaces, self._clock, self.limits)
        else:
            storage = self._storage
            self._commit = commit = self._recover(storage, recovery)
            sweeper = self._new_sweeper(commit, Backlog(storage.disk, storage.path, storage.read_worker))
            self._feed.gone.update(storage.manifest.gone)
            self._disk_state = DiskState(storage, self._keyspaces, self._feed.gone)
            self.housekeeping = Housekeeping(
                sweeper,
                self._expiry,
                self._keyspaces,
                self._cache,
                self._disk_state,
                commit,
                self._timeline,
                self._clock,
                self.limits,
            )
        self._reads = Reads(self._keyspaces, self._commit, self._timeline, self._loader)
        self._admission = Admission(self._commit, self.housekeeping, self._clock)
        return recovery

    def _new_sweeper(self, commit: GroupCommit | MemoryCommit, backlog: Backlog | None = None) -> Sweeper:
        """Make all that removes what has expired, and tells of changes."""
        timeline, clock = self._timeline, self._clock
        limit = self.limits.changes
        self._feed = feed = ChangeFeed(commit, clock, timeline.now_ms, backlog, self._replayed, limit)
        remove = partial(self.transact, [])
        self._expiry = Expiry(self._keyspaces, timeline, clock, self._loader, feed, remove)
        return Sweeper(self._keyspaces, commit, self._expiry)

    def _recover(self, storage: Storage, recovery: Recovery) -> GroupCommit:
        manifest = storage.open()
        self._opened_at = manifest.revision
        with storage.released_on_error():
            for name, runs in manifest.keyspaces.items():
                self._keyspaces[name].tables.install(runs)
            self._timeline.not_before(manifest.time_ms)
            revision = manifest.revision
            for transaction in storage.replay(recovery):
                for change in transaction.changes:
                    self._apply_change(change, transaction.revision, transaction.time_ms, _Known())
                self._replayed.add([transaction])
                self._timeline.not_before(transaction.time_ms)
                revision = transaction.revision
            storage.begin(revision)
        storage.commit.journal_bytes = recovery.size
        storage.commit.step = self.limits.step
        storage.commit.pause = self._pause
        return storage.commit

    def start(self) -> None:
        """Start the threads and the housekeeping."""
        if self._storage is not None:
            self._storage.start()
        self.housekeeping.start(replayed=self._recovery.transactions > 0)

    async def close(self) -> None:
        """Settle the transactions that were accepted, and end. Later ones fail with `StoreUnavailable`."""
        self._closed = True
        self._feed.stop()
        await self._commit.latch.free()
        await self.housekeeping.stop()
        self._loader.stop()
        if self._storage is not None:
            await self._storage.close()

    # --- reads ----------------------------------------------------------------------------------------------------

    def get(self, keyspace: str, key: bytes) -> Deferred[Record | None]:
        """See `IStore.get`."""
        space = self._keyspaces[keyspace]
        try:
            entry = space.get(key, self._cached)
        except PageNeeded:
            return Deferred.fromCoroutine(self._reads.get(keyspace, key))
        revision = space.cleared if entry is None else entry.revision
        if revision <= self._commit.durable:
            return succeed(alive(entry, self._timeline.now_ms))
        return Deferred.fromCoroutine(self._reads.get(keyspace, key))

    def scan(
        self,
        keyspace: str,
        start: bytes = b"",
        stop: bytes | None = None,
        limit: int = 1000,
        reverse: bool = False,
        settled: bool = True,
    ) -> Deferred[Slice]:
        """See `IStore.scan`."""
        return Deferred.fromCoroutine(
            self._reads.scan(Range(keyspace, start, stop, limit, reverse), settled, self.limits)
        )

    def changes(self, watched: Watched, after: Position, wait: float = 0.0) -> Deferred[Changes]:
        """See `IStore.changes`."""
        if self._closed:
            return fail(StoreUnavailable(_STOPPING))
        return self._feed.after(watched, after, wait)

    def now_ms(self) -> int:
        """See `IStore.now_ms`."""
        return self._timeline.now_ms()

    def usage(self, keyspace: str) -> Usage:
        """See `IStore.usage`."""
        return self._keyspaces[keyspace].tables.usage()

    def figures(self) -> Figures:
        """See `IStore.figures`."""
        commit, checkpoints = self._commit, self.housekeeping.counters
        return Figures(
            keyspaces={name: keyspace.tables.usage() for name, keyspace in self._keyspaces.items()},
            journal_bytes=commit.journal_bytes,
            batches=commit.counters.batches,
            transactions=commit.counters.transactions,
            sync_seconds=commit.counters.write_seconds,
            failed_batches=commit.counters.failures,
            checkpoints=checkpoints.finished,
            failed_checkpoints=checkpoints.failed,
            checkpoint_seconds=checkpoints.seconds,
            checkpointed_ms=checkpoints.last_ms,
            read_only=commit.broken is not None,
        )

    async def backup(self) -> Backup | None:
        """See `IBackups.backup`."""
        if self._closed:
            raise StoreUnavailable(_STOPPING)
        return None if self._disk_state is None else await Backup.begin(self._disk_state)

    # --- transactions ---------------------------------------------------------------------------------------------

    def transact(
        self, conditions: Sequence[Condition], operations: Sequence[Operation], otherwise: Sequence[Operation] = ()
    ) -> Deferred[Outcome]:
        """See `IStore.transact`."""
        if self._closed:
            return fail(StoreUnavailable(_STOPPING))
        branches = (*operations, *otherwise) if otherwise else operations
        pending = Pending(conditions, operations, otherwise, branches)
        if len(conditions) + len(branches) > self.limits.step:
            done: Deferred[Outcome] = Deferred()  # a caller cancels this one; the transaction runs to its end
            Deferred.fromCoroutine(self._transact_large(pending)).chainDeferred(done)
            return done
        if not all(map(has_valid_key, branches)):
            return fail(StoreError(_TOO_LONG))
        try:
            if self._admission.must_wait(pending):
                return Deferred.fromCoroutine(self._transact_when_admitted(pending))
            return self._execute(pending)
        except PageNeeded:
            return Deferred.fromCoroutine(self._transact_when_read(pending))
        except StoreError as error:
            return fail(error)

    async def _transact_large(self, pending: Pending) -> Outcome:
        step, operations = self.limits.step, pending.branches
        for start in range(0, len(operations), step):
            if not all(map(has_valid_key, operations[start : start + step])):
                raise StoreError(_TOO_LONG)
            await self._pause()
        async with self._gathering if returns_records(operations) else nullcontext():
            # Pages are read before the admission, so that other transactions are admitted meanwhile.
            reading = Reading(self._cached)
            await self._look_up_in_steps(pending, reading)
            return await self._transact_when_admitted(pending, reading)

    async def _transact_when_read(self, pending: Pending) -> Outcome:
        async with self._gathering if returns_records(pending.branches) else nullcontext():
            reading = await self._read(pending)
            if self._admission.must_wait(pending):  # others may have been admitted while it was read
                return await self._transact_when_admitted(pending)
            return await self._execute(pending, reading)

    async def _transact_when_admitted(self, pending: Pending, reading: Reading | None = None) -> Outcome:
        async with self._admission.admitted(pending):
            if len(pending.parts) > self.limits.step:
                outcome = await self._execute_in_steps(pending, reading or Reading(self._cached))
            else:
                outcome = self._execute(pending, await self._read(pending))
        return await outcome

    def _retry(self, pending: Pending, done: Deferred[Outcome], refusal: str) -> None:
        """Try a transaction again, alone, after its batch found no disk space."""
        again = replace(pending, refusal=refusal)
        Deferred.fromCoroutine(self._transact_when_admitted(again)).chainDeferred(done)

    def _execute(self, pending: Pending, reading: Reading | None = None) -> Deferred[Outcome]:
        """
        Look up, check, apply and submit a transaction.

        :raises PageNeeded: nothing was changed.
        """
        known = self._look_up(pending, reading)
        holds, operations = self._check(pending, known)
        effects = _Effects(holds, self._commit.assigned + 1, self._timeline.now_ms())
        self._apply(operations, known, effects)
        return self._submit(pending, effects)

    async def _execute_in_steps(self, pending: Pending, reading: Reading) -> Deferred[Outcome]:
        """Do the same in steps, for an admitted transaction: no other one is applied between two steps."""
        latch = self._commit.latch
        while True:
            latch.hold()
            try:
                outcome = await self._try_in_steps(pending, reading)
            finally:
                latch.release()
            if outcome is not None:
                return outcome
            await latch.free()

    async def _try_in_steps(self, pending: Pending, reading: Reading) -> Deferred[Outcome] | None:
        """None: a batch has failed, and everything that was not durable was taken back, these steps included."""
        commit = self._commit
        rollbacks = commit.rollbacks
        known = await self._look_up_in_steps(pending, reading)
        if commit.rollbacks != rollbacks:
            return None
        if self._closed:
            raise StoreUnavailable(_STOPPING)
        holds, operations = self._check(pending, known)
        # From here on it must not fail: reads that wait for this revision go on when it is submitted, or taken back.
        effects = _Effects(holds, commit.assigned + 1, self._timeline.now_ms())
        commit.unsubmitted = effects.undo
        step = self.limits.step
        for start in range(0, len(operations), step):
            self._apply(operations[start : start + step], known, effects)
            await self._pause()
            if commit.rollbacks != rollbacks:
                return None
        commit.unsubmitted = []
        return self._submit(pending, effects)

    def _pause(self) -> Deferred[None]:
        """Fires in the next iteration of the reactor."""
        return deferLater(self._clock, 0)

    # --- look up --------------------------------------------------------------------------------------------------

    def _look_up(self, pending: Pending, reading: Reading | None) -> _Known:
        """Look up each entry that conditions and operations need once: it may cost more than everything else."""
        known = _Known()
        for condition in pending.conditions:
            if not isinstance(condition, UnchangedSince):
                self._look_up_part(condition, reading, known)
        for operation in pending.branches:
            if isinstance(operation, (Read, Expire)):
                self._look_up_part(operation, reading, known)
        return known

    async def _look_up_in_steps(self, pending: Pending, reading: Reading) -> _Known:
        known = _Known()
        for count, part in enumerate(pending.parts, 1):
            if count % self.limits.step == 0:
                await self._pause()
            if isinstance(part, _LOOKUPS):
                try:
                    self._look_up_part(part, reading, known)
                except PageNeeded:
                    await self._loader.look_up(partial(self._look_up_part, part, reading, known), reading.pinned)
                    reading.pinned.pages.clear()
        return known

    async def _read(self, pending: Pending) -> Reading:
        """Read from disk what a transaction needs. `_execute` then needs no other page."""
        reading = Reading(self._cached)
        scratch = _Known()
        for part in pending.parts:
            if isinstance(part, _LOOKUPS):
                await self._loader.look_up(partial(self._look_up_part, part, reading, scratch), reading.pinned)
                reading.pinned.pages.clear()
                if not isinstance(part, Range):  # it is counted, but once, and `reading` keeps it
                    scratch[part.keyspace, part.key] = None
        # Entries may have moved to other pages while this waited.
        await self._loader.look_up(partial(self._look_up, pending, reading), reading.pinned)
        while self._commit.latch.held:
            await self._commit.latch.free()
            await self._loader.look_up(partial(self._look_up, pending, reading), reading.pinned)
        if self._closed:
            raise StoreUnavailable(_STOPPING)
        return reading

    def _look_up_part(
        self, part: Exists | Unchanged | Room | Get | Range | Expire, reading: Reading | None, known: _Known
    ) -> None:
        """Add an entry to the known ones: without a large value, unless an operation returns it."""
        if isinstance(part, Range):
            found = self._reads.slice(part, self.limits, self._cached if reading is None else reading.pinned)
            known.slices = {**known.slices, part: found}
            self._count(known, sum(len(key) + len(record.value) for key, record in found.items))
            return
        at = part.keyspace, part.key
        whole = type(part) is Get
        if at in known and not (whole and type(known[at]) is Trace):
            return
        space = self._keyspaces[part.keyspace]
        if reading is not None:
            entry = reading.find(space.tables, part.key, whole)
        else:
            entry = space.get(part.key, self._cached)
            if not whole:
                entry = traced(entry)
        known[at] = entry
        if whole and isinstance(entry, Record):
            self._count(known, len(entry.value))

    def _count(self, known: _Known, size: int) -> None:
        """:raises TooMuchToRead: with a result of that size, the results of a transaction are too large."""
        if known.size and known.size + size > self.limits.results:
            raise TooMuchToRead(f"the results take more than {self.limits.results} bytes")
        known.size += size

    # --- check ----------------------------------------------------------------------------------------------------

    def _check(self, pending: Pending, known: _Known) -> tuple[bool, Sequence[Operation]]:
        """
        Return whether all conditions hold, and the operations to apply.

        :raises StoreUnavailable: some of them write, and the store cannot.
        """
        holds, operations = True, pending.operations
        for condition in pending.conditions:
            if not self._holds(condition, known):
                holds, operations = False, pending.otherwise
                break
        if self._commit.broken is not None and not all(isinstance(o, Read) for o in operations):
            raise StoreUnavailable(self._commit.broken)
        return holds, operations

    def _holds(self, condition: Condition, known: _Known) -> bool:
        if isinstance(condition, UnchangedSince):
            if condition.rollbacks not in (None, self._commit.rollbacks):
                return False
            return self._keyspaces[condition.keyspace].changed <= condition.revision
        if isinstance(condition, Room):
            return self._has_room(condition, known[condition.keyspace, condition.key])
        record = alive(known[condition.keyspace, condition.key], self._timeline.now_ms)
        if isinstance(condition, Exists):
            return record is not None
        return condition.revision == (0 if record is None else record.revision)

    def _has_room(self, condition: Room, old: Entry | None) -> bool:
        usage = self._keyspaces[condition.keyspace].tables.usage()
        records, size = usage.records + 1, usage.size + len(condition.key) + condition.size
        if isinstance(old, Record):
            records -= 1
            size -= len(condition.key) + value_size(old)
        return size + records * condition.overhead <= condition.limit

    # --- apply ----------------------------------------------------------------------------------------------------

    def _apply(self, operations: Sequence[Operation], known: _Known, effects: _Effects) -> None:
        """Apply some operations of a transaction, and add to its effects."""
        revision, time_ms = effects.revision, effects.time_ms
        for operation in operations:
            if isinstance(operation, Get):
                effects.results.append(alive(known[operation.keyspace, operation.key], self._timeline.now_ms))
            elif isinstance(operation, Range):
                effects.results.append(known.slices[operation])
            else:
                effects.results.append(None)
                if type(operation) is Expire:
                    change = expiry_of(operation, known[operation.keyspace, operation.key], time_ms)
                    if change is None:
                        continue
                else:
                    change = change_of(operation, revision, time_ms)
                effects.changes.append(change)
                effects.undo.append(self._apply_change(change, revision, time_ms, known))

    def _apply_change(self, change: Change, revision: int, time_ms: int, known: _Known) -> Undo:
        space = self._keyspaces[change.keyspace]
        if change.key is None:
            known.update((at, None) for at in known if at[0] == change.keyspace)
            return space.clear(revision)
        entry: Entry
        if change.value is None:
            entry = Tombstone(revision)
        else:
            modified_ms = time_ms if change.modified_ms is None else change.modified_ms
            entry = Record(change.value, change.media_type, revision, modified_ms, change.expires_ms)
        at = change.keyspace, change.key
        if at in known:
            old, known[at] = known[at], entry
        else:  # an entry that was not looked up is not read from disk just to count it, see `Usage`
            old = space.tables.in_memtables(change.key)
        return space.set(change.key, entry, old)

    def _new_keyspace(self) -> Keyspace:
        return Keyspace(self._storage is not None, self._opened_at, self._cache)

    # --- submit ---------------------------------------------------------------------------------------------------

    def _submit(self, pending: Pending, effects: _Effects) -> Deferred[Outcome]:
        if not effects.changes:
            outcome = Outcome(effects.committed, effects.results, self._commit.assigned)
            return Deferred.fromCoroutine(self._when_settled(outcome, pending))
        outcome = Outcome(effects.committed, effects.results, effects.revision)
        transaction = Transaction(effects.revision, effects.time_ms, effects.changes)
        return self._commit.submit(transaction, effects.undo, outcome, partial(self._retry, pending))

    async def _when_settled(self, outcome: Outcome, pending: Pending) -> Outcome:
        """The outcome of a transaction without changes, once everything that it saw is durable."""
        revision = self._commit.assigned
        if await self._commit.settled(revision) >= revision:
            return outcome
        return await self.transact(pending.conditions, pending.operations, pending.otherwise)
