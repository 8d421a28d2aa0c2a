"""However much is written, the store keeps within its memory: by checkpoints, by letting writers wait, or by refusing."""

from __future__ import annotations

import errno

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from kvtwist.engine import Limits, Store
from kvtwist.engine.memtable import ENTRY_COST
from kvtwist.engine.timeline import Timeline
from kvtwist.model import DATA, Clear, Delete, Get, NoRoom, Outcome, StoreUnavailable
from tests.support.engine import (
    Engine,
    EngineCase,
    FaultyDisk,
    SteppedWorker,
    TestCase,
    failure_of,
    put,
    result_of,
    whole_scan,
)


class LimitsTests(TestCase):
    def test_shares_are_those_of_the_whole(self) -> None:
        for memory in (1000, 32 * 2**20, 256 * 2**20):
            limits = Limits.within(memory)
            self.assertLessEqual(limits.memory + limits.changes, memory)
            self.assertGreater(limits.memory + limits.changes, 0.99 * memory)
        self.assertEqual(Limits.within(1000), Limits(pages=469, memtables=200, unsynced=50, changes=31))

    def test_the_defaults_are_those_of_256_mib(self) -> None:
        limits, whole = Limits(), Limits.within(256 * 2**20)
        for name in ("pages", "memtables", "unsynced", "changes"):
            self.assertLess(abs(getattr(limits, name) - getattr(whole, name)), 2**20)


class WaitingTests(EngineCase):
    """The test decides when the page thread gets on."""

    def make_engine(self) -> Engine:
        self.page_jobs = SteppedWorker()
        self.room = 10 * (ENTRY_COST + 10)
        limits = Limits(pages=1000, memtables=self.room)
        return Engine(self.path / "store", disk=FaultyDisk(), pages=self.page_jobs, limits=limits)

    def write(self, count: int) -> list[Deferred[Outcome]]:
        return [self.engine.store.transact([], [put(b"%04d" % n, b"v" * 6)]) for n in range(count)]

    def in_memory(self) -> int:
        tables = self.engine.store._keyspaces[DATA].tables
        return tables.active.cost + (tables.frozen.cost if tables.frozen else 0)

    def test_a_checkpoint_begins_when_the_memtables_are_full(self) -> None:
        for done in self.write(10):
            self.successResultOf(done)
        self.assertEqual(len(self.engine.store._keyspaces[DATA].tables.active), 0)
        self.page_jobs.finish()
        self.assertEqual(self.engine.store.figures().checkpoints, 1)

    def test_writers_wait_while_it_cannot_keep_up(self) -> None:
        writes = self.write(100)
        self.assertEqual([done.called for done in writes], [True] * 20 + [False] * 80)
        while self.page_jobs:
            self.page_jobs.step()
            self.assertLessEqual(self.in_memory(), 2 * self.room)
        for done in writes:
            self.successResultOf(done)
        scan = self.engine.store.scan(DATA)
        self.page_jobs.finish()
        self.assertEqual(len(self.successResultOf(scan).items), 100)

    def test_waiting_writers_are_admitted_in_order(self) -> None:
        self.write(20)
        same = [self.engine.store.transact([], [put(b"same", b"%d" % n)]) for n in range(50)]
        self.page_jobs.finish()
        self.assertTrue(self.successResultOf(same[-1]).committed)
        got = self.engine.store.get(DATA, b"same")
        self.page_jobs.finish()
        record = self.successResultOf(got)
        assert record is not None
        self.assertEqual(record.value, b"49")

    def test_reads_do_not_wait(self) -> None:
        self.write(50)
        read = self.engine.store.transact([], [Get(DATA, b"0003")])
        [record] = self.successResultOf(read).results
        self.assertIsNotNone(record)

    def test_waiting_writers_fail_when_checkpoints_fail(self) -> None:
        disk = self.engine.disk
        assert isinstance(disk, FaultyDisk)
        disk.fail("write", errno.ENOSPC, path="pages", times=99)
        writes = self.write(30)
        self.page_jobs.finish()
        for done in writes[20:]:
            self.failureResultOf(done, StoreUnavailable)
        self.failureResultOf(self.engine.store.transact([], [put(b"more", b"")]), StoreUnavailable)
        disk.heal()
        self.engine.clock.pump([1.0] * 12)
        self.page_jobs.finish()
        self.successResultOf(self.engine.store.transact([], [put(b"more", b"")]))

    def test_waiting_writers_fail_when_the_store_closes(self) -> None:
        writes = self.write(30)
        closed = self.engine.close()
        self.page_jobs.finish()
        self.successResultOf(closed)
        for done in writes[20:]:
            self.assertTrue(done.called)
            done.addErrback(lambda failure: failure.trap(StoreUnavailable))


class MemoryStoreTests(TestCase):
    def test_it_refuses_what_it_has_no_room_for(self) -> None:
        clock = Clock()
        store = Store(clock, Timeline(clock.seconds, clock.seconds), None, Limits.within(20 * ENTRY_COST))
        store.open()
        store.start()
        kept = 0
        while True:
            done = store.transact([], [put(b"%d" % kept, b"v")])
            if not isinstance(done.result, Outcome):
                self.failureResultOf(done, NoRoom)
                break
            kept += 1
        self.assertGreater(kept, 10)
        self.assertEqual(len(whole_scan(store)), kept)
        result_of(store.transact([], [Delete(DATA, b"0"), Delete(DATA, b"1")]))
        result_of(store.transact([], [put(b"new", b"v")]))
        result_of(store.transact([], [Clear(DATA)]))
        result_of(store.transact([], [put(b"new", b"v")]))

    def test_what_holds_no_value_finds_a_little_more_room(self) -> None:
        # Where deletions are staged, a store that takes none could never be emptied.
        clock = Clock()
        store = Store(clock, Timeline(clock.seconds, clock.seconds), None, Limits.within(200 * ENTRY_COST))
        store.open()
        store.start()

        def take(value: bytes, first: int) -> int:
            """How many keys find room."""
            for number in range(first, 1000):
                done = store.transact([], [put(b"%03d" % number, value)])
                if isinstance(failure_of(done), NoRoom):
                    return number - first
            raise AssertionError("it is never full")

        with_value = take(b"v", 0)
        without = take(b"", with_value)
        self.assertGreater(without, 5)
        self.assertLess(without, 0.1 * with_value)
