"""
The store beside plain dictionaries, through long random histories of everything that can happen to it.

In the first machine every job is done at once, and each answer must be the dictionaries' own. In the second one jobs
wait until the history lets them run: transactions, reads, checkpoints and failures cross each other in every order, and
a read must be the view of one moment between its question and its answer, and of nothing that a crash could take back.

What has more than a few operations is large enough to be applied, and taken back, in steps.
"""

from __future__ import annotations

import errno
import shutil
import sys
from collections.abc import Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from kvtwist.engine import Limits, compaction, journal, run_writer
from kvtwist.engine.commit import Again
from kvtwist.engine.frame import Transaction
from kvtwist.model import (
    DATA,
    STAGED,
    Append,
    Clear,
    Condition,
    Delete,
    Exists,
    Get,
    NoRoom,
    Operation,
    Outcome,
    Peek,
    Put,
    Range,
    Record,
    Slice,
    Unchanged,
    UnchangedSince,
)
from kvtwist.model import Read as Reading
from tests.support.engine import Engine, FaultyDisk, Model, SteppedWorker, new_directory, put, result_of, whole_scan

KEYS = [b"", b"a", b"ab", b"b\x00", b"k1", b"k2", b"k3", b"zz", b"\xff"]

keyspaces = st.sampled_from([DATA, DATA, DATA, STAGED])
keys = st.sampled_from(KEYS)
few_keys = st.sampled_from(KEYS[3:6])
values = st.binary(max_size=8).map(lambda value: value * 5)
bounds = st.sampled_from([*KEYS, b"a\x00", b"k", b"k22"])


def put_with(ttls: st.SearchStrategy[int | None]) -> st.SearchStrategy[Operation]:
    return st.builds(Put, keyspaces, keys, values, st.just("text/plain"), ttls)


def operations_with(ttls: st.SearchStrategy[int | None]) -> st.SearchStrategy[list[Operation]]:
    changes = [
        put_with(ttls),
        put_with(ttls),
        st.builds(Delete, keyspaces, keys),
        st.builds(Clear, keyspaces),
        st.builds(Get, keyspaces, keys),
        st.builds(Peek, keyspaces, keys),
        st.builds(Append, keyspaces, keys, values, st.just("text/plain"), ttls),
        st.builds(Range, keyspaces, bounds, st.none() | bounds, st.integers(1, 4), st.booleans()),
    ]
    return st.lists(st.one_of(changes), max_size=6).filter(_appends_to_different_keys)


def _appends_to_different_keys(operations: Sequence[Operation]) -> bool:
    """Keys made by `Append` are those of a transaction: two of one prefix would be one key."""
    prefixes = [(o.keyspace, o.prefix) for o in operations if isinstance(o, Append)]
    return len(prefixes) == len(set(prefixes))


conditions = st.lists(
    st.one_of(
        st.builds(Exists, keyspaces, keys),
        st.builds(Unchanged, keyspaces, keys, st.integers(0, 9)),
        st.builds(UnchangedSince, keyspaces, st.integers(0, 30)),
    ),
    max_size=2,
)


SCALE = {"PAGE_SIZE": 60, "SMALL": 0, "FULL_SHARE": 3, "MAX_RUNS": 2}
"""In which even a few records make many pages, and some runs that are compacted now and then."""
_MODULES = {name: run_writer if name == "PAGE_SIZE" else compaction for name in SCALE}


class Machine(RuleBasedStateMachine):
    """
    Has a store with tiny pages, several runs and next to no cache.

    :ivar pages: what it may take for pages and records that were read, in bytes.
    """

    pages = 100

    def __init__(self) -> None:
        super().__init__()
        self._scale = {name: getattr(_MODULES[name], name) for name in SCALE}
        self._extent = journal.EXTENT
        set_scale(SCALE)
        journal.EXTENT = 300
        self.directory = new_directory()
        self.disk = FaultyDisk()
        self.engine = Engine(
            self.directory / "store",
            disk=self.disk,
            limits=Limits(journal=2000, pages=self.pages, slice_bytes=150, slice_entries=7, step=2),
        )

    def teardown(self) -> None:
        self.engine.die()
        shutil.rmtree(self.directory, ignore_errors=True)
        set_scale(self._scale)
        journal.EXTENT = self._extent


def set_scale(scale: dict[str, Any]) -> None:
    for name, value in scale.items():
        setattr(_MODULES[name], name, value)


def comparable(outcome: Outcome) -> Outcome:
    """An outcome whose slices have their items alone."""
    results = [Slice(list(r.items)) if isinstance(r, Slice) else r for r in outcome.results]
    return Outcome(outcome.committed, results, outcome.revision)


class StoreMachine(Machine):
    """Everything happens at once."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.engine.open()

    @rule(
        conditions=conditions,
        operations=operations_with(st.sampled_from([None, None, 500, 3000, 100_000])),
        otherwise=st.just([]) | operations_with(st.none()),
    )
    def transact(
        self, conditions: list[Condition], operations: list[Operation], otherwise: Sequence[Operation] = ()
    ) -> None:
        expected = self.model.transact(conditions, operations, self.engine.now_ms(), otherwise)
        assert comparable(self.engine.do(*operations, conditions=conditions, otherwise=otherwise)) == expected

    @rule(key=keys, operations=operations_with(st.none()))
    def transact_if_unchanged(self, key: bytes, operations: list[Operation]) -> None:
        record = self.model.records(DATA, self.engine.now_ms()).get(key)
        unchanged = [Unchanged(DATA, key, record.revision if record else 0)]
        expected = self.model.transact(unchanged, operations, self.engine.now_ms())
        assert expected.committed
        assert comparable(self.engine.do(*operations, conditions=unchanged)) == expected

    @rule(operations=operations_with(st.sampled_from([None, 500])))
    def find_no_room(self, operations: list[Operation]) -> None:
        usage = [self.engine.store.usage(keyspace) for keyspace in (DATA, STAGED)]
        self.disk.fail("write", errno.ENOSPC, path="journal", times=9)
        refused: list[Failure] = []
        self.engine.store.transact([], operations).addErrback(refused.append)
        self.engine.pump()
        self.disk.heal()
        if not all(isinstance(operation, Reading) for operation in operations):
            assert refused[0].check(NoRoom)
            assert [self.engine.store.usage(keyspace) for keyspace in (DATA, STAGED)] == usage

    @rule(keyspace=keyspaces, key=keys)
    def get(self, keyspace: str, key: bytes) -> None:
        expected = self.model.records(keyspace, self.engine.now_ms()).get(key)
        assert result_of(self.engine.store.get(keyspace, key)) == expected

    @rule(
        keyspace=keyspaces,
        start=bounds,
        stop=st.none() | bounds,
        limit=st.sampled_from([1, 2, 5, 1000]),
        reverse=st.booleans(),
    )
    def scan(self, keyspace: str, start: bytes, stop: bytes | None, limit: int, reverse: bool) -> None:
        found = whole_scan(self.engine.store, keyspace, start, stop, limit, reverse)
        records = self.model.records(keyspace, self.engine.now_ms())
        expected = [(k, r) for k, r in records.items() if start <= k and (stop is None or k < stop)]
        assert found == (expected[::-1] if reverse else expected)

    @rule(seconds=st.sampled_from([0.0, 0.499, 0.5, 1.0, 2.5, 60.0]))
    def pass_time(self, seconds: float) -> None:
        self.engine.clock.advance(seconds)

    @rule(seconds=st.sampled_from([-3600.0, -0.5, 0.5]))
    def set_clock(self, seconds: float) -> None:
        self.engine.wall += seconds

    @rule()
    def checkpoint(self) -> None:
        self.engine.checkpoint()

    @rule(
        call=st.sampled_from(["create", "write", "sync", "rename", "sync_directory", "remove"]),
        skip=st.integers(0, 4),
    )
    def checkpoint_that_fails(self, call: str, skip: int) -> None:
        # A sync of the journal that fails would make the store read-only.
        self.disk.fail(call, errno.ENOSPC, path="pages" if call == "sync" else "", skip=skip)
        self.engine.checkpoint()
        self.disk.heal()

    @rule(orderly=st.booleans())
    def restart(self, orderly: bool) -> None:
        if self.engine.now_ms() > (self.engine.wall + self.engine.clock.seconds()) * 1000:
            # The clock was set back, and a start goes on from the last time that was written down: it would be before
            # something has expired.
            self.transact([], [put(b"", b"")])
        if orderly:
            result_of(self.engine.close())
        self.engine.reopen()
        self.model.started_at = self.engine.storage.manifest.revision

    @invariant()
    def holds_the_same(self) -> None:
        now_ms = self.engine.now_ms()
        assert self.engine.contents() == self.model.contents(now_ms)


class Read:
    """A question on its way."""

    def __init__(self, asked_at: int, key: bytes | None, deferred: Deferred[Any]) -> None:
        self.asked_at = asked_at
        self.key = key
        self.answers: list[Any] = []
        deferred.addBoth(self.answers.append)


LARGE = 600
"""Bytes of a value that is larger than any transaction of others."""


class Write:
    """A transaction on its way."""

    def __init__(self, operations: Sequence[Operation], deferred: Deferred[Any]) -> None:
        self.large = any(isinstance(o, Put) and len(o.value) >= LARGE for o in operations)
        self.answers: list[Any] = []
        deferred.addBoth(self.answers.append)


class InterleavedMachine(Machine):
    """
    Jobs of the journal and of pages wait.

    What is applied is told by the commit itself, in the order of its revisions: `states[r]` is what the store holds
    after revision r. Those behind the durable revision go when their batch fails.
    """

    def __init__(self) -> None:
        super().__init__()
        self.journal_jobs, self.page_jobs = SteppedWorker(), SteppedWorker()
        self.states: list[dict[str, dict[bytes, Record]]] = [{}]
        self.reads: list[Read] = []
        self.writes: list[Write] = []
        self.shortage = False
        """Whether there was no room for something small, so that nobody can tell who has to hear of it."""
        self.checkpoints: list[Deferred[None]] = []
        self.open()

    def open(self) -> None:
        self.engine.journal, self.engine.pages = self.journal_jobs, self.page_jobs
        self.engine.open()
        commit = self.engine.storage.commit
        submit = commit.submit

        def witnessed(transaction: Transaction, undo: Any, outcome: Outcome, again: Again) -> Deferred[Outcome]:
            if commit is not self.engine.storage.commit:
                return Deferred()  # of a process that has died
            assert transaction.revision == commit.assigned + 1
            del self.states[transaction.revision :]
            self.states.append(applied(self.states[-1], transaction))
            assert len(self.states) == transaction.revision + 1
            return submit(transaction, undo, outcome, again)

        commit.submit = witnessed  # type: ignore[method-assign]

    @property
    def durable(self) -> int:
        return self.engine.storage.commit.durable

    @rule(conditions=conditions, operations=operations_with(st.none()))
    def transact(self, conditions: list[Condition], operations: list[Operation]) -> None:
        self.writes.append(Write(operations, self.engine.store.transact(conditions, operations)))

    @rule(key=few_keys, value=values)
    def put(self, key: bytes, value: bytes) -> None:
        self.transact([], [put(key, value)])

    @rule(key=few_keys)
    def put_large(self, key: bytes) -> None:
        self.transact([], [put(key, bytes(LARGE))])

    @rule(full=st.booleans())
    def fill_disk(self, full: bool) -> None:
        """There is room for everything, or for one small transaction after the other."""
        self.disk.largest = LARGE if full else sys.maxsize

    @rule(key=few_keys)
    def delete(self, key: bytes) -> None:
        self.transact([], [Delete(DATA, key)])

    @rule()
    def clear(self) -> None:
        self.transact([], [Clear(DATA)])

    @rule(key=few_keys)
    def get(self, key: bytes) -> None:
        self.reads.append(Read(self.durable, key, self.engine.store.get(DATA, key)))

    @rule()
    def scan(self) -> None:
        self.reads.append(Read(self.durable, None, self.engine.store.scan(DATA)))

    @rule(key=few_keys)
    def read_in_a_transaction(self, key: bytes) -> None:
        outcome = self.engine.store.transact([], [Get(DATA, key)])
        self.reads.append(Read(self.durable, key, outcome.addCallback(lambda done: done.results[0])))

    @rule()
    def scan_in_a_transaction(self) -> None:
        outcome = self.engine.store.transact([], [Range(DATA)])
        self.reads.append(Read(self.durable, None, outcome.addCallback(lambda done: done.results[0])))

    @rule(key=few_keys)
    def ask_whether_it_exists(self, key: bytes) -> None:
        outcome = self.engine.store.transact([Exists(DATA, key)], [])
        self.reads.append(Read(self.durable, key, outcome.addCallback(lambda done: done.committed)))

    @rule()
    def begin_checkpoint(self) -> None:
        self.checkpoints.append(self.engine.store.housekeeping.checkpoint())

    @rule(seconds=st.sampled_from([1, 61]))
    def pass_time(self, seconds: float) -> None:
        """Long enough for another try of what has failed."""
        self.engine.clock.advance(seconds)

    @rule()
    def take_turn(self) -> None:
        """The reactor goes on with work that is done in steps."""
        self.engine.iterate()

    @precondition(lambda self: self.journal_jobs)
    @rule()
    def do_journal_job(self) -> None:
        self.journal_jobs.step()

    @precondition(lambda self: self.journal_jobs)
    @rule()
    def fail_journal_job(self) -> None:
        self.shortage = True
        self.disk.fail("write", errno.ENOSPC, path="journal")
        self.journal_jobs.step()
        self.disk.heal()

    @precondition(lambda self: self.page_jobs)
    @rule()
    def do_page_job(self) -> None:
        self.page_jobs.step()

    @precondition(lambda self: self.page_jobs)
    @rule(call=st.sampled_from(["create", "write", "sync", "rename", "sync_directory", "remove"]))
    def fail_page_job(self, call: str) -> None:
        self.disk.fail(call, errno.ENOSPC)
        self.page_jobs.step()
        self.disk.heal()

    @rule()
    def crash(self) -> None:
        del self.states[self.durable + 1 :]
        self.engine.die()
        self.forget()
        self.journal_jobs, self.page_jobs = SteppedWorker(), SteppedWorker()
        self.open()
        assert self.durable == len(self.states) - 1
        self.assert_same()

    @rule()
    def finish_everything(self) -> None:
        self.settle()
        assert all(read.answers for read in self.reads), "a read was never answered"
        assert all(write.answers for write in self.writes), "a transaction was never answered"
        assert all(deferred.called for deferred in self.checkpoints), "a checkpoint never ended"
        self.check_reads()
        for write in self.writes:
            [answer] = write.answers
            if isinstance(answer, Failure):
                assert answer.type is NoRoom, answer
                assert write.large or self.shortage, "there is room for it"
        self.shortage = False
        self.forget()
        self.assert_same()

    def settle(self) -> None:
        self.engine.pump()
        while self.journal_jobs or self.page_jobs:
            for jobs in (self.journal_jobs, self.page_jobs):
                if jobs:
                    jobs.step()
            self.engine.pump()

    def forget(self) -> None:
        self.reads, self.writes, self.checkpoints = [], [], []

    def assert_same(self) -> None:
        for keyspace in (DATA, STAGED):
            found: dict[bytes, Record] = {}
            start: bytes | None = b""
            while start is not None:
                scan = self.engine.store.scan(keyspace, start)
                self.settle()
                piece = result_of(scan)
                found.update(piece.items)
                start = piece.resume
            assert found == self.states[self.durable].get(keyspace, {}), (found, self.states[self.durable])

    @invariant()
    def check_reads(self) -> None:
        for read in [read for read in self.reads if read.answers]:
            self.reads.remove(read)
            [answer] = read.answers
            assert not isinstance(answer, Failure), answer
            views = [state.get(DATA, {}) for state in self.states[read.asked_at : self.durable + 1]]
            assert any(is_view(answer, read.key, view) for view in views), (answer, read.key, views)


def applied(state: dict[str, dict[bytes, Record]], transaction: Transaction) -> dict[str, dict[bytes, Record]]:
    """What the journal says, done to dictionaries."""
    following = {name: dict(records) for name, records in state.items()}
    for change in transaction.changes:
        records = following.setdefault(change.keyspace, {})
        if change.key is None:
            records.clear()
        elif change.value is None:
            records.pop(change.key, None)
        else:
            records[change.key] = Record(
                change.value, change.media_type, transaction.revision, transaction.time_ms, change.expires_ms
            )
    return following


def is_view(answer: object, key: bytes | None, records: dict[bytes, Record]) -> bool:
    """Whether these records explain an answer."""
    if isinstance(answer, Slice):
        stop = answer.resume
        return list(answer.items) == [(k, r) for k, r in sorted(records.items()) if stop is None or k < stop]
    assert key is not None
    return answer == (key in records) if isinstance(answer, bool) else answer == records.get(key)


class RoomyStoreMachine(StoreMachine):
    """Has room for all pages, and for the records that it has read from them."""

    pages = 100_000

    @invariant()
    def every_key_has_what_it_should_have(self) -> None:
        for keyspace in (DATA, STAGED):
            for key in KEYS:
                self.get(keyspace, key)


_SETTINGS = settings(max_examples=100, stateful_step_count=60)
"""Of faults put into the engine by hand, each that was found at all was found within 30 examples."""

StoreMachine.TestCase.settings = _SETTINGS
RoomyStoreMachine.TestCase.settings = _SETTINGS
InterleavedMachine.TestCase.settings = _SETTINGS
StoreTests = StoreMachine.TestCase
RoomyStoreTests = RoomyStoreMachine.TestCase
InterleavedTests = InterleavedMachine.TestCase
