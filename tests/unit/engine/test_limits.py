"""
The memory limit: writers wait in order before memory grows beyond it. Reads do not wait, and no writer waits for memory
that will not be freed.
"""

from __future__ import annotations

import errno

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from kvtwist.engine import Limits, Store
from kvtwist.engine.timeline import Timeline
from kvtwist.model import (
    DATA,
    STAGED,
    Clear,
    Delete,
    Get,
    NoRoom,
    Operation,
    Outcome,
    StoreUnavailable,
    Unchanged,
    Usage,
)
from tests.support.engine import Engine, EngineCase, FaultyDisk, SteppedWorker, TestCase, failure_of, put, result_of

MEMTABLES = 10_000


class LimitCase(EngineCase):
    """The test decides when the journal and pages are written."""

    disk: FaultyDisk

    def make_engine(self) -> Engine:
        self.disk = FaultyDisk()
        self.journal_jobs, self.page_jobs = SteppedWorker(), SteppedWorker()
        return Engine(
            self.path / "store",
            disk=self.disk,
            journal=self.journal_jobs,
            pages=self.page_jobs,
            limits=Limits(pages=1, memtables=MEMTABLES, unsynced=5000),
        )

    def setUp(self) -> None:
        super().setUp()
        self.store = self.engine.store
        self.answers: list[int] = []
        self.count = 0

    def put(self, size: int = 500) -> Deferred[Outcome]:
        """Put another record; its number is in `answers` once that is done."""
        number = self.count
        self.count += 1
        done = self.store.transact([], [put(b"%04d" % number, bytes(size))])
        return done.addCallback(self._answered, number)

    def _answered(self, outcome: Outcome, number: int) -> Outcome:
        self.answers.append(number)
        return outcome

    def fill(self, size: int = 500) -> Deferred[Outcome]:
        """Put records until one has to wait for a checkpoint, which waits itself; that one's Deferred."""
        for _ in range(1000):
            done = self.put(size)
            self.journal_jobs.finish()
            if not done.called:
                return done
        self.fail("nobody ever waits")

    def cost(self) -> int:
        tables = [keyspace.tables for keyspace in self.store._keyspaces.values()]
        return sum(t.active.cost + (t.frozen.cost if t.frozen else 0) for t in tables)

    def finish(self) -> None:
        while self.journal_jobs or self.page_jobs:
            for jobs in (self.journal_jobs, self.page_jobs):
                if jobs:
                    jobs.step()


class MemtableLimitTests(LimitCase):
    def test_writers_wait_for_a_checkpoint_and_go_on_in_their_order(self) -> None:
        self.fill()
        waiting = [self.put() for _ in range(100)]
        self.journal_jobs.finish()
        for deferred in waiting:
            self.assertNoResult(deferred)
        self.assertLess(self.cost(), 2.2 * MEMTABLES)
        self.finish()
        self.assertEqual(self.answers, list(range(self.count)))
        self.assertGreater(self.store.figures().checkpoints, 2)
        self.engine.reopen()
        self.assertEqual(len(self.engine.items()), self.count)

    def test_memory_stays_within_it_however_many_write(self) -> None:
        for _ in range(300):
            self.put()
            self.assertLess(self.cost(), 2.2 * MEMTABLES)
        while self.journal_jobs or self.page_jobs:
            for jobs in (self.journal_jobs, self.page_jobs):
                if jobs:
                    jobs.step()
                self.assertLess(self.cost(), 2.2 * MEMTABLES)
        self.assertEqual(len(self.answers), 300)

    def test_one_record_may_be_larger_than_all_of_it(self) -> None:
        for _ in range(5):
            self.put(5 * MEMTABLES)
        self.finish()
        self.assertEqual(self.answers, list(range(5)))

    def test_thousands_may_wait_and_go_on_at_once(self) -> None:
        self.engine.die()
        self.engine.limits = Limits(memtables=10 * 2**20, unsynced=100 * 2**20)
        self.engine.open()
        self.store = self.engine.store
        self.fill(2**20)
        waiting = [self.put(1) for _ in range(5000)]
        for deferred in waiting:
            self.assertNoResult(deferred)
        self.finish()
        for deferred in waiting:
            self.assertTrue(self.successResultOf(deferred).committed)

    def test_writers_that_wait_for_a_page_do_not_all_go_on_at_once(self) -> None:
        for _ in range(40):
            self.put()
        self.finish()
        waiting: list[Deferred[Outcome]] = []
        for number in range(300):
            key = b"%04d" % (number % 40)
            waiting.append(self.store.transact([], [Get(DATA, key), put(b"new%d" % number, bytes(500))]))
        while self.journal_jobs or self.page_jobs:
            for jobs in (self.journal_jobs, self.page_jobs):
                if jobs:
                    jobs.step()
                self.assertLess(self.cost(), 2.2 * MEMTABLES)
        for deferred in waiting:
            self.assertTrue(self.successResultOf(deferred).committed)

    def test_a_cancelled_writer_does_nothing_and_delays_no_other(self) -> None:
        first = self.fill()
        second, third = self.put(), self.put()
        for deferred in (first, second):
            deferred.cancel()
            self.failureResultOf(deferred, CancelledError)
        self.finish()
        self.successResultOf(third)
        self.engine.reopen()
        self.assertEqual(len(self.engine.items()), self.count - 2)

    def test_a_condition_is_checked_when_it_is_admitted(self) -> None:
        self.fill()
        one = self.store.transact([Unchanged(DATA, b"k", 0)], [put(b"k", b"1")])
        other = self.store.transact([Unchanged(DATA, b"k", 0)], [put(b"k", b"2")])
        self.finish()
        self.assertEqual([self.successResultOf(done).committed for done in (one, other)], [True, False])

    def test_writers_do_not_wait_for_checkpoints_that_fail(self) -> None:
        self.disk.fail("write", errno.ENOSPC, path="pages", times=99)
        waiting = self.fill()
        self.finish()
        self.failureResultOf(waiting, StoreUnavailable)
        self.failureResultOf(self.put(), StoreUnavailable)
        got = self.store.get(DATA, b"0000")
        self.finish()
        self.assertIsNotNone(self.successResultOf(got))
        self.disk.heal()
        for _ in range(70):
            self.engine.clock.advance(1)
            self.finish()
        done = self.put()
        self.finish()
        self.assertTrue(self.successResultOf(done).committed)

    def test_a_clear_makes_room_even_if_checkpoints_fail(self) -> None:
        self.disk.fail("write", errno.ENOSPC, path="pages", times=99)
        refused = self.fill()
        self.finish()
        self.assertIsInstance(failure_of(refused), StoreUnavailable)
        cleared = self.store.transact([], [Clear(DATA)])
        self.finish()
        self.assertTrue(self.successResultOf(cleared).committed)
        done = self.put()
        self.finish()
        self.assertTrue(self.successResultOf(done).committed)

    def test_a_checkpoint_begins_while_others_clear_all_the_time(self) -> None:
        # There is always a Clear on its way, which could still be taken back.
        self.store.transact([], [Clear(STAGED)])
        checkpoint = self.store.housekeeping.checkpoint()
        for _ in range(200):
            self.store.transact([], [Clear(STAGED)])
            self.journal_jobs.step()
            if self.page_jobs:
                self.page_jobs.step()
        self.assertTrue(checkpoint.called, "the journal grows for ever")
        self.finish()

    def test_writers_do_not_wait_in_a_store_that_is_read_only(self) -> None:
        self.disk.fail("sync", errno.EIO, path="journal")
        waiting = [self.put() for _ in range(100)]
        self.finish()
        waiting.append(self.put())
        for deferred in waiting:
            self.failureResultOf(deferred, StoreUnavailable)


class UnsyncedLimitTests(LimitCase):
    def test_writers_wait_for_the_journal_and_go_on_in_their_order(self) -> None:
        for _ in range(60):
            self.put()
        self.assertLess(self.engine.storage.commit.unsynced, 6000)
        self.journal_jobs.step()
        self.assertEqual(len(self.answers), 1)
        self.assertLess(self.engine.storage.commit.unsynced, 6000)
        self.finish()
        self.assertEqual(self.answers, list(range(60)))
        self.assertEqual(self.engine.storage.commit.unsynced, 0)

    def test_writers_that_wait_for_a_batch_that_fails_go_on_after_it(self) -> None:
        done = [self.put() for _ in range(20)]
        self.disk.fail("write", errno.ENOSPC, path="journal")
        self.finish()
        lost = [deferred for deferred in done if isinstance(failure_of(deferred), NoRoom)]
        self.assertGreater(len(lost), 0)
        self.assertEqual(len(lost) + len(self.answers), 20)
        self.assertEqual(self.engine.storage.commit.unsynced, 0)
        self.assertEqual(self.answers, sorted(self.answers))


class CountTests(EngineCase):
    """`Usage` decides over `--max-staged`: it must be exact for what a condition has read, not only for what a `Get` has."""

    def test_a_condition_is_a_read(self) -> None:
        for revision in (1, 2):
            self.engine.do(put(b"k", bytes(100), keyspace=STAGED))
            self.engine.checkpoint()
            record = result_of(self.engine.store.get(STAGED, b"k"))
            assert record is not None
            self.assertEqual(record.revision, 2 * revision - 1)
            changes: list[Operation] = [Delete(STAGED, b"k")]
            self.engine.do(*changes, conditions=[Unchanged(STAGED, b"k", record.revision)])
            self.assertEqual(self.engine.store.usage(STAGED), Usage(0, 0))


class MemoryStoreLimitTests(TestCase):
    """A store without a disk has nowhere to put what does not fit: it refuses."""

    def setUp(self) -> None:
        super().setUp()
        clock = Clock()
        limits = Limits(pages=1000, memtables=4000, unsynced=1000, changes=0)
        self.store = Store(clock, Timeline(clock.seconds, clock.seconds), limits=limits)
        self.store.open()
        self.store.start()
        self.keys = 0
        while True:
            done = self.store.transact([], [put(b"%04d" % self.keys, bytes(500))])
            if isinstance(failure_of(done), NoRoom):
                break
            self.keys += 1

    def test_what_does_not_fit_is_refused_and_reads_go_on(self) -> None:
        self.assertGreater(self.keys, 5)
        self.failureResultOf(self.store.transact([], [put(b"more", b"1")]), NoRoom)
        self.assertIsNotNone(self.successResultOf(self.store.get(DATA, b"0000")))
        self.assertEqual(self.store.usage(DATA).records, self.keys)

    def test_deleting_makes_room(self) -> None:
        for key in (b"0000", b"0001"):
            result_of(self.store.transact([], [Delete(DATA, key)]))
        self.assertTrue(result_of(self.store.transact([], [put(b"more", b"1")])).committed)
        result_of(self.store.transact([], [Clear(DATA)]))
        self.assertTrue(result_of(self.store.transact([], [put(b"more", bytes(500))])).committed)

    def test_what_makes_it_smaller_or_moves_it_is_not_refused(self) -> None:
        # As a commit does: or else what is staged could never become anything, nor go.
        moved = self.store.transact([], [Delete(DATA, b"0000"), put(b"0000", bytes(500), keyspace=STAGED)])
        self.assertTrue(self.successResultOf(moved).committed)
        smaller = self.store.transact([], [put(b"0001", b"")])
        self.assertTrue(self.successResultOf(smaller).committed)
