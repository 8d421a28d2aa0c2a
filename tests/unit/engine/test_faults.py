"""
A disk that fails or is full: what was refused is nowhere, what was acknowledged stays, and no transaction is left waiting.
"""

from __future__ import annotations

import errno
import gc
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from kvtwist.engine import Limits
from kvtwist.engine.commit import Again, Undo
from kvtwist.engine.disk_space import DiskSpace
from kvtwist.engine.frame import Batch, Change, Transaction, encode_frame
from kvtwist.model import (
    DATA,
    STAGED,
    Clear,
    Condition,
    Delete,
    Exists,
    Get,
    NoRoom,
    Operation,
    Outcome,
    StoreDamaged,
    StoreError,
    StoreUnavailable,
    Unchanged,
    UnchangedSince,
    Usage,
)
from tests.support.engine import (
    Engine,
    EngineCase,
    FaultyDisk,
    InlineWorker,
    SmallDisk,
    SteppedWorker,
    failure_of,
    finish,
    put,
    result_of,
)
from tests.support.tools import kvtwist


class FaultCase(EngineCase):
    disk: FaultyDisk

    def make_engine(self) -> Engine:
        self.disk = FaultyDisk()
        return Engine(self.path / "store", disk=self.disk, limits=Limits(pages=1))

    def refused(self, deferred: Deferred[Outcome], kind: type[StoreError]) -> None:
        self.failureResultOf(deferred, kind)


class NoRoomTests(FaultCase):
    def test_what_finds_no_room_is_nowhere(self) -> None:
        self.engine.put(b"old", b"1")
        self.engine.put(b"gone", b"1")
        before, usage = self.engine.items(), self.engine.store.usage(DATA)
        for number in (errno.ENOSPC, errno.EDQUOT):
            changes: list[list[Operation]] = [
                [put(b"new", b"2")],
                [put(b"old", b"2"), Delete(DATA, b"gone")],
                [Clear(DATA)],
                [Clear(DATA), put(b"x", b"")],
            ]
            for change in changes:
                self.disk.fail("write", number)
                self.refused(self.engine.store.transact([], change), NoRoom)
                self.assertEqual(self.engine.items(), before)
                self.assertEqual(self.engine.store.usage(DATA), usage)
        self.engine.reopen()
        self.assertEqual(self.engine.items(), before)
        self.assertEqual(self.engine.recovery.torn_bytes, 0)

    def test_writing_goes_on_when_there_is_room_again(self) -> None:
        self.disk.fail("write", errno.ENOSPC, times=3)
        for _ in range(3):
            self.refused(self.engine.store.transact([], [put(b"k", b"lost")]), NoRoom)
        self.engine.put(b"k", b"kept")
        self.assertFalse(self.engine.store.figures().read_only)
        self.engine.reopen()
        self.assertEqual(self.engine.items(), [(b"k", b"kept")])

    def test_usage_is_what_it_was_even_if_something_expired_meanwhile(self) -> None:
        self.engine.journal = journal = SteppedWorker()
        self.engine.die()
        self.engine.open()
        store = self.engine.store
        for change in (put(b"old", b"1", ttl_ms=500), put(b"stays", b"1")):
            store.transact([], [change])
        journal.finish()
        self.disk.fail("write", errno.ENOSPC)
        lost = store.transact([], [put(b"new", b"2")])
        self.engine.clock.advance(2)
        self.assertEqual(store.usage(DATA), Usage(2, 10), "one was swept, one is on its way")
        journal.finish()
        self.refused(lost, NoRoom)
        self.assertEqual(store.usage(DATA), Usage(1, 6))


class LostBatchTests(FaultCase):
    """A batch fails while others wait for it: the test decides when each is written."""

    def make_engine(self) -> Engine:
        engine = super().make_engine()
        engine.journal = self.journal_jobs = SteppedWorker()
        return engine

    def setUp(self) -> None:
        super().setUp()
        self.store = self.engine.store
        self.store.transact([], [put(b"k", b"1"), put(b"other", b"1")])
        self.journal_jobs.finish()
        self.disk.fail("write", errno.ENOSPC)

    def value(self, deferred: Deferred[Any]) -> object:
        return getattr(self.successResultOf(deferred), "value", None)

    def four_changes(self) -> list[Deferred[Outcome]]:
        return [
            self.store.transact([], [put(b"k", b"2")]),
            self.store.transact([Unchanged(DATA, b"k", 2)], [put(b"other", b"2")]),
            self.store.transact([], [Clear(DATA)]),
            self.store.transact([], [put(b"late", b"2")]),
        ]

    def test_what_was_built_on_it_is_lost_with_it(self) -> None:
        self.disk.heal()
        self.disk.fail("write", errno.EIO)
        lost = self.four_changes()
        self.journal_jobs.finish()
        for deferred in lost:
            self.refused(deferred, StoreUnavailable)
        self.assertEqual([key for key, _ in self.successResultOf(self.store.scan(DATA)).items], [b"k", b"other"])

    def test_where_there_is_room_for_what_was_built_on_it_that_is_built_on_what_was_there_before(self) -> None:
        first, second, third, fourth = self.four_changes()
        self.journal_jobs.finish()
        self.refused(first, NoRoom)
        self.assertFalse(self.successResultOf(second).committed, "what it was built on was taken back")
        for deferred in (third, fourth):
            self.assertTrue(self.successResultOf(deferred).committed)
        self.assertEqual([key for key, _ in self.successResultOf(self.store.scan(DATA)).items], [b"late"])
        self.engine.reopen()
        self.assertEqual([(key, r.revision) for key, r in self.engine.records()], [(b"late", 3)])

    def test_a_get_that_waited_for_it_sees_what_was_there_before(self) -> None:
        for change in ([put(b"k", b"2")], [Delete(DATA, b"k")], [Clear(DATA)]):
            lost = self.store.transact([], change)
            got = self.store.get(DATA, b"k")
            self.assertNoResult(got)
            self.journal_jobs.finish()
            self.refused(lost, NoRoom)
            self.assertEqual(self.value(got), b"1")
            self.disk.fail("write", errno.ENOSPC)

    def test_a_scan_that_waited_for_it_sees_what_was_there_before(self) -> None:
        for change in ([put(b"new", b"2")], [Delete(DATA, b"k")], [Clear(DATA)]):
            lost = self.store.transact([], change)
            scan = self.store.scan(DATA)
            self.journal_jobs.finish()
            self.refused(lost, NoRoom)
            self.assertEqual([key for key, _ in self.successResultOf(scan).items], [b"k", b"other"])
            self.disk.fail("write", errno.ENOSPC)

    def test_a_condition_that_failed_because_of_it_holds_after_all(self) -> None:
        lost = self.store.transact([], [Delete(DATA, b"k")])
        change = self.store.transact([Exists(DATA, b"k")], [put(b"k", b"3")])
        self.journal_jobs.finish()
        self.refused(lost, NoRoom)
        self.journal_jobs.finish()
        self.assertTrue(self.successResultOf(change).committed, "the answer rests on what was taken back")
        self.assertEqual(self.value(self.store.get(DATA, b"k")), b"3")

    def test_a_transaction_that_only_reads_sees_what_was_there_before(self) -> None:
        lost = self.store.transact([], [put(b"k", b"2")])
        read = self.store.transact([], [Get(DATA, b"k")])
        self.journal_jobs.finish()
        self.refused(lost, NoRoom)
        [record] = self.successResultOf(read).results
        assert record is not None
        self.assertEqual(record.value, b"1")

    def test_writing_goes_on_after_it_with_the_same_revisions(self) -> None:
        lost = self.store.transact([], [put(b"k", b"2")])
        again: list[Deferred[Outcome]] = []
        lost.addErrback(lambda _: again.append(self.store.transact([Unchanged(DATA, b"k", 1)], [put(b"k", b"3")])))
        self.journal_jobs.finish()
        self.assertTrue(self.successResultOf(again[0]).committed)
        self.engine.reopen()
        self.assertEqual([(key, r.revision) for key, r in self.engine.records()], [(b"k", 2), (b"other", 1)])


class CrowdedTests(FaultCase):
    """There is room for small values, and none for large ones that share a batch with them."""

    def make_engine(self) -> Engine:
        engine = super().make_engine()
        engine.journal = self.journal_jobs = SteppedWorker()
        return engine

    def setUp(self) -> None:
        super().setUp()
        self.store = self.engine.store
        self.heard: list[tuple[bytes, str]] = []
        self.write(b"k", 1)
        self.journal_jobs.finish()
        self.heard.clear()
        self.disk.largest = 500

    def write(self, key: bytes, size: int, *conditions: Condition) -> Deferred[Outcome]:
        """Put a record; what becomes of it is told in `heard`."""
        done = self.store.transact(conditions, [put(key, bytes(size))])

        def hear(result: Outcome | Failure) -> Outcome | Failure:
            told = type(result.value).__name__ if isinstance(result, Failure) else str(result.committed)
            self.heard.append((key, told))
            return result

        return done.addBoth(hear)

    def fly(self) -> None:
        """Let what is submitted from now on share a batch, behind one that is on its way."""
        self.write(b"k", 1)

    def keys(self) -> list[bytes]:
        return [key for key, _ in self.successResultOf(self.store.scan(DATA)).items]

    def ignore(self, *deferreds: Deferred[Outcome]) -> None:
        for deferred in deferreds:
            deferred.addErrback(lambda _: None)

    def test_only_what_is_too_large_fails_and_all_hear_in_their_order(self) -> None:
        self.fly()
        sizes = [10, 1000, 10, 10, 2000, 1000, 10]
        self.ignore(*[self.write(b"%d" % number, size) for number, size in enumerate(sizes)])
        self.journal_jobs.finish()
        expected = [(b"%d" % number, "NoRoom" if size > 500 else "True") for number, size in enumerate(sizes)]
        self.assertEqual(self.heard, [(b"k", "True"), *expected])
        self.assertEqual(self.keys(), [b"0", b"2", b"3", b"6", b"k"])
        self.assertEqual(self.engine.storage.commit.unsynced, 0)
        self.engine.reopen()
        self.assertEqual(
            [(key, r.revision) for key, r in self.engine.records()][:4], [(b"0", 3), (b"2", 4), (b"3", 5), (b"6", 6)]
        )

    def test_many_small_ones_that_are_too_much_together_all_succeed(self) -> None:
        self.fly()
        for number in range(100):
            self.write(b"%02d" % number, 100)
        self.journal_jobs.finish()
        self.assertEqual(self.heard[1:], [(b"%02d" % number, "True") for number in range(100)])

    def test_deletions_are_tried_however_small_a_write_was_that_has_failed(self) -> None:
        key = bytes(40)
        self.write(key, 1)
        self.journal_jobs.finish()
        self.heard.clear()
        self.fly()
        self.ignore(self.write(b"p", 38))
        deleted = self.store.transact([], [Delete(DATA, key)])
        written = Change(DATA, b"p", bytes(38), "application/octet-stream")
        frame, larger = (
            b"".join(encode_frame(Batch(3, [Transaction(4, self.engine.now_ms(), [change])]), b""))
            for change in (Change(DATA, key), written)
        )
        self.assertLess(len(frame), len(larger))
        self.journal_jobs.step()
        self.disk.largest = len(frame)
        self.journal_jobs.finish()
        self.assertEqual(self.heard, [(b"k", "True"), (b"p", "NoRoom")])
        self.assertTrue(self.successResultOf(deleted).committed)

    def test_a_writer_that_comes_while_they_are_tried_waits_and_shares_batches_again(self) -> None:
        self.fly()
        self.ignore(self.write(b"large", 1000), *[self.write(b"%d" % number, 10) for number in range(3)])
        self.journal_jobs.step()
        self.journal_jobs.step()
        self.assertEqual(self.heard, [(b"k", "True")])
        batches = self.engine.storage.commit.counters.batches
        for number in range(3, 9):
            self.write(b"%d" % number, 10)
        self.journal_jobs.finish()
        self.assertEqual(self.heard[1:], [(b"large", "NoRoom"), *((b"%d" % number, "True") for number in range(9))])
        self.assertEqual(self.engine.storage.commit.counters.batches - batches, 3 + 2)

    def test_a_disk_without_any_room_costs_a_few_writes(self) -> None:
        self.disk.largest = 0
        before = self.disk.journal_writes
        for size in (0, 100):
            refused = [self.write(b"%03d" % number, size) for number in range(300)]
            self.journal_jobs.finish()
            for deferred in refused:
                self.refused(deferred, NoRoom)
        self.assertLess(self.disk.journal_writes - before, 6)
        self.assertEqual(self.keys(), [b"k"])

    def test_even_sizes_that_make_it_hardest_cost_one_write_each(self) -> None:
        self.disk.largest = 0
        before = self.disk.journal_writes
        applied = self.count_submissions()
        refused = [self.write(b"%03d" % number, 300 - number) for number in range(300)]
        self.journal_jobs.finish()
        for deferred in refused:
            self.refused(deferred, NoRoom)
        self.assertLessEqual(self.disk.journal_writes - before, 300)
        self.assertLessEqual(len(applied), 2 * 300)

    def count_submissions(self) -> list[int]:
        commit = self.engine.storage.commit
        submit, submitted = commit.submit, list[int]()

        def counted(transaction: Transaction, undo: list[Undo], outcome: Outcome, again: Again) -> Deferred[Outcome]:
            submitted.append(transaction.revision)
            return submit(transaction, undo, outcome, again)

        self.patch(commit, "submit", counted)
        return submitted

    def test_all_is_as_it_was_after_those_that_fail(self) -> None:
        self.store.transact([], [put(b"staged", b"1", keyspace=STAGED)])
        self.journal_jobs.finish()
        usages = [self.store.usage(name) for name in (DATA, STAGED)]
        before, revision = self.keys(), self.engine.storage.commit.assigned
        changes: list[list[Operation]] = [
            [put(b"a", bytes(1000)), Delete(DATA, b"k"), Delete(STAGED, b"staged")],
            [Clear(DATA), put(b"b", bytes(900))],
            [Clear(STAGED), put(b"k", bytes(800))],
            [put(b"k", bytes(700), ttl_ms=5), Delete(DATA, b"a")],
        ]
        refused = [self.store.transact([], change) for change in changes]
        self.journal_jobs.finish()
        for deferred in refused:
            self.refused(deferred, NoRoom)
        self.assertEqual(self.keys(), before)
        self.assertEqual([self.store.usage(name) for name in (DATA, STAGED)], usages)
        self.assertEqual(self.engine.storage.commit.assigned, revision)
        unchanged = self.store.transact([UnchangedSince(DATA, 1), UnchangedSince(STAGED, 2)], [])
        self.assertTrue(self.successResultOf(unchanged).committed)

    def test_conditions_and_reads_see_the_state_without_what_failed(self) -> None:
        self.fly()
        self.ignore(self.write(b"large", 1000))
        built = self.write(b"built", 10, Exists(DATA, b"large"))
        first = self.write(b"first", 10, Unchanged(DATA, b"first", 0))
        second = self.write(b"first", 20, Unchanged(DATA, b"first", 0))
        read = self.store.transact([], [Get(DATA, b"large"), Get(DATA, b"first"), put(b"reader", b"1")])
        self.journal_jobs.finish()
        self.assertFalse(self.successResultOf(built).committed)
        self.assertTrue(self.successResultOf(first).committed)
        self.assertFalse(self.successResultOf(second).committed)
        large, small, _ = self.successResultOf(read).results
        assert small is not None
        self.assertEqual((large, small.value), (None, bytes(10)))
        self.assertEqual(self.keys(), [b"first", b"k", b"reader"])

    def test_readers_see_what_there_is_in_the_end(self) -> None:
        self.fly()
        self.ignore(self.write(b"large", 1000), self.write(b"small", 10))
        gets = [self.store.get(DATA, key) for key in (b"large", b"small", b"k")]
        scan = self.store.scan(DATA)
        exists = self.store.transact([Exists(DATA, b"small")], [])
        self.journal_jobs.step()
        self.assertNoResult(scan)
        self.journal_jobs.finish()
        large, small, k = [self.successResultOf(get) for get in gets]
        self.assertIsNone(large)
        self.assertIsNotNone(k)
        self.successResultOf(exists)
        # Between the failure and the next try there was a moment without either, which they may have seen.
        self.assertIn(None if small is None else small.value, (None, bytes(10)))
        self.assertIn([key for key, _ in self.successResultOf(scan).items], ([b"k"], [b"k", b"small"]))
        self.assertEqual(self.keys(), [b"k", b"small"])

    def test_a_retry_that_was_not_alone_is_tried_once_more(self) -> None:
        # Somebody hears of a failure, and writes before those behind can be tried.
        more: list[Deferred[Outcome]] = []
        self.write(b"large", 1000).addErrback(lambda _: more.append(self.write(b"larger", 2000)))
        self.write(b"small", 10)
        self.write(b"medium", 400)
        self.journal_jobs.finish()
        self.refused(more[0], NoRoom)
        told = [(b"large", "NoRoom"), (b"larger", "NoRoom"), (b"small", "True"), (b"medium", "True")]
        self.assertEqual(self.heard, told)

    def test_a_failure_of_another_kind_meanwhile_ends_it_for_all(self) -> None:
        self.fly()
        lost = [self.write(b"%d" % number, 1000 if number == 1 else 10) for number in range(5)]
        self.journal_jobs.step()
        self.journal_jobs.step()
        self.disk.fail("sync", errno.EIO, path="journal")
        self.journal_jobs.finish()
        for deferred in lost:
            self.refused(deferred, StoreUnavailable)
        self.assertEqual(self.keys(), [b"k"])

    def test_a_cancelled_writer_is_not_tried_again_and_delays_no_other(self) -> None:
        self.fly()
        gone = [self.write(b"large", 1000), self.write(b"gone", 10)]
        late, stays = self.write(b"late", 10), self.write(b"stays", 10)
        for deferred in gone:
            deferred.cancel()
            self.failureResultOf(deferred, CancelledError)
        self.journal_jobs.step()
        self.journal_jobs.step()
        late.cancel()
        self.failureResultOf(late, CancelledError)
        self.journal_jobs.finish()
        self.assertTrue(self.successResultOf(stays).committed)
        self.assertIn(b"stays", self.keys())
        self.assertNotIn(b"gone", self.keys())

    def test_a_stop_answers_all_of_them(self) -> None:
        self.fly()
        waiting = [self.write(b"%d" % number, 1000 if number == 1 else 10) for number in range(5)]
        self.journal_jobs.step()
        self.journal_jobs.step()
        waiting.append(self.write(b"late", 10))
        closed = self.engine.close()
        self.journal_jobs.finish()
        self.successResultOf(closed)
        self.assertTrue(self.successResultOf(waiting[0]).committed, "it was on its way")
        for deferred in waiting[1:]:
            self.refused(deferred, StoreUnavailable)
        self.disk.largest = sys.maxsize
        self.engine.reopen()
        self.assertEqual([key for key, _ in self.engine.items()], [b"0", b"k"])

    def test_time_that_passes_meanwhile_keeps_no_writer_waiting(self) -> None:
        self.fly()
        self.ignore(*[self.write(b"%d" % number, 1000 if number == 1 else 10) for number in range(5)])
        while self.journal_jobs:
            self.journal_jobs.step()
            self.engine.clock.rightNow += 1
        self.assertEqual(len(self.heard), 6)

    def test_nothing_of_them_stays_in_memory(self) -> None:
        async def request(body: Body) -> None:
            await self.store.transact([], [put(b"k", body.content)])

        refused = [Deferred.fromCoroutine(request(Body(bytes(1000 - number % 7)))) for number in range(50)]
        self.journal_jobs.finish()
        for deferred in refused:
            self.refused(deferred, NoRoom)  # type: ignore[arg-type]
        del refused, deferred
        gc.collect()
        self.assertEqual(len([thing for thing in gc.get_objects() if isinstance(thing, Body)]), 0)


class ReadOnlyTests(FaultCase):
    """What the kernel still holds is unknown after a failed sync: nothing is written any more, and reads go on."""

    def break_it(self, call: str, number: int) -> None:
        self.disk.fail(call, number)
        self.refused(self.engine.store.transact([], [put(b"lost", b"2")]), StoreUnavailable)

    def test_nothing_is_written_any_more_and_reads_go_on(self) -> None:
        for call, number in (("sync", errno.EIO), ("sync", errno.ENOSPC), ("write", errno.EIO)):
            self.engine.do(Clear(DATA), put(b"k", b"1"))
            self.break_it(call, number)
            before = self.engine.files()
            for _ in range(3):
                for change in ([put(b"k", b"2")], [Delete(DATA, b"k")], [Clear(DATA)]):
                    self.refused(self.engine.store.transact([], change), StoreUnavailable)
                self.assertEqual(self.engine.items(), [(b"k", b"1")])
                self.assertEqual(self.engine.get(b"k"), b"1")
                self.assertTrue(self.engine.do(Get(DATA, b"k"), conditions=[Exists(DATA, b"k")]).committed)
            self.assertTrue(self.engine.store.figures().read_only)
            self.assertEqual(self.engine.files(), before)
            self.disk.heal()
            self.engine.reopen()

    def test_a_cut_that_fails_makes_it_read_only(self) -> None:
        self.engine.put(b"k", b"1")
        self.disk.fail("cut", errno.EIO)
        self.break_it("write", errno.ENOSPC)
        self.assertTrue(self.engine.store.figures().read_only)
        self.disk.heal()
        self.engine.reopen()
        self.assertGreater(self.engine.recovery.torn_bytes, 0)
        self.assertEqual(self.engine.items(), [(b"k", b"1")])

    def test_a_restart_makes_it_writable(self) -> None:
        self.engine.put(b"k", b"1")
        self.break_it("sync", errno.EIO)
        self.engine.reopen()
        self.assertFalse(self.engine.store.figures().read_only)
        self.engine.put(b"k", b"2")
        self.assertEqual(self.engine.get(b"k"), b"2")

    def test_the_reason_is_told_in_one_line(self) -> None:
        self.break_it("sync", errno.EIO)
        failure = self.failureResultOf(self.engine.store.transact([], [put(b"k", b"2")]))
        self.assertIn("Input/output error", str(failure.value))
        self.assertNotIn("\n", str(failure.value))

    def test_it_stops_in_good_order(self) -> None:
        self.engine.put(b"k", b"1")
        self.break_it("sync", errno.EIO)
        self.successResultOf(self.engine.close())
        self.assertTrue(isinstance(self.engine.journal, InlineWorker) and self.engine.journal.stopped)
        self.engine.reopen()
        self.assertEqual(self.engine.get(b"k"), b"1")

    def test_no_checkpoint_is_tried_any_more(self) -> None:
        self.engine.put(b"k", b"1", ttl_ms=1000)
        self.break_it("sync", errno.EIO)
        self.engine.clock.pump([1.0] * 200)
        self.assertEqual(self.engine.store.figures().failed_checkpoints, 0)

    def test_writes_that_are_refused_leave_nothing_in_memory(self) -> None:
        # The very same error for everybody would remember, in its traceback, every request that it was ever told to.
        self.break_it("sync", errno.EIO)

        async def request(body: Body) -> None:
            await self.engine.store.transact([], [put(b"k", body.content)])

        for _ in range(50):
            self.failureResultOf(Deferred.fromCoroutine(request(Body(b"v"))), StoreUnavailable)
        gc.collect()
        self.assertEqual(len([thing for thing in gc.get_objects() if isinstance(thing, Body)]), 0)


class Body:
    """Something that a request holds on to."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.itself = self  # known to the garbage collector


class StartTests(FaultCase):
    """Whatever keeps a store from being opened is one line, and the directory is free for the next try."""

    def assert_refused(self, part: str) -> None:
        with self.assertRaises(StoreError) as caught:
            self.engine.open()
        message = str(caught.exception)
        self.assertIn(part, message)
        self.assertNotIn("\n", message)
        self.disk.heal()
        self.engine.disk.abandon()
        self.engine.open()

    def test_a_place_that_cannot_be_a_directory(self) -> None:
        (self.path / "file").write_text("")
        for place in (self.path / "file", self.path / "file" / "below"):
            with self.assertRaises(StoreError) as caught:
                Engine(place).open()
            self.assertIn(str(place), str(caught.exception))

    def test_a_journal_that_cannot_be_read(self) -> None:
        self.engine.put(b"k", b"1")
        self.engine.die()
        self.disk.fail("read", errno.EIO, path="journal")
        self.assert_refused("Input/output error")

    def test_a_journal_that_cannot_be_made_fails_the_first_writer(self) -> None:
        self.engine.put(b"k", b"1")
        for call in ("create", "write", "sync", "sync_directory"):
            self.engine.reopen()
            self.assertFalse(self.engine.store.figures().read_only)
            self.disk.fail(call, errno.EIO)
            self.refused(self.engine.store.transact([], [put(b"k", b"2")]), StoreUnavailable)
            self.assertEqual(self.engine.items(), [(b"k", b"1")])
            self.assertTrue(self.engine.store.figures().read_only)
            self.disk.heal()
            self.refused(self.engine.store.transact([], [put(b"k", b"2")]), StoreUnavailable)
        self.engine.reopen()
        self.engine.put(b"k", b"2")

    def test_reading_changes_nothing(self) -> None:
        self.engine.put(b"k", b"1")
        self.engine.reopen()
        before = self.engine.files()
        for _ in range(3):
            self.assertEqual(self.engine.get(b"k"), b"1")
            self.engine.reopen()
        self.assertEqual(self.engine.files(), before)

    def test_a_torn_tail_that_cannot_be_cut_off(self) -> None:
        self.engine.put(b"k", b"1")
        [name] = self.engine.files("journal")
        self.engine.die()
        with open(self.engine.path / name, "ab") as file:
            file.write(b"torn")
        self.disk.fail("cut_file", errno.EROFS)
        self.assert_refused("Read-only file system")

    def test_a_manifest_that_cannot_be_read(self) -> None:
        self.engine.put(b"k", b"1")
        self.engine.checkpoint()
        self.engine.die()
        self.disk.fail("read", errno.EACCES, path="manifest")
        self.assert_refused("Permission denied")

    def test_a_directory_that_cannot_be_listed(self) -> None:
        for skip in range(4):
            self.engine.die()
            self.disk.fail("names", errno.EIO, skip=skip)
            self.assert_refused("Input/output error")


class ForeignFilesTests(FaultCase):
    """Whatever else is in the directory: the store and its tools leave it where it is, and go on."""

    NAMES = (
        "manifest-00000000000000000001.bak",
        "manifest-00000000000000000001.new~",
        "manifest-1",
        "manifest-",
        "journal-00000000000000000001.log.bak",
        "journal-00000000000000000001.log.new",
        "journal-1.log",
        "journal-spare.bak",
        "damaged-notes",
        "notes.new",
        "pages.bak",
        "pages/README",
        "pages/notes.new",
        "pages/notes.rpl",
        "pages/MQ==_.bak",
        "pages/MQ==_.rpl",
        "pages/MQ==_.new.bak",
        "pages/MQ==",
        "pages/MDE=_.new",
    )
    DIRECTORIES = (
        "manifest-x.bak",
        "manifest-00000000000000000001",
        "manifest-00000000000000000001.new",
        "journal-x",
        "pages/OTk5_",
        "pages/MQ==_.new",
        "pages/x.new",
        "pages/x.rpl",
    )

    def put_there(self) -> set[str]:
        for name in (*self.NAMES, *(f"{name}/inside" for name in self.DIRECTORIES)):
            path = self.engine.path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text("not ours")
        return {*self.NAMES, *(f"{name}/inside" for name in self.DIRECTORIES)}

    def left(self) -> set[str]:
        paths = [path for path in self.engine.path.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.engine.path)) for path in paths if path.read_bytes() == b"not ours"}

    def test_they_stay(self) -> None:
        for number in range(3):
            self.engine.put(b"k%d" % number, bytes(60))
            self.engine.checkpoint()
        self.engine.die()
        foreign = self.put_there()
        for number in range(3):
            self.engine.open()
            self.engine.put(b"l%d" % number, bytes(60))
            self.engine.checkpoint()
            self.engine.clock.pump([1.0] * 65)
            result_of(self.engine.close())
            self.engine.die()
            self.engine.journal, self.engine.pages = InlineWorker(), InlineWorker()
            self.assertEqual(self.left(), foreign)
        page = next(path for path in (self.engine.path / "pages").iterdir() if b"k1" in self.content(path))
        page.write_bytes(page.read_bytes()[:-1])
        self.assertEqual(kvtwist("check", self.engine.path).exit_code, 1)
        self.assertEqual(kvtwist("repair", "--yes", self.engine.path).exit_code, 0)
        self.assertEqual(kvtwist("compact", self.engine.path).exit_code, 0)
        self.assertEqual(self.left(), foreign)
        self.assertEqual(kvtwist("check", self.engine.path).exit_code, 0)
        self.engine.open()
        self.assertIn(b"l2", dict(self.engine.items()))

    @staticmethod
    def content(path: Path) -> bytes:
        return path.read_bytes() if path.is_file() else b""

    def test_a_directory_in_the_place_of_the_newest_manifest_is_told(self) -> None:
        self.engine.die()
        path = self.engine.path / f"manifest-{7:020d}"
        path.mkdir()
        error = self.assertRaises(StoreDamaged, self.engine.open)
        self.assertIn(f"{path}: is a directory", str(error))


class MissingPartsTests(FaultCase):
    """A directory of which somebody has lost a part: it is refused, and what is left of it is left alone."""

    def test_a_lost_manifest_is_told_and_costs_no_page(self) -> None:
        self.engine.put(b"k", b"1")
        self.engine.checkpoint()
        self.engine.put(b"l", b"1")
        self.engine.die()
        [name] = self.engine.files("manifest")
        content = (self.engine.path / name).read_bytes()
        (self.engine.path / name).unlink()
        before = self.engine.files()
        self.assertRaises(StoreDamaged, self.engine.open)
        self.assertEqual(self.engine.files(), before)
        (self.engine.path / name).write_bytes(content)
        self.engine.open()
        self.assertEqual(self.engine.items(), [(b"k", b"1"), (b"l", b"1")])

    def test_a_lost_or_damaged_page_fails_reads_of_it_and_the_rest_goes_on(self) -> None:
        for number in range(4):
            self.engine.put(b"%d" % number, bytes(60))
        self.engine.checkpoint()
        [first, *_] = self.engine.store._keyspaces[DATA].tables.runs[0].pages
        page = Path(self.engine.storage.pages.file_of(first.number))
        content = page.read_bytes()
        for damage in (page.unlink, lambda: page.write_bytes(content[:-1])):
            damage()
            self.engine.reopen()
            for _ in range(2):
                self.failureResultOf(self.engine.store.get(DATA, b"0"), StoreDamaged)
                self.failureResultOf(self.engine.store.scan(DATA), StoreDamaged)
                self.refused(self.engine.store.transact([Exists(DATA, b"0")], [put(b"0", b"1")]), StoreDamaged)
            self.assertEqual(self.engine.get(b"3"), bytes(60))
            page.write_bytes(content)
        self.assertEqual(self.engine.get(b"0"), bytes(60))

    def test_a_page_that_the_disk_fails_to_read_is_not_reported_as_missing(self) -> None:
        for number in range(4):
            self.engine.put(b"%d" % number, bytes(60))
        self.engine.checkpoint()
        self.engine.reopen()
        self.engine.put(b"late", b"1")
        self.disk.fail("read", errno.EIO, path="pages", times=99)
        store = self.engine.store
        file = self.engine.storage.pages.file_of(store._keyspaces[DATA].tables.runs[0].pages[0].number)
        for _ in range(2):
            message = str(self.failureResultOf(store.get(DATA, b"0"), StoreDamaged).value)
            self.assertTrue(message.startswith(f"{file}: page "), message)
            self.assertEqual(message.count(str(self.path)), 1)
            self.failureResultOf(store.scan(DATA), StoreDamaged)
            self.refused(store.transact([Exists(DATA, b"0")], [put(b"0", b"1")]), StoreDamaged)
            self.refused(store.transact([], [Get(DATA, b"0"), put(b"0", b"1")]), StoreDamaged)
            self.assertEqual(self.engine.get(b"late"), b"1")
        self.assertFalse(store.figures().read_only)
        self.disk.heal()
        self.assertEqual([key for key, _ in self.engine.items()], [b"0", b"1", b"2", b"3", b"late"])

    def test_a_damaged_page_is_never_replaced_by_a_compaction(self) -> None:
        for number in range(4):
            self.engine.put(b"%d" % number, bytes(60))
        self.engine.checkpoint()
        [first, *_] = self.engine.store._keyspaces[DATA].tables.runs[0].pages
        page = Path(self.engine.storage.pages.file_of(first.number))
        content = page.read_bytes()
        page.write_bytes(content[:-1] + b"?")
        self.engine.put(b"00", b"new")
        self.engine.checkpoint()
        self.assertEqual(len(self.engine.store._keyspaces[DATA].tables.runs), 2, "compaction leaves it where it is")
        self.assertTrue(page.exists())
        page.write_bytes(content)
        self.engine.clock.pump([1.0] * 70)
        self.assertEqual(len(self.engine.store._keyspaces[DATA].tables.runs), 1)
        self.assertEqual([key for key, _ in self.engine.items()], [b"0", b"00", b"1", b"2", b"3"])


class StopTests(FaultCase):
    def test_a_journal_that_cannot_be_closed_leaves_no_thread_and_no_lock(self) -> None:
        for sync, call in ((False, "sync"), (True, "close")):
            self.engine.die()
            self.engine.journal, self.engine.pages = InlineWorker(), InlineWorker()
            self.engine.sync = sync
            self.engine.open()
            self.engine.put(b"k", b"1")
            self.disk.fail(call, errno.EIO, path="journal", times=9)
            closed = self.engine.close()
            closed.addErrback(lambda failure: failure.trap(StoreError, OSError))
            result_of(closed)
            for worker in (self.engine.journal, self.engine.pages):
                self.assertTrue(isinstance(worker, InlineWorker) and worker.stopped, f"{call}: a thread goes on")
            self.disk.heal()
            self.engine.open()
            self.assertEqual(self.engine.get(b"k"), b"1")

    def test_a_checkpoint_that_fails_does_not_keep_it_from_stopping(self) -> None:
        self.engine.put(b"k", b"1")
        self.disk.fail("write", errno.ENOSPC, path="pages", times=99)
        self.successResultOf(self.engine.close())
        self.engine.reopen()
        self.assertEqual(self.engine.recovery.transactions, 1)
        self.assertEqual(self.engine.get(b"k"), b"1")

    def test_a_checkpoint_that_takes_too_long_is_given_up(self) -> None:
        self.engine.die()
        self.engine.pages = page_jobs = SteppedWorker()
        self.engine.open()
        self.engine.put(b"k", b"1")
        closed = self.engine.close()
        self.assertNoResult(closed)
        self.engine.clock.advance(5)
        self.successResultOf(closed)
        self.assertTrue(page_jobs.stopped)
        self.engine.reopen()
        self.assertEqual(self.engine.get(b"k"), b"1")


class FullDiskTests(EngineCase):
    """A disk that is really full, byte by byte."""

    disk: SmallDisk

    def make_engine(self) -> Engine:
        self.disk = SmallDisk(self.path / "store", 10_000)
        return Engine(self.path / "store", disk=self.disk, limits=Limits(pages=1, journal=10**9))

    def fill(self) -> dict[bytes, bytes]:
        """Write until there is no room."""
        kept: dict[bytes, bytes] = {}
        for number in range(1000):
            key = b"%03d" % number
            done = self.engine.store.transact([], [put(key, bytes(100))])
            if isinstance(failure_of(done), NoRoom):
                return kept
            kept[key] = bytes(100)
        self.fail("the disk is never full")

    def test_what_was_acknowledged_is_there_and_nothing_else(self) -> None:
        kept = self.fill()
        self.assertGreater(len(kept), 20)
        self.assertEqual(dict(self.engine.items()), kept)
        self.engine.reopen()
        self.assertEqual(dict(self.engine.items()), kept)

    def test_a_start_without_room_is_good_for_reading_until_there_is_room(self) -> None:
        kept = self.fill()
        self.disk.capacity = self.disk.used()
        for sync in (True, False):
            self.engine.sync = sync
            self.engine.reopen()
            for key in (b"s", b"000"):
                refused = failure_of(self.engine.store.transact([], [put(key, b"")]))
                self.assertIsInstance(refused, NoRoom)
                self.assertNotIn(str(self.path), str(refused))
                self.assertFalse(self.engine.store.figures().read_only)
                self.assertEqual(dict(self.engine.items()), kept)
        self.disk.capacity += 1000
        self.engine.put(b"s", b"")
        kept[b"s"] = b""
        result_of(self.engine.close())
        self.engine.reopen()
        self.assertEqual(dict(self.engine.items()), kept)

    def test_a_new_store_on_a_full_disk_begins_when_there_is_room(self) -> None:
        self.disk.capacity = 0
        engine = Engine(self.path / "store" / "new", disk=self.disk)
        engine.open()
        self.addCleanup(engine.die)
        self.assertIsInstance(failure_of(engine.store.transact([], [put(b"k", b"1")])), NoRoom)
        self.assertEqual(engine.items(), [])
        self.disk.capacity = 10_000
        engine.put(b"k", b"1")
        engine.reopen()
        self.assertEqual(engine.items(), [(b"k", b"1")])

    def test_a_large_value_fails_alone(self) -> None:
        self.engine.die()
        self.engine.journal = journal = SteppedWorker()
        self.engine.open()
        store = self.engine.store
        self.disk.capacity = self.disk.used() + 2000
        for number in range(5):
            changes = [
                store.transact([], [put(b"%d-%d" % (number, at), bytes(5000 if at in (0, 3) else 10))])
                for at in range(7)
            ]
            journal.finish()
            for at, change in enumerate(changes):
                if at in (0, 3):
                    self.assertIsInstance(failure_of(change), NoRoom)
                else:
                    self.assertTrue(self.successResultOf(change).committed)
        expected = [b"%d-%d" % (number, at) for number in range(5) for at in (1, 2, 4, 5, 6)]
        self.assertEqual([key for key, _ in self.engine.items()], expected)
        self.engine.reopen()
        self.assertEqual([key for key, _ in self.engine.items()], expected)

    def test_small_writes_go_on_where_large_ones_do_not(self) -> None:
        kept = self.fill()
        self.disk.capacity += 90
        self.engine.put(b"s", b"")
        self.assertEqual(dict(self.engine.items()), {**kept, b"s": b""})

    def test_writing_goes_on_once_there_is_room(self) -> None:
        kept = self.fill()
        self.disk.capacity *= 3
        self.engine.put(b"more", bytes(100))
        self.engine.checkpoint()
        self.engine.reopen()
        self.assertEqual(dict(self.engine.items()), {**kept, b"more": bytes(100)})

    def test_a_checkpoint_without_room_leaves_as_much_room_as_there_was(self) -> None:
        # What it has written by then must go, or the journal would find no room either, until the next start.
        self.fill()
        self.disk.capacity += 2000
        before = self.disk.used()
        for _ in range(3):
            self.engine.checkpoint()
        self.assertEqual(self.engine.store.figures().failed_checkpoints, 3)
        self.assertLess(self.disk.used(), before + 100, self.engine.files())
        self.engine.put(b"more", bytes(100))

    def test_a_checkpoint_frees_the_room_of_the_journal(self) -> None:
        used = []
        for number in range(60):
            self.engine.put(b"k", bytes(100))
            if number % 10 == 9:
                self.engine.checkpoint()
                used.append(self.disk.used())
        # One segment is in use, and one is kept for the next.
        self.assertEqual(len(self.engine.files("journal")), 2)
        self.assertEqual(used[-1], used[1])

    def test_a_spare_segment_makes_way(self) -> None:
        for _ in range(10):
            self.engine.put(b"k", bytes(100))
        self.engine.checkpoint()
        self.assertEqual(len(self.engine.files("journal-spare")), 1)
        spare = (self.engine.path / "journal-spare").stat().st_size
        self.disk.capacity = self.disk.used() + 100
        value = bytes(spare - 500)
        self.engine.put(b"large", value)
        self.assertEqual(self.engine.files("journal-spare"), [])


class ClearedTests(FaultCase):
    """A `Clear` that is taken back brings everything back, whatever a checkpoint did meanwhile."""

    def make_engine(self) -> Engine:
        engine = super().make_engine()
        engine.journal = self.journal_jobs = SteppedWorker()
        engine.pages = self.page_jobs = SteppedWorker()
        return engine

    def setUp(self) -> None:
        super().setUp()
        self.patch(
            DiskSpace, "release_piece", lambda disk_space, leave=0: False
        )  # there is no spare segment that would make way
        self.expected = []
        for number in range(6):
            self.engine.store.transact([], [put(b"%d" % number, bytes(60))])
            self.expected.append((b"%d" % number, bytes(60)))
        self.journal_jobs.finish()
        self.run_checkpoint()
        self.engine.store.transact([], [put(b"late", b"1")])
        self.journal_jobs.finish()
        self.expected.append((b"late", b"1"))

    def run_checkpoint(self) -> None:
        done = self.engine.store.housekeeping.checkpoint()
        finish(self.journal_jobs, self.page_jobs)
        self.successResultOf(done)

    def items(self) -> list[tuple[bytes, bytes]]:
        scan = self.engine.store.scan(DATA)
        finish(self.journal_jobs, self.page_jobs)
        return [(key, record.value) for key, record in self.successResultOf(scan).items]

    def assert_all_there(self) -> None:
        self.assertEqual(self.items(), self.expected)
        self.engine.reopen()
        self.assertEqual(self.engine.items(), self.expected)

    def test_a_checkpoint_that_began_after_it(self) -> None:
        self.disk.fail("write", errno.ENOSPC, path="journal", times=2)  # the one, then the other, alone
        lost = self.engine.store.transact([], [Clear(DATA)])
        more = self.engine.store.transact([], [put(b"0", b"built on it")])
        self.run_checkpoint()
        for deferred in (lost, more):
            self.refused(deferred, NoRoom)
        self.assert_all_there()

    def test_a_checkpoint_that_began_before_it(self) -> None:
        for steps in range(12):
            done = self.engine.store.housekeeping.checkpoint()
            for _ in range(steps):
                worker = self.page_jobs or self.journal_jobs
                if worker:
                    worker.step()
            self.journal_jobs.finish()
            self.disk.fail("write", errno.ENOSPC, path="journal", times=2)
            lost = self.engine.store.transact([], [Clear(DATA)])
            more = self.engine.store.transact([], [put(b"0", b"built on it")])
            self.journal_jobs.finish()
            self.disk.heal()
            finish(self.journal_jobs, self.page_jobs)
            for deferred in (lost, more):
                self.refused(deferred, NoRoom)
            self.successResultOf(done)
            self.assertEqual(self.items(), self.expected)
        self.assert_all_there()

    def test_what_was_built_on_it_is_built_on_what_it_had_cleared(self) -> None:
        for steps in range(12):
            done = self.engine.store.housekeeping.checkpoint()
            for _ in range(steps):
                worker = self.page_jobs or self.journal_jobs
                if worker:
                    worker.step()
            self.journal_jobs.finish()
            self.disk.fail("write", errno.ENOSPC, path="journal")
            lost = self.engine.store.transact([], [Clear(DATA)])
            more = self.engine.store.transact([], [put(b"0", b"%d" % steps)])
            finish(self.journal_jobs, self.page_jobs)
            self.refused(lost, NoRoom)
            self.assertTrue(self.successResultOf(more).committed)
            self.successResultOf(done)
            self.expected[0] = (b"0", b"%d" % steps)
            self.assertEqual(self.items(), self.expected)
        self.assert_all_there()

    def test_a_clear_that_was_built_on_what_is_taken_back(self) -> None:
        self.disk.fail("write", errno.ENOSPC, path="journal")
        lost = self.engine.store.transact([], [put(b"0", b"lost")])
        cleared = self.engine.store.transact([], [Clear(DATA), put(b"x", b"1")])
        self.run_checkpoint()
        self.refused(lost, NoRoom)
        self.assertTrue(self.successResultOf(cleared).committed)
        self.expected = [(b"x", b"1")]
        self.assert_all_there()

    def test_a_write_after_it_that_succeeds(self) -> None:
        self.disk.fail("write", errno.ENOSPC, path="journal")
        lost = self.engine.store.transact([], [Clear(DATA)])
        lost.addErrback(lambda _: self.engine.store.transact([], [put(b"zz", b"new")]))
        self.run_checkpoint()
        self.expected.append((b"zz", b"new"))
        self.assert_all_there()
