"""
Checkpoints change nothing of what a store holds, wherever they fail and at whatever moment the process or the machine
dies; and they leave no file that is of no use.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred

from kvtwist.engine import Limits, compaction, journal, run_writer
from kvtwist.engine.checkpoint import Checkpoint
from kvtwist.engine.checkpointer import RETRY_SECONDS
from kvtwist.engine.disk_space import DiskSpace
from kvtwist.model import DATA, HISTORY, STAGED, Append, Clear, Delete, NoRoom, Operation, Record
from tests.support.engine import (
    Engine,
    EngineCase,
    FaultyDisk,
    ForgetfulDisk,
    Model,
    SteppedWorker,
    TestCase,
    WatchedDisk,
    WitnessDisk,
    finish,
    put,
    result_of,
)


class CheckpointTests(EngineCase):
    def fill(self, count: int = 30) -> None:
        for number in range(count):
            self.engine.put(b"%02d" % number, b"old %d" % number * 3)

    def refs(self, keyspace: str = DATA) -> list[int]:
        return [ref.number for run in self.engine.store._keyspaces[keyspace].tables.runs for ref in run.pages]

    def test_it_moves_everything_into_pages_and_changes_nothing(self) -> None:
        self.fill()
        self.engine.do(Append(HISTORY, b"k", b"v", "text/plain"))
        before = self.engine.contents()
        self.engine.checkpoint()
        self.assertEqual(len(self.engine.store._keyspaces[DATA].tables.active), 0)
        self.assertGreater(len(self.refs()), 3)
        self.assertEqual(self.engine.contents(), before)
        self.engine.reopen()
        self.assertEqual(self.engine.recovery.transactions, 0)
        self.assertEqual(self.engine.contents(), before)

    def test_it_leaves_no_file_that_is_of_no_use(self) -> None:
        for round_ in range(4):
            self.fill(10 * (4 - round_))
            self.engine.do(Clear(DATA), put(b"%d" % round_, b"v"))
            self.engine.checkpoint()
            self.assertEqual(len(self.engine.files("pages/")), len(self.refs()))
            self.assertEqual(len(self.engine.files("manifest")), 1)
            self.assertEqual(len(self.engine.files("journal-0")), 1)
            self.assertEqual(len(self.engine.files("journal")), 2, "one may be kept as a spare")

    def test_what_changed_is_written_as_a_run_of_its_own_until_compaction_is_worth_it(self) -> None:
        self.patch(compaction, "SMALL", 0)
        self.fill()
        self.engine.checkpoint()
        before = self.refs()
        self.engine.put(b"15", b"new")
        self.engine.delete(b"16")
        self.engine.checkpoint()
        self.assertEqual(self.refs()[-len(before) :], before)
        self.assertEqual(len(self.refs()), len(before) + 1)
        self.fill()
        self.engine.checkpoint()
        self.assertEqual(set(self.refs()) & set(before), set())
        self.assertEqual(len(self.engine.store._keyspaces[DATA].tables.runs), 1)

    def test_it_takes_what_comes_before_between_and_after_its_pages(self) -> None:
        keys = [b"%03d" % number for number in range(0, 400, 7)]
        rest = [b"%03d" % number for number in range(400)]
        random.Random(1).shuffle(rest)
        for key in keys:
            self.engine.put(key, key)
        self.engine.checkpoint()
        for at in range(0, 400, 25):
            for key in rest[at : at + 25]:
                self.engine.put(key, key)
            self.engine.checkpoint()
        self.assertEqual(self.engine.items(), [(key, key) for key in sorted(rest)])
        for run in self.engine.store._keyspaces[DATA].tables.runs:
            firsts = [ref.first for ref in run.pages]
            self.assertEqual(firsts, sorted(set(firsts)))

    def test_pages_of_which_nothing_is_left_are_gone(self) -> None:
        self.fill()
        self.engine.checkpoint()
        for number in range(29):
            self.engine.delete(b"%02d" % number)
        self.engine.checkpoint()
        self.assertEqual(len(self.refs()), 1)
        self.assertEqual(self.engine.items(), [(b"29", b"old 29" * 3)])
        self.engine.delete(b"29")
        self.engine.checkpoint()
        self.assertEqual(self.refs(), [])
        self.engine.put(b"00", b"again")
        self.engine.checkpoint()
        self.engine.reopen()
        self.assertEqual(self.engine.items(), [(b"00", b"again")])

    def test_a_store_without_changes_can_be_checkpointed_over_and_over(self) -> None:
        for _ in range(3):
            self.engine.checkpoint()
        self.fill(5)
        for _ in range(3):
            self.engine.checkpoint()
            before = self.engine.contents()
            self.engine.reopen()
            self.assertEqual(self.engine.contents(), before)
        self.assertEqual(len(self.engine.files("journal")), 1)

    def test_it_takes_values_of_any_size(self) -> None:
        sizes = [0, 1, 99, 100, 101, 5000, 70_000]
        for size in sizes:
            self.engine.put(b"%05d" % size, b"v" * size)
        self.engine.checkpoint()
        self.engine.reopen()
        self.assertEqual([len(value) for _, value in self.engine.items()], sizes)

    def test_it_begins_when_the_journal_has_grown(self) -> None:
        self.engine.die()
        self.engine.limits = Limits(journal=2000)
        self.engine.open()
        for number in range(100):
            self.engine.put(b"k", b"%d" % number * 50)
        figures = self.engine.store.figures()
        self.assertGreater(figures.checkpoints, 2)
        self.assertLess(figures.journal_bytes, 2500)

    def test_it_begins_when_the_disk_is_nearly_full(self) -> None:
        """When the journal has a third of what is free, and a quarter of the reserve."""
        commit, disk_space = self.engine.storage.commit, self.engine.storage.disk_space
        begun: list[None] = []
        self.patch(self.engine.store.housekeeping._checkpointer, "run", lambda: begun.append(None))
        for written, free, reserve, begins in (
            (30, 90, 100, True),
            (30, 91, 100, False),
            (24, 0, 100, False),
            (25, 0, 100, True),
            (25, 0, 103, True),
        ):
            self.patch(commit, "journal_bytes", written)
            self.patch(disk_space, "free", free)
            self.patch(disk_space, "size", reserve)
            commit.on_batch()
            self.assertEqual(len(begun), begins, (written, free, reserve))
            begun.clear()

    def test_it_begins_after_a_start_that_had_to_replay(self) -> None:
        self.fill(3)
        self.engine.reopen()
        self.assertEqual(self.engine.store.figures().checkpoints, 0)
        self.engine.clock.advance(1)
        self.assertEqual(self.engine.store.figures().checkpoints, 1)
        self.engine.reopen()
        self.engine.clock.pump([1.0] * 200)
        self.assertEqual(self.engine.store.figures().checkpoints, 0)

    def test_a_clean_stop_leaves_nothing_to_replay(self) -> None:
        self.fill(5)
        self.successResultOf(self.engine.close())
        self.engine.reopen()
        self.assertEqual(self.engine.recovery.transactions, 0)
        self.assertEqual(len(self.engine.items()), 5)


class ConcurrentTests(EngineCase):
    """Somebody writes while a checkpoint runs; the test decides when each of its parts is done."""

    def make_engine(self) -> Engine:
        self.page_jobs = SteppedWorker()
        return Engine(self.path / "store", pages=self.page_jobs, limits=Limits(pages=1))

    def setUp(self) -> None:
        super().setUp()
        self.model = Model()
        self.engine.put(b"first", b"0")
        self.model.transact([], [put(b"first", b"0")], self.engine.now_ms())

    def do(self, *operations: Operation) -> None:
        done = self.engine.store.transact([], operations)
        result_of(done)
        self.model.transact([], operations, self.engine.now_ms())

    def begin(self) -> Deferred[None]:
        return self.engine.store.housekeeping.checkpoint()

    def assert_right(self) -> None:
        """What the store tells is what it should."""
        expected = self.model.records(DATA, self.engine.now_ms())
        scan = self.engine.store.scan(DATA)
        self.page_jobs.finish()
        self.assertEqual(dict(self.successResultOf(scan).items), expected)

    def changes(self, number: int) -> list[list[Operation]]:
        keys = [b"%02d" % n for n in range(number % 3, 30, 3)]
        return [
            [put(key, b"%d" % number * 10) for key in keys],
            [Delete(DATA, key) for key in keys[::2]],
            [Clear(DATA), *(put(key, b"%d cleared" % number) for key in keys[::4])],
        ]

    def test_writes_and_clears_at_any_moment_are_kept(self) -> None:
        for steps in range(15):
            for change in self.changes(steps):
                self.do(*change)
                done = self.begin()
                self.do(put(b"%02d" % steps, b"at the beginning"))
                for _ in range(steps):
                    if self.page_jobs:
                        self.page_jobs.step()
                for other in self.changes(steps + 1)[: 1 + steps % 3]:
                    self.do(*other)
                self.page_jobs.finish()
                self.successResultOf(done)
                self.assert_right()
            self.engine.reopen()
            self.assertEqual(dict(self.engine.records()), self.model.records(DATA, self.engine.now_ms()))
            self.engine.die()
            self.engine.pages = self.page_jobs
            self.engine.open()

    def test_a_crash_at_any_moment_loses_nothing(self) -> None:
        for steps in range(12):
            self.do(*self.changes(steps)[0])
            self.begin()
            self.do(*self.changes(steps)[2])
            for _ in range(steps):
                if self.page_jobs:
                    self.page_jobs.step()
            self.do(*self.changes(steps + 1)[1])
            self.engine.reopen()
            self.assertEqual(dict(self.engine.records()), self.model.records(DATA, self.engine.now_ms()))
            self.engine.die()
            self.engine.pages = self.page_jobs = SteppedWorker()
            self.engine.open()

    def test_requests_for_one_share_the_one_that_runs(self) -> None:
        checkpointer = self.engine.store.housekeeping._checkpointer
        first, second = self.begin(), self.begin()
        self.assertTrue(checkpointer.running)
        self.page_jobs.finish()
        self.assertFalse(checkpointer.running)
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual(self.engine.store.figures().checkpoints, 1)

    def test_a_clean_stop_during_one_leaves_nothing_to_replay(self) -> None:
        self.begin()
        self.do(put(b"late", b"1"))
        closed = self.engine.close()
        self.page_jobs.finish()
        self.successResultOf(closed)
        self.engine.reopen()
        self.assertEqual(self.engine.recovery.transactions, 0)

    def test_usage_stays_right_all_along(self) -> None:
        for number in range(20):
            self.do(put(b"%02d" % number, bytes(40)))
        done = self.begin()
        while self.page_jobs:
            self.page_jobs.step()
            self.assertEqual(self.engine.store.usage(DATA).records, 21)
        self.successResultOf(done)


class FailureTests(EngineCase):
    """Every call of the disk fails once."""

    disk: FaultyDisk

    def make_engine(self) -> Engine:
        self.disk = FaultyDisk()
        return Engine(self.path / "store", disk=self.disk, limits=Limits(pages=1))

    def setUp(self) -> None:
        super().setUp()
        for number in range(12):
            self.engine.put(b"%02d" % number, bytes(30))
        self.engine.checkpoint()

    def test_one_that_fails_changes_nothing_and_the_next_one_succeeds(self) -> None:
        calls = {"create": 8, "write": 8, "sync": 8, "close": 8, "rename": 1, "remove": 3, "sync_directory": 3}
        for call, times in calls.items():
            for skip in range(times):
                for number in (errno.ENOSPC, errno.EIO):
                    self.engine.put(b"%02d" % skip, b"%d" % number * 9)
                    self.engine.do(put(b"new", call.encode()), Delete(DATA, b"%02d" % (skip + 1)))
                    before = self.engine.contents()
                    self.disk.fail(call, number, skip=skip)
                    self.engine.checkpoint()
                    self.disk.heal()
                    self.assertEqual(self.engine.contents(), before, (call, skip))
                    self.engine.put(b"later", b"%d" % skip)
                    before = self.engine.contents()
                    self.engine.checkpoint()
                    self.assertEqual(self.engine.contents(), before, (call, skip))
                    self.engine.reopen()
                    self.assertEqual(self.engine.contents(), before, (call, skip))
        self.flushLoggedErrors()

    def test_one_that_fails_and_a_crash_after_it_lose_nothing(self) -> None:
        for call in ("create", "write", "sync", "rename", "sync_directory"):
            for skip in range(6):
                self.engine.put(b"%02d" % skip, call.encode() * skip)
                self.disk.fail(call, errno.EIO, skip=skip)
                self.engine.checkpoint()
                self.disk.heal()
                self.engine.put(b"later", b"%d" % skip)
                before = self.engine.contents()
                self.engine.reopen()
                self.assertEqual(self.engine.contents(), before, (call, skip))

    def test_a_clear_between_one_that_failed_and_the_next_is_kept(self) -> None:
        self.engine.put(b"00", b"1")
        self.disk.fail("write", errno.ENOSPC, path="pages")
        self.engine.checkpoint()
        self.engine.do(Clear(DATA), put(b"new", b"1"))
        self.engine.checkpoint()
        self.assertEqual(self.engine.items(), [(b"new", b"1")])
        self.engine.reopen()
        self.assertEqual(self.engine.items(), [(b"new", b"1")])
        self.engine.checkpoint()
        self.engine.reopen()
        self.assertEqual(self.engine.items(), [(b"new", b"1")])

    def test_failures_are_counted_and_leave_no_descriptor_open(self) -> None:
        opened = len(self.disk.paths)
        for number, call in enumerate(("create", "write", "sync")):
            self.engine.put(b"%02d" % number, b"1")
            self.disk.fail(call, errno.ENOSPC, path="pages")
            self.engine.checkpoint()
            self.assertEqual(self.engine.store.figures().failed_checkpoints, number + 1)
        self.assertEqual(len(self.disk.paths), opened)

    def test_one_that_is_tried_again_begins_no_second_segment(self) -> None:
        rotations: list[None] = []
        rotate = self.engine.storage.commit.rotate

        def counted() -> Deferred[int]:
            rotations.append(None)
            return rotate()

        self.patch(self.engine.storage.commit, "rotate", counted)
        self.engine.put(b"00", b"1")
        self.disk.fail("write", errno.ENOSPC, path="pages", times=2)
        for count, failed in ((1, 1), (1, 2), (1, 2), (2, 2)):
            self.engine.checkpoint()
            self.assertEqual((len(rotations), self.engine.store.figures().failed_checkpoints), (count, failed))

    def test_one_that_is_tried_again_writes_nothing_of_a_keyspace_that_was_cleared(self) -> None:
        written: list[str] = []
        create = self.disk.create

        def noted(path: str) -> int:
            written.append(path)
            return create(path)

        self.engine.put(b"00", b"1")
        self.disk.fail("write", errno.ENOSPC, path="pages")
        self.engine.checkpoint()
        self.engine.do(Clear(DATA))
        self.patch(self.disk, "create", noted)
        self.engine.checkpoint()
        self.assertEqual([path for path in written if "pages" in path], [])
        self.assertEqual(self.engine.items(), [])

    def test_a_pause_follows_one_that_failed(self) -> None:
        checkpointer = self.engine.store.housekeeping._checkpointer
        disk_space = self.engine.storage.disk_space
        passing = [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
        for reserve, number, pauses in (
            (1000, errno.EMFILE, passing),
            (1000, errno.ENOSPC, passing),
            (1000, errno.EIO, [10.0, 10.0]),
            (0, errno.EMFILE, [10.0, 10.0]),
        ):
            self.patch(disk_space, "size", reserve)
            self.engine.put(b"00", b"1")
            for pause in pauses:
                self.disk.fail("create", number, path="pages")
                self.engine.checkpoint()
                self.assertEqual(checkpointer._not_before - self.engine.clock.seconds(), pause)
                before = self.engine.store.figures().checkpoints
                checkpointer.begin()
                self.assertEqual(self.engine.store.figures().checkpoints, before, "it is too early")
            self.engine.clock.advance(pauses[-1])
            self.assertEqual(self.engine.store.figures().checkpoints, before + 1)
        self.flushLoggedErrors()

    def test_a_bug_is_a_failure_too(self) -> None:
        self.engine.put(b"00", b"1")
        self.patch(Checkpoint, "run", lambda checkpoint, now_ms, droppable_ms: 1 // 0)
        self.engine.checkpoint()
        checkpointer = self.engine.store.housekeeping._checkpointer
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual((self.engine.store.figures().failed_checkpoints, checkpointer.failing), (1, True))
        self.assertEqual(checkpointer._not_before, self.engine.clock.seconds() + RETRY_SECONDS)

    def test_one_that_is_cancelled_once_it_is_written_has_succeeded(self) -> None:
        self.engine.put(b"00", b"1")
        self.patch(Checkpoint, "clean", lambda checkpoint: Deferred())
        done = self.engine.store.housekeeping.checkpoint()
        self.assertNoResult(done)
        before = self.engine.store.figures().checkpoints
        self.engine.store.housekeeping._checkpointer.give_up()
        self.successResultOf(done)
        self.assertEqual(self.engine.store.figures().checkpoints, before)
        self.assertEqual(self.engine.store.figures().failed_checkpoints, 0)
        self.engine.reopen()
        self.assertEqual(self.engine.get(b"00"), b"1")

    def test_one_that_failed_is_tried_again_after_a_pause(self) -> None:
        self.engine.put(b"00", b"1")
        self.disk.fail("write", errno.ENOSPC, path="pages", times=2)
        self.engine.checkpoint()
        figures = self.engine.store.figures
        self.engine.clock.pump([1.0] * int(RETRY_SECONDS / 2))
        self.assertEqual((figures().failed_checkpoints, figures().checkpoints), (1, 1))
        self.engine.clock.pump([1.0] * int(2.5 * RETRY_SECONDS))
        self.assertEqual((figures().failed_checkpoints, figures().checkpoints), (2, 2))

    def test_a_clean_stop_after_one_that_failed_leaves_nothing_to_replay(self) -> None:
        self.engine.put(b"00", b"1")
        self.disk.fail("write", errno.ENOSPC, path="pages")
        self.engine.checkpoint()
        self.engine.put(b"00", b"2")
        self.successResultOf(self.engine.close())
        self.engine.reopen()
        self.assertEqual(self.engine.recovery.transactions, 0)
        self.assertEqual(self.engine.get(b"00"), b"2")

    def test_what_it_had_written_by_then_is_removed(self) -> None:
        for number in range(12):
            self.engine.put(b"%02d" % number, b"%d" % number * 30)
        before = self.engine.files("pages/")
        self.disk.fail("write", errno.ENOSPC, path="pages", skip=3)
        self.engine.checkpoint()
        self.assertEqual(self.engine.files("pages/"), before)

    def test_an_error_that_is_unexpected_does_not_end_all_checkpoints(self) -> None:
        self.engine.put(b"00", b"1")
        with_error = self.patch(self.engine.storage.pages, "write", lambda number, page: 1 // 0)
        self.engine.checkpoint()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        with_error.restore()
        self.engine.checkpoint()
        self.assertEqual(self.engine.store.figures().checkpoints, 2)


class LostBatchTests(EngineCase):
    """A batch fails while a checkpoint that froze it waits for it."""

    disk: FaultyDisk

    def make_engine(self) -> Engine:
        self.disk = FaultyDisk()
        self.journal_jobs, self.page_jobs = SteppedWorker(), SteppedWorker()
        limits = Limits(pages=1)
        return Engine(
            self.path / "store", disk=self.disk, journal=self.journal_jobs, pages=self.page_jobs, limits=limits
        )

    def test_what_was_taken_back_is_in_no_page(self) -> None:
        self.patch(
            DiskSpace, "release_piece", lambda disk_space, leave=0: False
        )  # there is no spare segment that would make way
        kept: list[Operation] = [put(b"%d" % n, b"kept") for n in range(5)]
        changes: list[list[Operation]] = [
            [put(b"new", b"lost")],
            [put(b"1", b"lost"), Delete(DATA, b"2")],
            [Clear(DATA)],
            [Clear(DATA), put(b"1", b"lost")],
            [Clear(STAGED), put(b"k", b"lost", keyspace=STAGED)],
        ]
        for change in changes:
            for moved in (False, True):
                self.run_to_the_end(self.engine.store.transact([], kept))
                if moved:
                    self.run_to_the_end(self.engine.store.housekeeping.checkpoint())
                before = self.contents()
                self.disk.fail("write", errno.ENOSPC, path="journal", times=99)
                lost = [self.engine.store.transact([], change), self.engine.store.transact([], change)]
                checkpoint = self.engine.store.housekeeping.checkpoint()
                if not any(isinstance(operation, Clear) for operation in change):  # a Clear waits for the freezing
                    lost.append(self.engine.store.transact([], change))
                finish(self.journal_jobs, self.page_jobs)
                self.disk.heal()
                self.successResultOf(checkpoint)
                for deferred in lost:
                    self.failureResultOf(deferred, NoRoom)
                self.assertEqual(self.contents(), before, (change, moved))
                self.engine.reopen()
                self.assertEqual(self.engine.contents(), before, (change, moved))
                self.engine.die()
                self.engine.journal, self.engine.pages = self.journal_jobs, self.page_jobs
                self.engine.open()

    def run_to_the_end(self, deferred: Deferred[Any]) -> None:
        finish(self.journal_jobs, self.page_jobs)
        self.successResultOf(deferred)

    def contents(self) -> dict[str, dict[bytes, Record]]:
        found: dict[str, dict[bytes, Record]] = {}
        for keyspace in (DATA, STAGED, HISTORY):
            scan = self.engine.store.scan(keyspace)
            finish(self.journal_jobs, self.page_jobs)
            found[keyspace] = dict(self.successResultOf(scan).items)
        return found


CHECKPOINT = "checkpoint"
SCENARIO: Sequence[list[Operation] | str] = (
    [put(b"%02d" % number, b"v" * 30) for number in range(8)],
    [put(b"03", b"w", keyspace=STAGED)],
    CHECKPOINT,
    [put(b"03", b"changed"), Delete(DATA, b"05"), Append(HISTORY, b"03\0", b"changed", "text/plain", 60_000)],
    CHECKPOINT,
    [Clear(DATA), put(b"05", b"after"), put(b"99", b"after" * 30)],
    [Delete(STAGED, b"03")],
    CHECKPOINT,
    [Clear(DATA)],
    CHECKPOINT,
    [put(b"last", b"v")],
)


class CrashTests(TestCase):
    """The process, or the machine, dies before and after every change to a file, and in the middle of every write."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(run_writer, "PAGE_SIZE", 100)
        self.patch(journal, "EXTENT", 300)
        self.root = self.path / "store"
        self.root.mkdir()
        self.album = self.path / "album"
        self.album.mkdir()

    def assert_survives(self, disk: WitnessDisk, states: list[Model]) -> None:
        for moment in disk.moments:
            assert isinstance(moment.note, int)
            for left in (moment.killed, moment.powerless):
                engine = Engine(left, disk=WatchedDisk())
                engine.open()
                now_ms = engine.now_ms()
                allowed = [state.contents(now_ms) for state in states[moment.note : moment.note + 2]]
                self.assertIn(engine.contents(), allowed, f"{moment.what} ({left.name})")
                before = engine.contents()
                self.assertLessEqual(len(engine.files("pages/")), len(engine.storage.manifest.pages()))
                engine.put(b"goes on", b"v")
                engine.checkpoint()
                engine.reopen()
                after = engine.contents()
                self.assertEqual(after[DATA].pop(b"goes on").value, b"v")
                self.assertEqual(after, before, f"{moment.what} ({left.name})")
                engine.die()

    def test_nothing_that_was_acknowledged_is_lost_at_any_moment(self) -> None:
        states = [Model()]
        disk = WitnessDisk(self.root, self.album, lambda: len(states) - 1)
        self.addCleanup(disk.put_away)
        disk.trust()
        engine = Engine(self.root, disk=disk)
        engine.open()
        for step in SCENARIO:
            if isinstance(step, str):
                engine.checkpoint()
            else:
                following = states[-1].copy()
                following.transact([], step, engine.now_ms())
                engine.do(*step)
                states.append(following)
        result_of(engine.close())
        self.assertGreater(len(disk.moments), 100)
        self.assert_survives(disk, states)

    def test_nothing_that_was_acknowledged_is_lost_while_a_torn_journal_is_opened(self) -> None:
        engine = Engine(self.root, disk=WatchedDisk())
        state = Model()
        engine.open()
        for number in range(3):
            changes = [put(b"%d" % number, b"v")]
            engine.do(*changes)
            state.transact([], changes, engine.now_ms())
        engine.die()
        with open(self.root / engine.files("journal")[0], "ab") as journal:
            journal.write(b"KVTB torn")
        disk = WitnessDisk(self.root, self.album, lambda: 0)
        self.addCleanup(disk.put_away)
        disk.trust()
        engine.disk = disk
        engine.open()
        engine.checkpoint()
        engine.die()
        self.assert_survives(disk, [state])

    def test_what_was_read_after_a_crash_is_not_lost_to_a_power_cut_after_it(self) -> None:
        # A process that is killed between a write and its sync leaves a record that the next one finds. Whoever reads it
        # there may rely on it, and all that is written from then on builds on it.
        for number, then in enumerate(("nothing", "a write", "a checkpoint", "a stop")):
            root, left = self.path / f"root-{number}", self.path / f"left-{number}"
            root.mkdir()
            disk = ForgetfulDisk(root)
            self.addCleanup(disk.put_away)
            disk.trust()
            engine = Engine(root, disk=disk)
            engine.open()
            engine.put(b"a", b"1")
            disk.fail("sync", errno.EIO, path="journal")
            engine.store.transact([], [put(b"b", b"2")]).addErrback(lambda _: None)
            engine.reopen()
            seen = engine.items()
            if then == "a write":
                engine.put(b"c", b"3")
                seen.append((b"c", b"3"))
            elif then == "a checkpoint":
                engine.checkpoint()
            elif then == "a stop":
                result_of(engine.close())
            disk.cut_power(left)
            again = Engine(left, disk=WatchedDisk())
            again.open()
            self.assertEqual(again.items(), seen, then)
            again.die()
