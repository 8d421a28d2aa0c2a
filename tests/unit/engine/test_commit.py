"""
Group commit: what arrives while a batch is on its way is the next batch, all who wait for one hear of it together, and
of a batch that fails nothing remains, nor of what was built on it.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from functools import partial

from twisted.internet.defer import Deferred

from kvtwist.engine.commit import CHANGE_COST, GroupCommit, MemoryCommit, Undo
from kvtwist.engine.frame import Change, Transaction
from kvtwist.engine.journal import JournalWriter
from kvtwist.engine.recovery import Recovery, replay
from kvtwist.model import NoRoom, StoreUnavailable
from tests.support.engine import FaultyDisk, InlineWorker, SteppedWorker, TestCase, result_of


class CommitCase(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.disk = FaultyDisk()
        self.addCleanup(self.disk.abandon)
        self.worker = SteppedWorker()
        self.writer = JournalWriter(self.disk, str(self.path), 1, durable=True)
        self.writer.rotate()
        self.seconds = 0.0
        self.commit = GroupCommit(self.writer, self.worker, 0, lambda: self.seconds)
        self.undone: list[int] = []
        self.heard: list[object] = []

    def submit(self) -> Deferred[None]:
        """Submit the next transaction, with two changes to undo; its result is added to `heard`."""
        revision = self.commit.assigned + 1
        transaction = Transaction(revision, 0, [Change("data", b"%d" % revision, b"v")])
        undo: list[Undo] = [partial(self.undone.append, 10 * revision + number) for number in (0, 1)]
        done = self.commit.submit(transaction, undo, None)
        done.addCallbacks(
            lambda _: self.heard.append(("written", revision)),
            lambda failure: self.heard.append((failure.type.__name__, revision)),
        )
        return done

    def settled(self, revision: int) -> None:
        self.commit.settled(revision).addCallback(lambda durable: self.heard.append(("read", revision, durable)))

    def on_disk(self) -> list[int]:
        return [t.revision for t in replay(self.disk, str(self.path), 0, Recovery())]


class BatchTests(CommitCase):
    def test_a_transaction_is_answered_once_it_is_on_disk(self) -> None:
        done = self.submit()
        self.assertEqual((self.commit.assigned, self.commit.durable), (1, 0))
        self.assertNoResult(done)
        self.worker.step()
        self.assertEqual((self.commit.assigned, self.commit.durable), (1, 1))
        self.successResultOf(done)
        self.assertEqual(self.on_disk(), [1])

    def test_what_arrives_while_a_batch_flies_is_the_next_one(self) -> None:
        self.submit()
        for _ in range(3):
            self.submit()
        self.assertEqual(len(self.worker), 1, "one at a time is on its way")
        self.worker.step()
        self.assertEqual(self.heard, [("written", 1)])
        self.assertEqual(len(self.worker), 1)
        self.submit()
        self.worker.step()
        self.assertEqual(self.heard, [("written", revision) for revision in (1, 2, 3, 4)])
        self.worker.finish()
        self.assertEqual(self.on_disk(), [1, 2, 3, 4, 5])
        self.assertEqual(self.commit.counters.batches, 3)
        self.assertEqual(self.commit.counters.transactions, 5)

    def test_the_next_batch_leaves_before_anybody_hears_of_this_one(self) -> None:
        jobs: list[int] = []
        self.submit().addCallback(lambda _: jobs.append(len(self.worker)))
        self.submit()
        self.worker.step()
        self.assertEqual(jobs, [1])

    def test_an_answered_writer_may_write_at_once(self) -> None:
        self.submit().addCallback(lambda _: self.submit())
        self.submit().addCallback(lambda _: self.submit())
        self.worker.finish()
        self.assertEqual(self.heard, [("written", revision) for revision in (1, 2, 3, 4)])
        self.assertEqual(self.on_disk(), [1, 2, 3, 4])

    def test_it_counts_what_it_wrote_and_how_long_that_took(self) -> None:
        sizes: list[int] = []
        append = self.writer.append

        def measured(transactions: Sequence[Transaction]) -> int:
            sizes.append(append(transactions))
            return sizes[-1]

        self.patch(self.writer, "append", measured)
        for seconds in (2.5, 1.5):
            self.submit()
            self.seconds += seconds
            self.worker.step()
        self.assertEqual(self.commit.counters.write_seconds, 4.0)
        self.assertEqual(len(sizes), 2)
        self.assertEqual(self.commit.journal_bytes, sum(sizes))

    def test_it_counts_the_memory_of_changes_until_they_are_durable(self) -> None:
        changes = [Change("data", b"123", b"4567"), Change("data", b"12"), Change("data", None)]
        sizes = [CHANGE_COST + 7, CHANGE_COST + 2, CHANGE_COST]
        self.assertEqual(self.commit.unsynced, 0)
        for count in (1, 2, 3):
            self.commit.submit(Transaction(count, 0, changes[:count]), [], None)
        self.assertEqual(self.commit.unsynced, sum(sum(sizes[:count]) for count in (1, 2, 3)))
        self.worker.step()
        self.assertEqual(self.commit.unsynced, sum(sum(sizes[:count]) for count in (2, 3)))
        self.worker.step()
        self.assertEqual(self.commit.unsynced, 0)

    def test_a_rotation_waits_for_the_batch_on_its_way_and_counts_anew(self) -> None:
        self.submit()
        rotated = self.commit.rotate()
        self.worker.step()
        self.assertNoResult(rotated)
        self.worker.step()
        self.successResultOf(rotated)
        self.assertEqual(self.commit.journal_bytes, 0)
        self.submit()
        self.worker.finish()
        self.assertEqual(len(list(self.path.iterdir())), 2)
        self.assertEqual(self.on_disk(), [1, 2])

    def test_it_ends_once_all_is_settled(self) -> None:
        self.submit()
        self.submit()
        closed = self.commit.close()
        self.worker.step()
        self.assertNoResult(closed)
        self.worker.finish()
        self.successResultOf(closed)
        self.assertEqual(self.heard, [("written", 1), ("written", 2)])
        self.assertEqual(self.disk.paths, {})

    def test_a_cancelled_transaction_is_written_all_the_same(self) -> None:
        done = self.submit()
        done.addErrback(lambda _: None)
        done.cancel()
        self.assertEqual(self.heard, [("CancelledError", 1)])
        self.worker.finish()
        self.assertEqual(self.on_disk(), [1])
        self.assertEqual(self.undone, [])


class SettledTests(CommitCase):
    def test_what_is_durable_is_settled(self) -> None:
        self.submit()
        self.worker.finish()
        for revision in (0, 1):
            self.assertEqual(self.successResultOf(self.commit.settled(revision)), 1)

    def test_a_reader_waits_for_the_batch_of_what_it_read(self) -> None:
        for _ in range(3):
            self.submit()
        for revision in (3, 1, 2):
            self.settled(revision)
        self.assertEqual(self.heard, [])
        self.worker.step()
        self.assertEqual(self.heard, [("written", 1), ("read", 1, 1)])
        self.worker.step()
        self.assertEqual(self.heard[2:], [("written", 2), ("written", 3), ("read", 3, 3), ("read", 2, 3)])

    def test_what_was_taken_back_is_told_by_a_smaller_revision(self) -> None:
        self.submit()
        self.worker.finish()
        self.heard.clear()
        self.disk.fail("write", errno.ENOSPC)
        self.submit()
        self.settled(2)
        self.submit()
        self.settled(3)
        self.worker.step()
        self.assertEqual(self.heard, [("NoRoom", 2), ("Crowded", 3), ("read", 2, 1), ("read", 3, 1)])

    def test_a_reader_that_gave_up_is_not_told(self) -> None:
        self.submit()
        waiting = self.commit.settled(1)
        waiting.addErrback(lambda _: self.heard.append("gave up"))
        waiting.cancel()
        self.worker.finish()
        self.assertEqual(self.heard, ["gave up", ("written", 1)])


class FailureTests(CommitCase):
    def assert_all_taken_back(self, *heard: str) -> None:
        self.assertEqual(self.undone, [41, 40, 31, 30, 21, 20])
        self.assertEqual(self.heard, [(kind, revision) for revision, kind in enumerate(heard, start=2)])
        self.assertEqual((self.commit.assigned, self.commit.durable, self.commit.unsynced), (1, 1, 0))
        self.assertEqual(len(self.worker), 0)
        self.assertEqual(self.commit.counters.failures, 1)

    def submit_one(self) -> None:
        """One that is written."""
        self.submit()
        self.worker.finish()
        self.heard.clear()

    def test_everything_that_is_not_on_disk_is_taken_back_newest_first(self) -> None:
        self.submit_one()
        self.disk.fail("write", errno.EIO)
        for _ in range(3):
            self.submit()
        self.worker.step()
        self.assert_all_taken_back(*["StoreUnavailable"] * 3)

    def test_for_one_that_was_alone_there_is_no_room_and_those_after_it_may_try_again(self) -> None:
        self.submit_one()
        self.disk.fail("write", errno.ENOSPC)
        for _ in range(3):
            self.submit()
        self.worker.step()
        self.assert_all_taken_back("NoRoom", "Crowded", "Crowded")

    def test_transactions_of_one_batch_may_all_try_again(self) -> None:
        self.submit()
        for _ in range(2):
            self.submit()
        self.worker.step()
        self.disk.fail("write", errno.ENOSPC)
        self.submit()
        self.heard.clear()
        self.worker.step()
        self.assert_all_taken_back("Crowded", "Crowded", "Crowded")

    def test_retries_go_before_writers_that_have_waited(self) -> None:
        for _ in range(2):
            self.submit().addErrback(lambda _: None).addCallback(lambda _: self.submit())
        self.settled(2)
        self.disk.fail("write", errno.ENOSPC)
        self.worker.step()
        self.assertEqual(self.heard, [("NoRoom", 1), ("Crowded", 2), ("read", 2, 0)])
        self.assertEqual(self.commit.assigned, 2)
        self.worker.finish()
        self.assertEqual(self.on_disk(), [1, 2])

    def test_all_is_taken_back_before_anybody_hears_of_it(self) -> None:
        self.disk.fail("write", errno.ENOSPC)
        undone: list[list[int]] = []
        for _ in range(2):
            self.submit().addCallback(lambda _: undone.append(list(self.undone)))
        self.worker.step()
        self.assertEqual(undone, [[21, 20, 11, 10]] * 2)

    def test_revisions_are_given_out_again(self) -> None:
        self.disk.fail("write", errno.ENOSPC)
        self.submit()
        self.submit()
        self.worker.step()
        self.heard.clear()
        self.submit()
        self.submit()
        self.worker.finish()
        self.assertEqual(self.heard, [("written", 1), ("written", 2)])
        self.assertEqual(self.on_disk(), [1, 2])

    def test_a_failed_writer_may_write_at_once(self) -> None:
        self.disk.fail("write", errno.ENOSPC)
        for _ in range(2):
            self.submit().addCallback(lambda _: self.submit())
        self.worker.finish()
        self.assertEqual(self.heard, [("NoRoom", 1), ("Crowded", 2), ("written", 1), ("written", 2)])
        self.assertEqual(self.on_disk(), [1, 2])

    def test_lack_of_room_breaks_nothing(self) -> None:
        self.disk.fail("write", errno.ENOSPC)
        done = self.commit.submit(Transaction(1, 0, []), [], None)
        self.worker.step()
        self.failureResultOf(done, NoRoom)
        self.assertIsNone(self.commit.broken)

    def test_everything_else_breaks_it_for_good(self) -> None:
        for call, number in (("write", errno.EIO), ("sync", errno.EIO), ("sync", errno.ENOSPC)):
            writer = JournalWriter(self.disk, str(self.path), 1, durable=True)
            writer.rotate()
            self.disk.fail(call, number)
            commit = GroupCommit(writer, InlineWorker(), 0, lambda: 0.0)
            self.failureResultOf(commit.submit(Transaction(1, 0, []), [], None), StoreUnavailable)
            self.assertIn("Input/output error" if number == errno.EIO else "No space left", str(commit.broken))
            self.assertEqual(result_of(commit.settled(0)), 0)
            self.failureResultOf(commit.submit(Transaction(1, 0, []), [], None), StoreUnavailable)
            result_of(commit.close())

    def test_it_knows_of_what_broke_the_journal_before_anybody_writes_again(self) -> None:
        self.submit_one()
        self.worker.finish()
        self.disk.fail("sync_directory", errno.EIO, times=2)  # nor is it known whether the new segment's name is gone
        rotated = self.commit.rotate()
        self.worker.finish()
        self.failureResultOf(rotated)
        self.assertIn("read-only until restart", str(self.commit.broken))
        self.assertEqual(self.commit.broken, self.writer.broken)

    def test_where_no_file_can_be_opened_what_was_to_be_written_fails_alone(self) -> None:
        writer = JournalWriter(self.disk, str(self.path), 1, durable=True)
        commit = GroupCommit(writer, InlineWorker(), 0, lambda: 0.0)
        self.disk.fail("names", errno.EMFILE)
        self.failureResultOf(commit.submit(Transaction(1, 0, []), [], None), StoreUnavailable)
        self.assertIsNone(commit.broken)
        self.successResultOf(commit.submit(Transaction(1, 0, []), [], None))
        result_of(commit.close())

    def test_an_error_that_is_unexpected_breaks_it_too(self) -> None:
        self.patch(self.writer, "append", lambda transactions: 1 // 0)
        done = self.commit.submit(Transaction(1, 0, []), [lambda: self.undone.append(1)], None)
        self.worker.step()
        self.failureResultOf(done, StoreUnavailable)
        self.assertIsNotNone(self.commit.broken)
        self.assertEqual(self.undone, [1])


class MemoryCommitTests(TestCase):
    def test_everything_is_settled_at_once(self) -> None:
        commit = MemoryCommit()
        self.successResultOf(commit.submit(Transaction(1, 0, []), [], None))
        self.assertEqual((commit.assigned, commit.durable), (1, 1))
        self.assertEqual(self.successResultOf(commit.settled(1)), 1)
        self.assertEqual(commit.counters.transactions, 1)
