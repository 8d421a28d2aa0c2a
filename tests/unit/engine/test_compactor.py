"""
Compaction during reads, writes, clears, stops and crashes: what it must not change, and that it leaves no files.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs, formatEvent

from kvtwist.engine import Limits, compaction, compactor
from kvtwist.engine.compaction import compaction_due
from kvtwist.engine.compactor import PURGE_SECONDS, THIN_SECONDS
from kvtwist.engine.housekeeping import SWEEP_SECONDS
from kvtwist.engine.sorted_run import PageRef, SortedRun
from kvtwist.model import DATA, HISTORY, Clear, Delete, Exists, StoreDamaged, StoreError, Usage
from tests.support.engine import (
    Engine,
    EngineCase,
    FaultyDisk,
    Model,
    SteppedWorker,
    TestCase,
    failure_of,
    finish,
    put,
)


class CompactionDueTests(TestCase):
    def test_compaction_comes_to_an_end(self) -> None:
        self.patch(compaction, "SMALL", 0)
        for sizes in ([10] * 9, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512], [512, 256, 128, 64, 32, 16, 8, 4, 2, 1]):
            left = [*sizes, 100_000]
            while due := compaction_due([SortedRun([PageRef(1, b"k", size, None)], 1000, size) for size in left]):
                self.assertGreater(len(due), 1)
                left = [sum(run.size for run in due), *left[len(due) :]]
            self.assertLessEqual(len(left), compaction.MAX_RUNS + 1)


class CompactionCase(EngineCase):
    """A store with several runs, however little is in it; the test decides when each page is written."""

    disk: FaultyDisk

    def make_engine(self) -> Engine:
        self.disk = FaultyDisk()
        self.page_jobs = SteppedWorker()
        return Engine(self.path / "store", disk=self.disk, pages=self.page_jobs, limits=Limits(pages=1))

    def setUp(self) -> None:
        super().setUp()
        self.patch(compaction, "SMALL", 0)
        self.patch(compaction, "FULL_SHARE", 100)
        self.patch(compaction, "MAX_RUNS", 3)
        self.model = Model()

    def do(self, *changes: object) -> None:
        self.model.transact([], changes, self.engine.now_ms())  # type: ignore[arg-type]
        self.successResultOf(self.engine.store.transact([], changes))  # type: ignore[arg-type]

    def checkpoint(self) -> None:
        done = self.engine.store.housekeeping.checkpoint()
        while not done.called:
            self.page_jobs.step()

    def runs(self) -> list[SortedRun]:
        return self.engine.store._keyspaces[DATA].tables.runs

    def grow(self, runs: int) -> None:
        """Add runs above a base; the last checkpoint leaves the compaction that it begins undone."""
        for number in range(runs):
            self.page_jobs.finish()
            self.do(*(put(b"%02d" % key, b"%d" % number * 30) for key in range(number % 2, 60, 2)))
            self.do(Delete(DATA, b"%02d" % number))
            self.checkpoint()

    def assert_right(self) -> None:
        scan = self.engine.store.scan(DATA)
        self.page_jobs.finish()
        self.assertEqual(dict(self.successResultOf(scan).items), self.model.records(DATA, self.engine.now_ms()))

    def assert_survives(self) -> None:
        self.engine.reopen()
        self.assertEqual(dict(self.engine.records()), self.model.records(DATA, self.engine.now_ms()))

    def files(self) -> int:
        return len(self.engine.files("pages/"))

    def named(self) -> int:
        return len(self.engine.storage.manifest.pages())


class CompactionTests(CompactionCase):
    def test_compaction_changes_nothing_but_the_number_of_runs(self) -> None:
        self.grow(4)
        self.assertEqual(len(self.runs()), 4)
        self.assert_right()
        self.grow(1)
        self.page_jobs.finish()
        self.assertLess(len(self.runs()), 5)
        self.assert_right()
        self.assertEqual(self.files(), self.named())
        self.assert_survives()

    def test_compacting_everything_leaves_no_trace_of_what_was_removed(self) -> None:
        self.grow(4)
        self.do(*(Delete(DATA, b"%02d" % key) for key in range(60)))
        self.checkpoint()
        self.page_jobs.finish()
        self.assertEqual(self.runs(), [])
        self.assertEqual(self.files(), 0)
        self.assertEqual(self.engine.store.usage(DATA), Usage(0, 0))

    def test_compacting_everything_makes_usage_exact(self) -> None:
        self.grow(4)
        self.patch(compaction, "FULL_SHARE", 0)
        self.grow(1)
        self.page_jobs.finish()
        records = self.model.records(DATA, 0)
        weight = sum(len(key) + len(record.value) for key, record in records.items())
        self.assertEqual(self.engine.store.usage(DATA), Usage(len(records), weight))

    def test_reads_writes_clears_and_crashes_in_the_middle_of_one(self) -> None:
        for steps in range(12):
            self.grow(5)
            for _ in range(steps):
                if self.page_jobs:
                    self.page_jobs.step()
            self.assert_moment(steps)
            self.assert_right()
            self.assert_survives()
            self.engine.die()
            self.engine.pages = self.page_jobs = SteppedWorker()
            self.engine.open()

    def assert_moment(self, steps: int) -> None:
        scan, got = self.engine.store.scan(DATA), self.engine.store.get(DATA, b"05")
        before = self.model.records(DATA, self.engine.now_ms())
        if steps % 3 == 0:
            self.do(put(b"05", b"meanwhile"))
        elif steps % 3 == 1:
            self.do(Clear(DATA), put(b"new", b"1"))
            self.checkpoint()
        self.page_jobs.finish()
        allowed = [before, self.model.records(DATA, self.engine.now_ms())]
        self.assertIn(dict(self.successResultOf(scan).items), allowed)
        self.assertIn(self.successResultOf(got), [records.get(b"05") for records in allowed])

    def test_a_keyspace_that_is_cleared_in_the_middle_of_one_is_no_failure(self) -> None:
        for steps in range(8):
            self.grow(5)
            with capturedLogs() as events:
                for _ in range(steps):
                    if self.page_jobs:
                        self.page_jobs.step()
                self.do(Clear(DATA))
                done = self.engine.store.housekeeping.checkpoint()
                self.page_jobs.finish()
                self.successResultOf(done)
            self.assertEqual([e for e in events if e["log_level"] >= LogLevel.error], [], steps)
            self.assertEqual(self.files(), self.named(), steps)

    def test_a_stop_in_the_middle_of_one_loses_nothing(self) -> None:
        for steps in range(6):
            self.grow(5)
            for _ in range(steps):
                if self.page_jobs:
                    self.page_jobs.step()
            closed = self.engine.close()
            self.page_jobs.finish()
            self.successResultOf(closed)
            self.assert_survives()
            self.assertEqual(self.engine.recovery.transactions, 0)
            self.assertEqual(self.files(), self.named())
            self.engine.die()
            self.engine.pages = self.page_jobs = SteppedWorker()
            self.engine.open()


class CompactionFailureTests(CompactionCase):
    def test_one_that_fails_changes_nothing_leaves_nothing_and_is_tried_again(self) -> None:
        for call in ("create", "write", "sync", "rename", "read"):
            for skip in range(4):
                self.grow(5)
                self.disk.fail(call, errno.ENOSPC, path="pages", skip=skip)
                with capturedLogs() as events:
                    self.page_jobs.finish()
                self.disk.heal()
                if any(event["log_level"] == LogLevel.error for event in events):
                    self.assertEqual(self.files(), self.named(), (call, skip))
                self.assert_right()
                self.engine.clock.pump([1.0] * int(PURGE_SECONDS + 2))
                self.page_jobs.finish()
                self.assertLessEqual(len(self.runs()), 4)
                self.assertEqual(self.files(), self.named(), (call, skip))
                self.assert_right()
        self.assert_survives()

    def test_one_whose_manifest_finds_no_room_leaves_nothing(self) -> None:
        for call in ("create", "write", "sync", "rename"):
            self.grow(5)
            self.disk.fail(call, errno.ENOSPC, path="manifest")
            self.page_jobs.finish()
            self.disk.heal()
            self.assertEqual(self.files(), self.named(), call)
            self.assert_right()
            self.engine.clock.pump([1.0] * int(PURGE_SECONDS + 2))
            self.page_jobs.finish()
            self.assertEqual(self.files(), self.named(), call)
        self.assert_survives()

    def test_an_error_that_is_unexpected_does_not_end_all_compactions(self) -> None:
        self.grow(5)
        broken = self.patch(self.engine.storage.pages, "write", lambda number, content: 1 // 0)
        self.page_jobs.finish()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        broken.restore()
        self.assert_right()
        self.engine.clock.pump([1.0] * int(PURGE_SECONDS + 2))
        self.page_jobs.finish()
        self.assertLessEqual(len(self.runs()), 4)
        self.assert_right()

    def test_a_manifest_that_may_or_may_not_be_on_the_disk_costs_nothing(self) -> None:
        for _ in range(3):
            self.grow(5)
            self.disk.fail("sync_directory", errno.EIO, path="store")
            self.page_jobs.finish()
            self.disk.heal()
            self.assert_right()
            self.assert_survives()
            self.engine.die()
            self.engine.pages = self.page_jobs = SteppedWorker()
            self.engine.open()


class DecisionTests(EngineCase):
    """When a compaction begins; none of them does anything but wait for the test."""

    def setUp(self) -> None:
        super().setUp()
        self.compactor = self.engine.store.housekeeping._compactor  # type: ignore[union-attr]
        self.begun: list[Deferred[None]] = []

    async def run_one(self) -> None:
        self.begun.append(Deferred())
        await self.begun[-1]

    def test_one_runs_at_a_time_and_none_after_a_stop_or_a_failure(self) -> None:
        self.patch(self.compactor, "_run", self.run_one)
        self.compactor.begin()
        self.compactor.begin()
        self.assertEqual(len(self.begun), 1)
        now = self.engine.clock.seconds()
        for not_before, stopped, begins in ((now, False, 1), (now + 0.1, False, 0), (now, True, 0)):
            self.patch(self.compactor, "_running", None)
            self.patch(self.compactor, "_not_before", not_before)
            self.patch(self.compactor, "_stopped", stopped)
            self.begun.clear()
            self.compactor.begin()
            self.assertEqual(len(self.begun), begins, (not_before, stopped))

    def test_a_stop_cancels_the_one_that_runs(self) -> None:
        self.patch(self.compactor, "_compact_all", self.run_one)
        self.compactor.begin()
        self.compactor.stop()
        self.assertTrue(self.begun[0].called)
        self.assertIsNone(self.compactor._running)
        self.assertEqual(self.compactor._not_before, 0.0)

    def test_a_minute_follows_on_thinning_that_failed(self) -> None:
        self.engine.put(b"k", b"v")
        self.engine.checkpoint()
        thin = compactor.thin
        for error, pause in ((None, 0.0), (OSError(errno.EIO, "no"), PURGE_SECONDS), (StoreError("no"), PURGE_SECONDS)):

            async def thin_or_fail(*arguments: Any, error: Exception | None = error) -> None:
                if error is not None:
                    raise error
                await thin(*arguments)

            self.patch(compactor, "thin", thin_or_fail)
            self.patch(self.compactor, "_thinned", {})
            self.patch(self.compactor, "_not_before", 0.0)
            with capturedLogs() as events:
                self.successResultOf(Deferred.fromCoroutine(self.compactor.thin_all()))
            self.assertEqual(self.compactor._not_before, pause and self.engine.clock.seconds() + pause)
            self.assertEqual(len(events), error is not None)

    def test_what_was_thinned_is_thinned_again_when_something_has_changed(self) -> None:
        thinned: list[str] = []

        async def thin(state: object, name: str, *rest: object) -> None:
            thinned.append(name)

        self.patch(compactor, "thin", thin)
        for change, again in (
            (lambda: self.engine.put(b"k", b"v", ttl_ms=5000), True),
            (lambda: None, False),
            (self.engine.checkpoint, True),
            (lambda: None, False),
            (lambda: self.engine.clock.advance(4.9), False),
            (lambda: self.engine.clock.advance(0.1), True),
            (lambda: None, True),
        ):
            change()
            thinned.clear()
            self.successResultOf(Deferred.fromCoroutine(self.compactor.thin_all()))
            self.assertEqual(thinned, [DATA] if again and self.engine.storage.manifest.pages() else [])

    def test_a_compaction_that_does_not_fit_thins_and_waits(self) -> None:
        space = self.engine.storage.disk_space
        run = SortedRun([PageRef(1, b"", 1000, None)], 1, 1000)
        rewritten: list[str] = []
        thinned: list[str] = []
        due = [(DATA, self.engine.store._keyspaces[DATA].tables, [run, run])]

        async def rewrite(name: str, *rest: object) -> bool:
            rewritten.append(name)
            due.clear()
            return True

        async def thin(name: str, tables: object) -> None:
            thinned.append(name)

        self.patch(self.compactor, "_next_due", lambda failed: None if not due or DATA in failed else due[0])
        self.patch(self.compactor, "_rewrite", rewrite)
        self.patch(self.compactor, "_thin", thin)
        self.patch(space, "measure", lambda: None)
        for free, size, waits in ((1999, 10, True), (1999, 0, False)):
            self.patch(space, "free", free)
            self.patch(space, "size", size)
            self.patch(self.compactor, "_not_before", 0.0)
            thinned.clear()
            self.successResultOf(Deferred.fromCoroutine(self.compactor._compact_all()))
            self.assertEqual((rewritten, thinned), ([], [DATA] if waits else []))
            self.assertEqual(self.compactor._not_before, self.engine.clock.seconds() + THIN_SECONDS if waits else 0.0)
        self.patch(space, "free", 2000)
        self.successResultOf(Deferred.fromCoroutine(self.compactor._compact_all()))
        self.assertEqual(rewritten, [DATA])


class DamagedPageTests(CompactionCase):
    """A page of the store is damaged: compaction goes on, and reads in its range never return an outdated record."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(compaction, "FULL_SHARE", 1)
        self.rounds = 0
        self.fill()

    def fill(self) -> None:
        """A base of all keys, and two runs above it."""
        self.do(*(put(b"%02d" % key, b"base" * 8) for key in range(60)))
        self.checkpoint()
        self.grow(2)

    def grow(self, runs: int) -> None:
        for _ in range(runs):
            self.page_jobs.finish()
            self.rounds += 1
            changed = range(self.rounds % 7, 60, 7)
            self.do(*(put(b"%02d" % key, b"%03d" % self.rounds * 10) for key in changed))
            self.do(Delete(DATA, b"%02d" % (self.rounds % 60)), Delete(DATA, b"never there"))
            self.checkpoint()

    def damage(self, run: int, page: int) -> tuple[PageRef, bytes]:
        """Damage a page; returns what it was."""
        self.page_jobs.finish()
        ref = self.runs()[run].pages[page]
        path = Path(self.engine.storage.pages.file_of(ref.number))
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        return ref, content

    def heal(self, ref: PageRef, content: bytes) -> None:
        Path(self.engine.storage.pages.file_of(ref.number)).write_bytes(content)

    def told(self, events: list[dict[str, Any]]) -> list[str]:
        return [str(formatEvent(event)) for event in events if event["log_level"] >= LogLevel.warn]

    def answers(self, damaged: bool = True) -> dict[bytes, str]:
        """Every key is answered right, or refused; returns which are refused."""
        records = self.model.records(DATA, self.engine.now_ms())
        refused = {}
        for key in [*(b"%02d" % number for number in range(60)), b"never there"]:
            got = self.engine.store.get(DATA, key)
            exists = self.engine.store.transact([Exists(DATA, key)], [])
            self.page_jobs.finish()
            error = failure_of(got)
            if error is None:
                self.assertEqual(self.successResultOf(got), records.get(key))
                self.assertEqual(self.successResultOf(exists).committed, key in records)
            else:
                self.assertIsInstance(error, StoreDamaged)
                self.failureResultOf(exists, StoreDamaged)
                refused[key] = str(error)
        scan = self.engine.store.scan(DATA)
        self.page_jobs.finish()
        if damaged:  # there may have been other keys in the page
            self.failureResultOf(scan, StoreDamaged)
        else:
            self.assertEqual(dict(self.successResultOf(scan).items), records)
        return refused

    def minutes(self, count: int) -> None:
        for _ in range(count * int(PURGE_SECONDS)):
            self.engine.clock.advance(1)
            self.page_jobs.finish()

    def test_the_number_of_runs_does_not_grow_and_the_log_says_it_once(self) -> None:
        for run, page in ((2, 5), (1, 0), (0, -1)):
            ref, content = self.damage(run, page)
            with capturedLogs() as events:
                for _ in range(12):
                    self.grow(1)
                    self.page_jobs.finish()
                    self.assertLessEqual(len(self.runs()), 6)
                self.minutes(3)
            [line] = self.told(events)
            self.assertIn(f"{self.engine.storage.pages.file_of(ref.number)}: page {ref.number}: ", line)
            self.assertIn("compaction leaves this page", line)
            self.assertEqual(self.files(), self.named())
            self.heal(ref, content)
            self.minutes(2)
            self.assertEqual(self.answers(damaged=False), {})
            self.patch(compaction, "FULL_SHARE", 0)
            self.grow(1)
            self.minutes(2)
            self.assertEqual(len(self.runs()), 1)
            self.patch(compaction, "FULL_SHARE", 100)
            self.grow(2)
            self.page_jobs.finish()

    def test_in_its_range_is_refused_what_is_not_newer_and_nothing_else(self) -> None:
        for run, page in ((2, 5), (1, 0), (0, -1), (0, 4)):
            ref, content = self.damage(run, page)
            before = self.answers()
            self.assertTrue(all(ref.first <= key < (ref.stop or b"") for key in before))
            self.patch(compaction, "FULL_SHARE", 0)
            with capturedLogs():
                self.do(put(b"a", b""))
                self.checkpoint()
                self.page_jobs.finish()
            self.patch(compaction, "FULL_SHARE", 100)
            self.assertEqual(self.answers(), before)
            self.assertGreater(len(before), 0, (run, page))
            for key in [*before][:1]:
                self.do(put(key, b"newer"))
                self.assertEqual(self.answers().keys(), before.keys() - {key})
                self.checkpoint()
                self.assertEqual(self.answers().keys(), before.keys() - {key})
            self.engine.reopen()
            self.engine.pages = self.engine.storage.page_worker = self.engine.storage.read_worker = self.page_jobs
            self.assertEqual(self.answers().keys(), before.keys() - {next(iter(before))})
            self.assertEqual(self.files(), self.named())
            self.heal(ref, content)
            self.assertEqual(self.answers(damaged=False), {})
            self.do(Clear(DATA))
            self.fill()

    def test_a_small_keyspace_is_not_compacted_for_ever(self) -> None:
        self.patch(compaction, "SMALL", 2**20)
        was = self.damage(2, 5)
        with capturedLogs():
            self.grow(1)
            self.page_jobs.finish()
        self.assertEqual(len(self.runs()), 3, "newer, damaged, all else")
        before = self.runs()
        self.minutes(2)
        self.assertEqual([id(run) for run in self.runs()], [id(run) for run in before])
        self.grow(1)
        self.page_jobs.finish()
        self.assertEqual(len(self.runs()), 3)
        self.heal(*was)
        self.minutes(2)
        self.assertEqual(len(self.runs()), 1)

    def test_each_damaged_page_is_logged_once(self) -> None:
        self.patch(compaction, "SMALL", 2**20)
        seen = set()
        for page in (5, 9):
            ref, _ = self.damage(-1, page)
            with capturedLogs() as events:
                self.grow(2)
                self.page_jobs.finish()
                self.minutes(2)
                self.disk.fail("read", errno.EMFILE, path="pages", times=99)
                self.minutes(2)
                self.disk.heal()
            [line] = self.told(events)
            seen.add(line)
            self.assertIn(f"page {ref.number}: ", line)
        self.assertEqual(len(seen), 2)
        self.assertGreater(len(self.answers()), 0)

    def test_a_keyspace_that_is_cleared_takes_its_damaged_page_with_it(self) -> None:
        self.patch(compaction, "SMALL", 2**20)
        self.damage(2, 5)
        with capturedLogs():
            self.grow(1)
            self.page_jobs.finish()
        self.assertEqual(len(self.engine.store.housekeeping._compactor._damaged), 1)
        self.do(Clear(DATA))
        self.checkpoint()
        self.minutes(2)
        self.assertEqual((self.runs(), self.files()), ([], 0))
        self.assertEqual(self.engine.store.housekeeping._compactor._damaged, {})
        self.grow(5)
        self.page_jobs.finish()
        self.assertEqual(self.answers(damaged=False), {})

    def test_no_descriptors_and_no_memory_say_nothing_about_a_page(self) -> None:
        for number in (errno.EMFILE, errno.ENOMEM, errno.EACCES):
            while not self.page_jobs:
                self.grow(1)
            self.disk.fail("read", number, path="pages", skip=3, times=99)
            with capturedLogs() as events:
                self.page_jobs.finish()
            self.disk.heal()
            [line] = self.told(events)
            self.assertIn("compaction failed, and will be tried again", line)
            self.minutes(2)
            self.assertLessEqual(len(self.runs()), 4)
            self.assertEqual(self.engine.store.housekeeping._compactor._damaged, {})
            self.assertEqual(self.answers(damaged=False), {})


class PurgeTests(CompactionCase):
    """Pages in which something has expired are written anew, once a minute."""

    def setUp(self) -> None:
        super().setUp()
        self.fill()

    def fill(self) -> None:
        """Two records to a page; in each of the first four pages one expires."""
        expiring = (0, 2, 4, 6)
        records = [put(b"%02d" % n, bytes(20), ttl_ms=5000 if n in expiring else None) for n in range(12)]
        self.do(Clear(DATA), *records)
        self.checkpoint()
        self.page_jobs.finish()

    def expire(self) -> None:
        """Pass a minute; the purge that begins then is left undone."""
        for _ in range(int(PURGE_SECONDS / SWEEP_SECONDS) + 2):
            self.engine.clock.advance(SWEEP_SECONDS)
            if self.page_jobs:
                return
        self.fail("no purge has begun")

    def test_just_the_pages_in_which_something_has_expired_are_written_anew(self) -> None:
        before = {ref.number for run in self.runs() for ref in run.pages}
        self.expire()
        self.page_jobs.finish()
        after = {ref.number for run in self.runs() for ref in run.pages}
        self.assertEqual(len(before - after), 4)
        self.assertEqual(self.files(), self.named())
        self.assertEqual(self.engine.store.usage(DATA), Usage(8, 8 * 22))
        self.assert_right()
        self.assert_survives()

    def test_one_that_finds_no_room_leaves_nothing(self) -> None:
        for skip in range(4):
            self.expire()
            self.disk.fail("write", errno.ENOSPC, path="pages", skip=skip, times=99)
            with capturedLogs() as events:
                self.page_jobs.finish()
            self.disk.heal()
            self.assertEqual(len([event for event in events if event["log_level"] == LogLevel.error]), 1)
            self.assertEqual(self.files(), self.named(), skip)
            self.assert_right()
            self.fill()

    def test_a_keyspace_that_is_cleared_in_the_middle_of_one_is_no_failure(self) -> None:
        for steps in range(8):
            self.expire()
            with capturedLogs() as events:
                for _ in range(steps):
                    if self.page_jobs:
                        self.page_jobs.step()
                self.do(Clear(DATA))
                done = self.engine.store.housekeeping.checkpoint()
                self.page_jobs.finish()
                self.successResultOf(done)
            self.assertEqual([e["log_format"] for e in events if e["log_level"] >= LogLevel.error], [], steps)
            self.assertEqual(self.files(), self.named(), steps)
            self.fill()

    def test_a_damaged_page_is_left_and_the_others_are_purged(self) -> None:
        ref = self.runs()[0].pages[1]
        path = Path(self.engine.storage.pages.file_of(ref.number))
        content = path.read_bytes()
        path.write_bytes(content[:-1] + b"?")
        with capturedLogs() as events:
            for _ in range(4):
                self.engine.clock.pump([1.0] * int(PURGE_SECONDS))
                self.page_jobs.finish()
        self.assertEqual(len([event for event in events if event["log_level"] >= LogLevel.warn]), 1)
        [run] = self.runs()
        self.assertEqual([page for page in run.pages if page.expires_ms is not None], [ref])
        path.write_bytes(content)
        self.engine.clock.pump([1.0] * int(2 * PURGE_SECONDS))
        self.page_jobs.finish()
        self.engine.clock.pump([1.0] * int(2 * PURGE_SECONDS))
        self.page_jobs.finish()
        self.assertEqual(self.engine.store.usage(DATA), Usage(8, 8 * 22))
        self.assert_right()

    def test_a_keyspace_that_cannot_be_read_does_not_keep_others_from_being_purged(self) -> None:
        self.do(put(b"event", bytes(20), ttl_ms=5000, keyspace=HISTORY))
        self.checkpoint()
        self.page_jobs.finish()
        for name in self.engine.files("pages/"):
            page = self.engine.path / name
            content = page.read_bytes()
            if b"event" not in content:
                page.write_bytes(content[:-1] + b"?")
        for _ in range(3):
            self.expire()
            finish(self.page_jobs)
        self.assertEqual(self.engine.store.usage(HISTORY), Usage(0, 0))
