"""
A disk that fails or is full: what was refused is nowhere, what was acknowledged stays, and nobody is left waiting.
"""

from __future__ import annotations

import errno
import gc
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from kvtwist.engine import Limits
from kvtwist.model import (
    DATA,
    Clear,
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

    def test_what_was_built_on_it_is_lost_with_it(self) -> None:
        lost = [
            self.store.transact([], [put(b"k", b"2")]),
            self.store.transact([Unchanged(DATA, b"k", 2)], [put(b"other", b"2")]),
            self.store.transact([], [Clear(DATA)]),
            self.store.transact([], [put(b"late", b"2")]),
        ]
        self.journal_jobs.finish()
        for deferred in lost:
            self.refused(deferred, NoRoom)
        self.assertEqual([key for key, _ in self.successResultOf(self.store.scan(DATA)).items], [b"k", b"other"])

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

    def test_writing_goes_on_behind_it_with_the_same_revisions(self) -> None:
        lost = self.store.transact([], [put(b"k", b"2")])
        again: list[Deferred[Outcome]] = []
        lost.addErrback(lambda _: again.append(self.store.transact([Unchanged(DATA, b"k", 1)], [put(b"k", b"3")])))
        self.journal_jobs.finish()
        self.assertTrue(self.successResultOf(again[0]).committed)
        self.engine.reopen()
        self.assertEqual([(key, r.revision) for key, r in self.engine.records()], [(b"k", 2), (b"other", 1)])


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

    def test_a_journal_that_cannot_be_read_or_made(self) -> None:
        self.engine.put(b"k", b"1")
        for call, path in (("read", "journal"), ("create", "journal"), ("write", "journal"), ("sync", "journal")):
            self.engine.die()
            self.disk.fail(call, errno.EIO, path=path)
            self.assert_refused("Input/output error")

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

    def test_a_file_of_somebody_else_among_the_pages_does_no_harm(self) -> None:
        self.engine.put(b"k", b"1")
        self.engine.checkpoint()
        self.engine.die()
        for name in ("README", "x", "notes.txt", "lost+found", "MQ==_.bak"):
            (self.engine.path / "pages" / name).write_text("not ours")
        try:
            self.engine.open()
        except StoreError as error:
            self.assertNotIn("\n", str(error))
        else:
            self.assertEqual(self.engine.get(b"k"), b"1")


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

    def test_a_lost_or_damaged_page_is_told_to_who_reads_it_and_the_rest_goes_on(self) -> None:
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

    def test_a_page_that_the_disk_fails_to_read_is_missing_to_nobody(self) -> None:
        for number in range(4):
            self.engine.put(b"%d" % number, bytes(60))
        self.engine.checkpoint()
        self.engine.reopen()
        self.engine.put(b"late", b"1")
        self.disk.fail("read", errno.EIO, path="pages", times=99)
        store = self.engine.store
        for _ in range(2):
            self.failureResultOf(store.get(DATA, b"0"), StoreDamaged)
            self.failureResultOf(store.scan(DATA), StoreDamaged)
            self.refused(store.transact([Exists(DATA, b"0")], [put(b"0", b"1")]), StoreDamaged)
            self.refused(store.transact([], [Get(DATA, b"0"), put(b"0", b"1")]), StoreDamaged)
            self.assertEqual(self.engine.get(b"late"), b"1")
        self.assertFalse(store.figures().read_only)
        self.disk.heal()
        self.assertEqual([key for key, _ in self.engine.items()], [b"0", b"1", b"2", b"3", b"late"])

    def test_a_damaged_page_is_never_replaced_by_a_merge(self) -> None:
        for number in range(4):
            self.engine.put(b"%d" % number, bytes(60))
        self.engine.checkpoint()
        [first, *_] = self.engine.store._keyspaces[DATA].tables.runs[0].pages
        page = Path(self.engine.storage.pages.file_of(first.number))
        content = page.read_bytes()
        page.write_bytes(content[:-1] + b"?")
        self.engine.put(b"00", b"new")
        self.engine.checkpoint()
        self.assertEqual(len(self.engine.store._keyspaces[DATA].tables.runs), 2, "the merge failed")
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
        self.disk.capacity += 100  # what a start needs
        self.engine.reopen()
        self.assertEqual(dict(self.engine.items()), kept)

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
        self.assertIsInstance(failure_of(self.engine.store.transact([], [put(b"large", value)])), NoRoom)
        self.assertEqual(self.engine.files("journal-spare"), [])
        self.engine.put(b"large", value)


class ClearedTests(FaultCase):
    """A `Clear` that is taken back brings everything back, whatever a checkpoint did meanwhile."""

    def make_engine(self) -> Engine:
        engine = super().make_engine()
        engine.journal = self.journal_jobs = SteppedWorker()
        engine.pages = self.page_jobs = SteppedWorker()
        return engine

    def setUp(self) -> None:
        super().setUp()
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

    def test_a_checkpoint_that_began_behind_it(self) -> None:
        self.disk.fail("write", errno.ENOSPC, path="journal")
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
            self.disk.fail("write", errno.ENOSPC, path="journal")
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

    def test_a_write_behind_it_that_succeeds(self) -> None:
        self.disk.fail("write", errno.ENOSPC, path="journal")
        lost = self.engine.store.transact([], [Clear(DATA)])
        lost.addErrback(lambda _: self.engine.store.transact([], [put(b"zz", b"new")]))
        self.run_checkpoint()
        self.expected.append((b"zz", b"new"))
        self.assert_all_there()
