"""
The store: `IStore` over memtables and pages.

A transaction is checked and applied to memory in one go, in the reactor thread, and so all are in one order, that of
their revisions. A large one is applied in slices: others have the reactor in between, and a latch keeps them from what
is half done. It is answered when it is durable; who reads what is not durable yet waits with it. Where an answer is
in a page that is not in memory, everything starts over once the page is there.

When there is no room on the disk for a batch, its transactions start over as well, one at a time, so that only those
fail for which there is none. Nothing else is written meanwhile: what builds on one that fails would fail with it, and
to do all of it over for each of them would take for ever on a full disk.
"""

from __future__ import annotations

import sys
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from attrs import Factory, define
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from kvtwist.engine.backup import Backup
from kvtwist.engine.commit import GroupCommit, MemoryCommit, Undo
from kvtwist.engine.disk_state import DiskState
from kvtwist.engine.frame import Change, Transaction
from kvtwist.engine.housekeeping import Housekeeping, MemoryHousekeeping, Sweeper
from kvtwist.engine.keyspace import Keyspace
from kvtwist.engine.limits import Limits
from kvtwist.engine.memtable import Entry, Tombstone, Trace, traced, value_size
from kvtwist.engine.operations import change_of, frees_space, has_valid_key, size_of
from kvtwist.engine.page import MAX_KEY, Page
from kvtwist.engine.pages import PageCache
from kvtwist.engine.reading import Pinned, Reading
from kvtwist.engine.recovery import Recovery
from kvtwist.engine.sorted_run import PageNeeded, PageRef
from kvtwist.engine.storage import Storage
from kvtwist.engine.timeline import Timeline
from kvtwist.interfaces import IBackups, IStore
from kvtwist.model import (
    Condition,
    Exists,
    Figures,
    Get,
    NoRoom,
    Operation,
    Outcome,
    Record,
    Room,
    Slice,
    StoreError,
    StoreUnavailable,
    Unchanged,
    UnchangedSince,
    Usage,
)

log = Logger(namespace="kvtwist.store")

T = TypeVar("T")

_LOOKUPS = (Exists, Unchanged, Room, Get)
_Known = dict[tuple[str, bytes], Entry | None]
_TOO_LONG = f"a key is at most {MAX_KEY} bytes long"

STEP_SECONDS = 0.005
"""How long those who have waited for memory are served before others get their turn."""


@define(eq=False)
class _Place:
    """
    In a line.

    :ivar refusal: what was said the last time, if it is not the first.
    :ivar turn: fires when it may go on, or fails with why it may not.
    :ivar applied: fires once the next one may.
    """

    operations: Sequence[Operation]
    refusal: str = ""
    turn: Deferred[None] = Factory(Deferred)
    applied: Deferred[None] = Factory(Deferred)

    @property
    def size(self) -> int:
        """About how much of the journal it takes."""
        return sum(size_of(operation) for operation in self.operations)


@implementer(IStore, IBackups)
class Store:
    """
    It can be used between `open` and `close`; what needs the disk is done from `start` on.

    :param clock: when its housekeeping is due; `timeline` is what its records are stamped with.
    :param storage: the directory that it lives in; None keeps it in memory alone.
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
        self._loading: dict[int, list[Deferred[Page]]] = {}
        self._line: deque[_Place] = deque()
        """Who waits while memory is full, or while those in `_alone` are tried."""
        self._alone: deque[_Place] = deque()
        """Who is tried again, alone, since there was no room on the disk for all of a batch."""
        self._serving = False
        self._closed = False
        self._read_no_more = False

    # --- life -----------------------------------------------------------------------------------------------------

    def open(self) -> Recovery:
        """
        Read back what is on disk. Blocks: call it before the reactor runs.

        :raises StoreError: with one line that says why it cannot be used.
        """
        self._recovery = recovery = Recovery()
        sweeper = Sweeper(self._keyspaces, self._commit, self._timeline)
        if self._storage is None:
            self.housekeeping = MemoryHousekeeping(sweeper, self._keyspaces, self._clock, self.limits)
            return recovery
        commit = self._commit = self._recover(self._storage, recovery)
        self._disk_state = DiskState(self._storage, self._keyspaces)
        self.housekeeping = Housekeeping(
            Sweeper(self._keyspaces, commit, self._timeline),
            self._keyspaces,
            self._cache,
            self._disk_state,
            commit,
            self._timeline,
            self._clock,
            self.limits,
        )
        return recovery

    def start(self) -> None:
        """Begin to work: the threads, and the housekeeping."""
        if self._storage is not None:
            self._storage.start()
        self.housekeeping.start(replayed=self._recovery.transactions > 0)

    def _recover(self, storage: Storage, recovery: Recovery) -> GroupCommit:
        manifest = storage.open()
        self._opened_at = manifest.revision
        try:
            for name, runs in manifest.keyspaces.items():
                self._keyspaces[name].tables.install(runs)
            self._timeline.not_before(manifest.time_ms)
            revision = manifest.revision
            for transaction in storage.replay(recovery):
                for change in transaction.changes:
                    self._apply(change, transaction.revision, transaction.time_ms, {})
                self._timeline.not_before(transaction.time_ms)
                revision = transaction.revision
            storage.begin(revision)
        except OSError as error:
            storage.release()
            raise StoreError(f"cannot use {storage.path}: {error.strerror}") from error
        except StoreError:
            storage.release()
            raise
        storage.commit.journal_bytes = recovery.size
        storage.commit.step = self.limits.step
        storage.commit.pause = self._pause
        return storage.commit

    async def close(self) -> None:
        """End; what was accepted is settled first. Who writes from now on hears `StoreUnavailable`."""
        self._closed = True
        await self._commit.latch.free()
        await self.housekeeping.stop()
        self._read_no_more = True
        if self._storage is not None:
            await self._storage.close()

    # --- what IStore says -----------------------------------------------------------------------------------------

    def get(self, keyspace: str, key: bytes) -> Deferred[Record | None]:
        """See `IStore.get`."""
        space = self._keyspaces[keyspace]
        try:
            entry = space.get(key, self._cached)
        except PageNeeded:
            return Deferred.fromCoroutine(self._get_when_known(keyspace, key))
        revision = space.cleared if entry is None else entry.revision
        if revision <= self._commit.durable:
            return succeed(self._alive(entry))
        return Deferred.fromCoroutine(self._get_when_known(keyspace, key))

    async def _get_when_known(self, keyspace: str, key: bytes) -> Record | None:
        def look() -> tuple[Entry | None, int]:
            space = self._keyspaces[keyspace]
            entry = space.get(key, pinned)
            return entry, space.cleared if entry is None else entry.revision

        pinned = Pinned(self._cached)
        while True:
            entry, revision = await self._with_pages(look, pinned)
            if await self._commit.settled(revision) >= revision:
                return self._alive(entry)

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
        return Deferred.fromCoroutine(self._scan(keyspace, start, stop, limit, reverse, settled))

    async def _scan(
        self, keyspace: str, start: bytes, stop: bytes | None, limit: int, reverse: bool, settled: bool
    ) -> Slice:
        pinned = Pinned(self._cached)
        while True:
            await self._commit.latch.free()
            try:
                found = self._slice(keyspace, start, stop, limit, reverse, pinned)
            except PageNeeded as needed:
                pinned.pages[needed.ref.number] = await self._load(needed.ref)
                continue
            revision = self._commit.assigned
            if not settled or await self._commit.settled(revision) >= revision:
                return found

    def _slice(
        self, keyspace: str, start: bytes, stop: bytes | None, limit: int, reverse: bool, lookup: Pinned
    ) -> Slice:
        items: list[tuple[bytes, Record]] = []
        size = 0
        last = start
        revision, rollbacks = self._commit.assigned, self._commit.rollbacks
        now_ms = self._timeline.now_ms()
        slice_bytes, slice_entries = self.limits.slice_bytes, self.limits.slice_entries
        entries = self._keyspaces[keyspace].tables.merged(start, stop, reverse, lookup)
        for steps, (key, entry) in enumerate(entries):
            record = None
            more = 0
            if isinstance(entry, Record) and (entry.expires_ms is None or entry.expires_ms > now_ms):
                record = entry
                more = len(key) + len(entry.value)
            if steps >= slice_entries or len(items) >= limit or (items and size + more > slice_bytes):
                return Slice(items, last if reverse else last + b"\0", revision, rollbacks)
            last = key
            if record is not None:
                items.append((key, record))
                size += more
        return Slice(items, None, revision, rollbacks)

    def transact(self, conditions: Sequence[Condition], operations: Sequence[Operation]) -> Deferred[Outcome]:
        """See `IStore.transact`."""
        if self._closed:
            return fail(StoreUnavailable("the server is stopping"))
        if len(conditions) + len(operations) > self.limits.step:
            done: Deferred[Outcome] = Deferred()  # which may be cancelled: the transaction runs to its end
            Deferred.fromCoroutine(self._transact_large(conditions, operations)).chainDeferred(done)
            return done
        if not all(map(has_valid_key, operations)):
            return fail(StoreError(_TOO_LONG))
        try:
            if self._must_wait(operations):
                return Deferred.fromCoroutine(self._transact_when_room(conditions, operations))
            return self._transact_now(conditions, operations, None)
        except PageNeeded:
            return Deferred.fromCoroutine(self._transact_when_known(conditions, operations))
        except StoreError as error:
            return fail(error)

    def _must_wait(self, operations: Sequence[Operation]) -> bool:
        """:raises StoreError: there is no room, and there will be none."""
        if self._commit.latch.held:
            return True
        for operation in operations:
            if not isinstance(operation, Get):
                return self._serving or self.housekeeping.wait_before(operations) is not None
        return False

    async def _transact_when_room(self, conditions: Sequence[Condition], operations: Sequence[Operation]) -> Outcome:
        return await self._transact_in_turn(self._line, _Place(operations), conditions, operations)

    async def _transact_large(self, conditions: Sequence[Condition], operations: Sequence[Operation]) -> Outcome:
        for start in range(0, len(operations), self.limits.step):
            if not all(map(has_valid_key, operations[start : start + self.limits.step])):
                raise StoreError(_TOO_LONG)
            await self._pause()
        # What has to be read from disk is read now, while others can go on.
        reading = Reading(self._cached)
        await self._known_in_steps(conditions, operations, reading)
        return await self._transact_in_turn(self._line, _Place(operations), conditions, operations, reading)

    async def _transact_in_turn(
        self,
        line: deque[_Place],
        place: _Place,
        conditions: Sequence[Condition],
        operations: Sequence[Operation],
        reading: Reading | None = None,
    ) -> Outcome:
        line.append(place)
        if not self._serving:
            Deferred.fromCoroutine(self._serve()).addErrback(lambda f: log.failure("nobody is served any more", f))
        try:
            await place.turn
            if len(conditions) + len(operations) > self.limits.step:
                outcome = await self._transact_in_steps(conditions, operations, reading or Reading(self._cached))
            else:
                outcome = self._transact_now(conditions, operations, await self._read(conditions, operations))
        finally:
            place.applied.callback(None)
        return await outcome

    async def _serve(self) -> None:
        """Let those who wait go on, in order. (A chain of locks would nest as deep as the line is long.)"""
        self._serving = True
        began = self._clock.seconds()
        too_large = sys.maxsize
        while self._alone or self._line:
            if self._clock.seconds() - began > STEP_SECONDS:
                await self._pause()
                began = self._clock.seconds()
            if self._commit.latch.held:
                await self._commit.latch.free()
            line = self._alone or self._line
            place = line[0]
            try:
                if line is self._alone:
                    await self._settled()
                    if place.size >= too_large and not frees_space(place.operations):
                        raise NoRoom(place.refusal)
                else:
                    too_large = sys.maxsize
                wait = self.housekeeping.wait_before(place.operations)
            except StoreError as error:
                line.popleft()
                place.turn.errback(error)
                continue
            if wait is not None:
                await wait
                began = self._clock.seconds()  # others have had their turn meanwhile
                continue
            line.popleft()
            place.turn.callback(None)
            await place.applied
            if line is self._alone:
                if not await self._settled() and self._commit.broken is None:
                    too_large = place.size
                began = self._clock.seconds()
        self._serving = False

    async def _settled(self) -> bool:
        """Return once all that was submitted is durable, or was taken back; whether it is durable."""
        revision = self._commit.assigned
        return await self._commit.settled(revision) >= revision

    async def _transact_when_known(self, conditions: Sequence[Condition], operations: Sequence[Operation]) -> Outcome:
        reading = await self._read(conditions, operations)
        if self._must_wait(operations):  # others have gone on as well when the page came
            return await self._transact_when_room(conditions, operations)
        return await self._transact_now(conditions, operations, reading)

    async def _read(self, conditions: Sequence[Condition], operations: Sequence[Operation]) -> Reading:
        """All that it takes to check the conditions and do the operations."""
        reading = Reading(self._cached)
        for asked in (*conditions, *operations):
            if isinstance(asked, _LOOKUPS):
                await self._with_pages(partial(self._look_up, asked, reading, {}), reading.pinned)
                reading.pinned.pages.clear()
        # What was there before a wait may be elsewhere after it.
        await self._with_pages(partial(self._known, conditions, operations, reading), reading.pinned)
        while self._commit.latch.held:
            await self._commit.latch.free()
            await self._with_pages(partial(self._known, conditions, operations, reading), reading.pinned)
        if self._closed:
            raise StoreUnavailable("the server is stopping")
        return reading

    def _transact_now(
        self, conditions: Sequence[Condition], operations: Sequence[Operation], reading: Reading | None
    ) -> Deferred[Outcome]:
        """:raises PageNeeded: before anything was changed."""
        known = self._known(conditions, operations, reading)
        refused = self._refused(conditions, operations, known)
        if refused is not None:
            return refused
        revision = self._commit.assigned + 1
        now_ms = self._timeline.now_ms()
        results: list[Record | None] = []
        changes: list[Change] = []
        undo: list[Undo] = []
        self._do(operations, known, revision, now_ms, results, changes, undo)
        return self._submit(conditions, operations, results, Transaction(revision, now_ms, changes), undo)

    async def _transact_in_steps(
        self, conditions: Sequence[Condition], operations: Sequence[Operation], reading: Reading
    ) -> Deferred[Outcome]:
        """The same, with turns for others in between. The caller sees to it that no other transaction is done then."""
        latch = self._commit.latch
        while True:
            latch.hold()
            try:
                outcome = await self._try_in_steps(conditions, operations, reading)
            finally:
                latch.release()
            if outcome is not None:
                return outcome
            await latch.free()

    async def _try_in_steps(
        self, conditions: Sequence[Condition], operations: Sequence[Operation], reading: Reading
    ) -> Deferred[Outcome] | None:
        """None: a batch has failed, all that was not durable is taken back, this transaction included."""
        commit = self._commit
        rollbacks = commit.rollbacks
        known = await self._known_in_steps(conditions, operations, reading)
        if commit.rollbacks != rollbacks:
            return None
        if self._closed:
            raise StoreUnavailable("the server is stopping")
        refused = self._refused(conditions, operations, known)
        if refused is not None:
            return refused
        # From here on it must not fail: what waits for this revision is told when it is submitted, or taken back.
        revision = commit.assigned + 1
        now_ms = self._timeline.now_ms()
        results: list[Record | None] = []
        changes: list[Change] = []
        undo: list[Undo] = []
        commit.unsubmitted = undo
        step = self.limits.step
        for start in range(0, len(operations), step):
            self._do(operations[start : start + step], known, revision, now_ms, results, changes, undo)
            await self._pause()
            if commit.rollbacks != rollbacks:
                return None
        commit.unsubmitted = []
        return self._submit(conditions, operations, results, Transaction(revision, now_ms, changes), undo)

    def _refused(
        self, conditions: Sequence[Condition], operations: Sequence[Operation], known: _Known
    ) -> Deferred[Outcome] | None:
        for condition in conditions:
            if not self._holds(condition, known):
                return Deferred.fromCoroutine(self._when_settled(Outcome(False), conditions, operations))
        if self._commit.broken is not None and not all(isinstance(o, Get) for o in operations):
            return fail(StoreUnavailable(self._commit.broken))
        return None

    def _do(
        self,
        operations: Sequence[Operation],
        known: _Known,
        revision: int,
        now_ms: int,
        results: list[Record | None],
        changes: list[Change],
        undo: list[Undo],
    ) -> None:
        """Do some operations of a transaction, and add to its results, its changes, and what takes them back."""
        for operation in operations:
            if isinstance(operation, Get):
                results.append(self._alive(known[operation.keyspace, operation.key]))
            else:
                change = change_of(operation, revision, now_ms)
                changes.append(change)
                undo.append(self._apply(change, revision, now_ms, known))
                results.append(None)

    def _submit(
        self,
        conditions: Sequence[Condition],
        operations: Sequence[Operation],
        results: list[Record | None],
        transaction: Transaction,
        undo: list[Undo],
    ) -> Deferred[Outcome]:
        outcome = Outcome(True, results)
        if not transaction.changes:
            return Deferred.fromCoroutine(self._when_settled(outcome, conditions, operations))
        again = partial(self._transact_alone, conditions, operations)
        return self._commit.submit(transaction, undo, outcome, again)

    def _transact_alone(
        self, conditions: Sequence[Condition], operations: Sequence[Operation], done: Deferred[Outcome], why: str
    ) -> None:
        """Try again what there may be room for."""
        place = _Place(operations, why)
        outcome = Deferred.fromCoroutine(self._transact_in_turn(self._alone, place, conditions, operations))
        outcome.chainDeferred(done)

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
            raise StoreUnavailable("the server is stopping")
        return None if self._disk_state is None else await Backup.begin(self._disk_state)

    # --- how it does that -----------------------------------------------------------------------------------------

    def _new_keyspace(self) -> Keyspace:
        return Keyspace(self._storage is not None, self._opened_at, self._cache)

    def _cached(self, ref: PageRef) -> Page | None:
        return self._cache.get(ref.number)

    def _alive(self, entry: Entry | None) -> Record | None:
        if not isinstance(entry, Record):
            return None
        if entry.expires_ms is not None and entry.expires_ms <= self._timeline.now_ms():
            return None
        return entry

    async def _when_settled(
        self, outcome: Outcome, conditions: Sequence[Condition], operations: Sequence[Operation]
    ) -> Outcome:
        """An outcome that changed nothing, once what it may rest on is durable; if that was taken back, try again."""
        revision = self._commit.assigned
        if await self._commit.settled(revision) >= revision:
            return outcome
        return await self.transact(conditions, operations)

    def _look_up(self, asked: Exists | Unchanged | Room | Get, reading: Reading | None, known: _Known) -> None:
        """Add an entry to what is known: without a large value, if nobody wants that."""
        at = asked.keyspace, asked.key
        whole = type(asked) is Get
        if at in known and not (whole and type(known[at]) is Trace):
            return
        space = self._keyspaces[asked.keyspace]
        if reading is not None:
            known[at] = reading.find(space.tables, asked.key, whole)
        else:
            entry = space.get(asked.key, self._cached)
            known[at] = entry if whole else traced(entry)

    def _known(
        self, conditions: Sequence[Condition], operations: Sequence[Operation], reading: Reading | None
    ) -> _Known:
        """The entries that conditions and operations ask for, each looked up once: that may cost more than all else."""
        known: _Known = {}
        for asked in (*conditions, *operations):
            if isinstance(asked, _LOOKUPS):
                self._look_up(asked, reading, known)
        return known

    async def _known_in_steps(
        self, conditions: Sequence[Condition], operations: Sequence[Operation], reading: Reading
    ) -> _Known:
        known: _Known = {}
        for count, asked in enumerate((*conditions, *operations), 1):
            if count % self.limits.step == 0:
                await self._pause()
            if isinstance(asked, _LOOKUPS):
                try:
                    self._look_up(asked, reading, known)
                except PageNeeded:
                    await self._with_pages(partial(self._look_up, asked, reading, known), reading.pinned)
                    reading.pinned.pages.clear()
        return known

    def _pause(self) -> Deferred[None]:
        """Fires in the next turn of the reactor."""
        return deferLater(self._clock, 0)

    def _holds(self, condition: Condition, known: _Known) -> bool:
        if isinstance(condition, UnchangedSince):
            if condition.rollbacks not in (None, self._commit.rollbacks):
                return False
            return self._keyspaces[condition.keyspace].changed <= condition.revision
        if isinstance(condition, Room):
            return self._has_room(condition, known[condition.keyspace, condition.key])
        record = self._alive(known[condition.keyspace, condition.key])
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

    def _apply(self, change: Change, revision: int, time_ms: int, known: _Known) -> Undo:
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
        else:  # what was not read is not looked for on disk either, just to count it: see `Usage`
            old = space.tables.in_memtables(change.key)
        return space.set(change.key, entry, old)

    async def _with_pages(self, look: Callable[[], T], pinned: Pinned) -> T:
        """What `look` returns once it finds all pages that it needs."""
        while True:
            try:
                return look()
            except PageNeeded as needed:
                pinned.pages[needed.ref.number] = await self._load(needed.ref)

    def _load(self, ref: PageRef) -> Deferred[Page]:
        if self._read_no_more:
            return fail(StoreUnavailable("the server is stopping"))
        loaded: Deferred[Page] = Deferred()
        waiting = self._loading.get(ref.number)
        if waiting is not None:
            waiting.append(loaded)
            return loaded
        self._loading[ref.number] = [loaded]
        assert self._storage is not None
        read = self._storage.read_worker.run(self._storage.pages.read, ref)
        read.addBoth(self._loaded, ref)
        return loaded

    def _loaded(self, result: Page | Failure, ref: PageRef) -> None:
        if isinstance(result, Page):
            self._cache.put(ref.number, result)
        for waiting in self._loading.pop(ref.number):
            waiting.callback(result)
