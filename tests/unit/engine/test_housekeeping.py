"""What the store does by itself, and when: exactly how much memory is counted, and when it sweeps, looks and makes room."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from kvtwist.engine import Limits, Store
from kvtwist.engine.compactor import PURGE_SECONDS
from kvtwist.engine.disk_space import PIECES
from kvtwist.engine.housekeeping import INDEX_COST, MAKE_SPACE_SECONDS, SWEEP_RECORDS, MemoryHousekeeping
from kvtwist.engine.memtable import ENTRY_COST
from kvtwist.engine.timeline import Timeline
from kvtwist.model import DATA, HISTORY, STAGED, Append, Clear, Delete, Get, NoRoom, Operation, Put, StoreUnavailable
from tests.support.engine import Engine, EngineCase, TestCase, failure_of, put, result_of


@contextmanager
def noted_delays(clock: Clock) -> Iterator[list[float]]:
    """The delays of the calls that are planned in this block."""
    delays: list[float] = []
    plan = clock.callLater

    def noted(delay: float, *args: Any, **kwargs: Any) -> Any:
        delays.append(delay)
        return plan(delay, *args, **kwargs)

    with patch.object(clock, "callLater", noted):
        yield delays


class MemoryTests(TestCase):
    """A store in memory."""

    def make(self, limits: Limits | None = None) -> Store:
        self.clock = Clock()
        store = Store(self.clock, Timeline(self.clock.seconds, self.clock.seconds), None, limits or Limits())
        store.open()
        store.start()
        return store

    def test_what_an_operation_will_take_is_what_it_takes(self) -> None:
        store = self.make()
        assert isinstance(store.housekeeping, MemoryHousekeeping)

        def cost() -> int:
            return sum(keyspace.tables.active.cost for keyspace in store._keyspaces.values())

        for operation in (
            put(b"key", b"value"),
            put(b"key", b"longer value"),
            put(b"key", b""),
            put(b"", b"v"),
            Append(HISTORY, b"prefix", b"value", ""),
            Get(DATA, b"key"),
            Delete(DATA, b"none"),
            Delete(DATA, b"key"),
            Put(STAGED, b"key", b"", ""),
            put(b"1", b"v"),
            Clear(DATA),
        ):
            before = cost()
            expected = store.housekeeping._growth(operation)
            result_of(store.transact([], [operation]))
            stamp = 16 if isinstance(operation, Append) else 0  # which its key gets later
            self.assertEqual(cost() - before, expected + stamp, operation)

    def test_the_limit_is_exact(self) -> None:
        room = 3 * (ENTRY_COST + 2)
        for more, fits in ((0, True), (1, False)):
            store = self.make(Limits(pages=room, memtables=0, unsynced=0))
            for key in (b"1", b"2"):
                result_of(store.transact([], [put(key, b"v")]))
            error = failure_of(store.transact([], [put(b"3", b"v" * (1 + more))]))
            self.assertEqual(error is None, fits)
            if not fits:
                self.assertIn(f"({room} bytes)", str(error))
                self.assertIsNone(failure_of(store.transact([], [Get(DATA, b"1"), put(b"1", b"")])))
                self.assertIsInstance(failure_of(store.transact([], [put(b"1", b"xyz"), put(b"3", b"")])), NoRoom)

    def test_a_sixteenth_more_is_for_what_holds_no_value(self) -> None:
        limit = 32 * (ENTRY_COST + 2)
        store = self.make(Limits(pages=limit, memtables=0, unsynced=0))
        for number in range(32):
            result_of(store.transact([], [put(b"%c" % number, b"v")]))
        staged: list[Operation] = [Put(STAGED, b"k", b"", "")]
        self.assertIsInstance(failure_of(store.transact([], [*staged, put(b"x", b"v")])), NoRoom)
        more = limit // 16 - ENTRY_COST
        for length, fits in ((more + 1, False), (more, True)):
            error = failure_of(store.transact([], [Put(STAGED, b"k" * length, b"", "")]))
            self.assertEqual(error is None, fits)

    def test_a_sweep_that_found_many_goes_on_at_once(self) -> None:
        for count, delays in ((SWEEP_RECORDS - 1, [1.0]), (SWEEP_RECORDS, [0, 1.0]), (SWEEP_RECORDS + 1, [0, 1.0])):
            store = self.make()
            for number in range(count):
                store.transact([], [put(b"%d" % number, b"v", ttl_ms=500)])
            with noted_delays(self.clock) as noted:
                self.clock.advance(1.0)
            self.assertEqual((noted, store.usage(DATA).records), (delays, 0))


class DiskTests(EngineCase):
    """A store on disk whose disk space says what a test wants."""

    def make_engine(self) -> Engine:
        return Engine(self.path / "store", limits=Limits(pages=100_000))

    def setUp(self) -> None:
        super().setUp()
        self.housekeeping = self.engine.store.housekeeping
        self.space = self.engine.storage.disk_space

    def test_a_sweep_that_found_many_goes_on_at_once(self) -> None:
        for count, delays in ((SWEEP_RECORDS - 1, [1.0]), (SWEEP_RECORDS, [0, 1.0])):
            self.engine.do(*(put(b"%d" % number, b"v", ttl_ms=1) for number in range(count)))
            with noted_delays(self.engine.clock) as noted:
                self.engine.clock.advance(1.0)
            self.assertEqual(noted, delays)

    def test_no_record_is_swept_before_it_is_durable(self) -> None:
        self.engine.put(b"durable", b"v", ttl_ms=1)
        self.patch(self.engine.storage.commit, "durable", 0)
        sweeper = self.housekeeping._sweeper
        self.engine.clock.advance(1.0)
        self.assertEqual((sweeper.swept, len(self.engine.store._keyspaces[DATA].tables.active)), (0, 1))
        self.patch(self.engine.storage.commit, "durable", 1)
        self.engine.clock.advance(1.0)
        self.assertEqual((sweeper.swept, len(self.engine.store._keyspaces[DATA].tables.active)), (1, 0))

    def test_the_journal_is_freed_of_what_was_swept_a_minute_after_the_last_checkpoint(self) -> None:
        self.engine.put(b"k", b"v")
        self.engine.clock.advance(7.5)
        self.engine.checkpoint()
        self.engine.put(b"k", b"v", ttl_ms=1)
        checkpoints = self.engine.store.figures().checkpoints
        begun = self.engine.clock.seconds()
        while self.engine.store.figures().checkpoints == checkpoints:
            self.engine.clock.advance(0.5)
        self.assertEqual(self.engine.clock.seconds() - begun, PURGE_SECONDS)
        self.engine.clock.pump([0.5] * 200)
        self.assertEqual(self.engine.store.figures().checkpoints, checkpoints + 1, "nothing was swept since")

    def test_a_full_disk_is_logged_when_it_fills_and_when_there_is_space_again(self) -> None:
        for full, said in ((False, ""), (True, "full"), (True, ""), (False, "free"), (False, ""), (True, "full")):
            self.patch(self.space, "full", full)
            with capturedLogs() as events:
                self.housekeeping._disk_space_seen(None)
            lines = [formatEvent(event) for event in events]
            self.assertEqual(len(lines), bool(said))
            self.assertTrue(all(said in line for line in lines), lines)

    def test_a_start_on_a_full_disk_says_so(self) -> None:
        look = type(self.space).look

        def full(space: object) -> None:
            look(space)  # type: ignore[arg-type]
            space.full = True  # type: ignore[attr-defined]

        self.patch(type(self.space), "look", full)
        with capturedLogs() as events:
            self.engine.reopen()
        self.assertIn("the disk is full", " ".join(map(formatEvent, events)))

    def test_the_disk_is_looked_at_while_it_is_short(self) -> None:
        looks: list[None] = []
        self.patch(self.space, "look", lambda: looks.append(None))
        for free, size, logged, count in ((10, 5, False, 0), (9, 5, False, 1), (10, 5, True, 1)):
            self.patch(self.space, "free", free)
            self.patch(self.space, "size", size)
            self.patch(self.housekeeping, "_logged_full", logged)
            looks.clear()
            self.engine.clock.advance(1.0)
            self.assertEqual(len(looks), count, (free, size, logged))

    def test_a_look_that_fails_is_logged(self) -> None:
        self.patch(self.space, "look", lambda: 1 // 0)
        self.patch(self.space, "free", 0)
        self.patch(self.space, "size", 1)
        self.engine.clock.advance(1.0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_room_is_made_unless_that_would_be_useless(self) -> None:
        made: list[None] = []
        self.patch(self.housekeeping, "_space_made", lambda: made.append(None))
        commit = self.engine.storage.commit
        seconds = self.engine.clock.seconds()
        share = 800 // len(PIECES)
        for size, tried_at, journal, made_at, expected in (
            (0, 0, 10**9, 0.0, False),
            (800, commit.assigned, 10**9, 0.0, False),
            (800, 99, share, seconds, True),
            (800, 99, share - 1, seconds, False),
            (800, 99, share - 1, seconds - MAKE_SPACE_SECONDS, True),
            (800, 99, share - 1, seconds - MAKE_SPACE_SECONDS + 0.01, False),
        ):
            self.patch(self.space, "size", size)
            self.patch(self.housekeeping, "_tried_at", tried_at)
            self.patch(self.housekeeping, "_made_space", made_at)
            self.patch(commit, "journal_bytes", journal)
            self.assertIs(commit.on_no_space(), expected)
            self.assertEqual(len(made), expected)
            made.clear()

    def test_what_a_tick_begins(self) -> None:
        begun: list[str] = []
        housekeeping = self.housekeeping
        checkpointer: Any = SimpleNamespace(begin=lambda: begun.append("checkpoint"))
        self.patch(housekeeping, "_checkpointer", checkpointer)
        self.patch(housekeeping, "_space_made", lambda: begun.append("space"))
        self.patch(housekeeping._compactor, "begin", lambda: begun.append("compaction"))
        self.patch(housekeeping, "_look_at_disk_space", lambda: None)
        self.patch(housekeeping, "_all_in_pages", lambda: self.paged)
        assigned = self.engine.storage.commit.assigned
        nothing = {"full": False, "failing": False, "tried": False, "replayed": False, "scarce": False, "paged": False}
        for case, expected in (
            ({}, []),
            ({"full": True}, ["space"]),
            ({"full": True, "tried": True}, ["space"]),
            ({"full": True, "failing": True}, ["space"]),
            ({"full": True, "failing": True, "tried": True}, ["checkpoint"]),
            ({"failing": True}, ["checkpoint"]),
            ({"replayed": True}, ["checkpoint"]),
            ({"scarce": True}, ["checkpoint"]),
            ({"scarce": True, "paged": True}, []),
        ):
            now = {**nothing, **case}
            self.paged, checkpointer.failing = now["paged"], now["failing"]
            self.patch(self.space, "full", now["full"])
            self.patch(self.space, "size", 10)
            self.patch(self.space, "free", 0 if now["scarce"] else 10**9)
            self.patch(housekeeping, "_tried_at", assigned if now["tried"] else assigned - 1)
            self.patch(housekeeping, "_replayed", now["replayed"])
            for again in (False, True):
                begun.clear()
                self.engine.clock.advance(1.0)
                once = again and "replayed" in case
                self.assertEqual(begun, [*([] if once else expected), "compaction"], case)

    def test_what_a_write_waits_for_on_a_full_disk(self) -> None:
        made: Deferred[None] = Deferred()
        housekeeping = self.housekeeping
        checkpointer: Any = SimpleNamespace(
            memtables_are_full=lambda more=0: self.full_memory if more else False, failing=False
        )
        self.patch(housekeeping, "_checkpointer", checkpointer)
        self.patch(housekeeping, "_space_made", lambda: made)
        self.patch(self.space, "_most", 1)
        self.patch(self.space, "full", True)
        assigned = self.engine.storage.commit.assigned
        remove, write = [Delete(DATA, b"k")], [put(b"k", b"v")]
        for operations, making, low, memory, tried, waits in (
            (write, False, False, False, False, False),
            (write, True, False, False, False, True),
            (write, False, True, True, False, False),
            (remove, False, False, False, False, False),
            (remove, True, False, False, False, False),
            (remove, True, True, False, False, True),
            (remove, False, True, False, False, True),
            (remove, False, True, False, True, False),
            (remove, False, False, True, False, True),
            (remove, False, False, True, True, False),
        ):
            self.full_memory = memory
            self.patch(housekeeping, "_making_space", made if making else None)
            self.patch(self.space, "_pieces", [] if low else list(PIECES))
            self.patch(housekeeping, "_tried_at", assigned if tried else assigned - 1)
            expected = made if waits else None
            self.assertIs(housekeeping.wait_before(operations), expected, (operations, making, low, memory, tried))

    def test_what_a_write_waits_for_where_memory_is_full(self) -> None:
        runs: Deferred[None] = Deferred()
        clearing: Deferred[None] = Deferred()
        begun: list[None] = []
        housekeeping = self.housekeeping
        checkpointer: Any = SimpleNamespace(
            memtables_are_full=lambda more=0: len(begun) < self.full_until,
            begin=lambda: begun.append(None),
            run=lambda: runs,
            wait_before_clear=lambda: self.clearing,
        )
        self.patch(housekeeping, "_checkpointer", checkpointer)
        write, clear = put(b"k", b"v"), Clear(DATA)
        for operations, full_until, failing, freezes, expected in (
            ([write], 0, False, False, None),
            ([write], 1, False, False, None),  # the checkpoint that begins frees it
            ([write], 2, False, False, runs),
            ([write], 2, True, False, StoreUnavailable),
            ([clear], 2, True, False, None),
            ([clear], 0, False, True, clearing),
            ([write, clear], 2, False, False, runs),
            ([write, clear], 0, False, True, clearing),
        ):
            begun.clear()
            self.full_until, checkpointer.failing = full_until, failing
            self.clearing = clearing if freezes else None
            if expected is StoreUnavailable:
                self.assertRaises(StoreUnavailable, housekeeping.wait_before, operations)
            else:
                self.assertIs(housekeeping.wait_before(operations), expected, (operations, full_until))
        self.patch(self.engine.storage.commit, "unsynced", housekeeping._limits.unsynced)
        waiting = housekeeping.wait_before([write])
        assert waiting is not None
        self.assertIsNone(self.successResultOf(waiting), "it is settled, and asks again")

    def test_pages_that_are_gone_leave_the_cache(self) -> None:
        discarded: list[int] = []
        self.patch(self.housekeeping._cache, "discard", discarded.append)
        swept = self.housekeeping._sweeper
        swept.swept = 5
        self.engine.clock.advance(0.5)
        self.housekeeping._after_checkpoint({3, 7})
        self.assertEqual((sorted(discarded), swept.swept, self.housekeeping._checkpointed), ([3, 7], 0, 0.5))

    def test_a_checkpoint_on_a_full_disk_goes_on_making_room_until_the_store_stops(self) -> None:
        made: list[None] = []
        self.patch(self.housekeeping, "_space_made", lambda: made.append(None))
        for full, stopped, count in ((False, False, 0), (True, False, 1), (True, True, 0)):
            self.patch(self.space, "full", full)
            if stopped:
                self.housekeeping._next.cancel()
            made.clear()
            self.housekeeping._after_checkpoint(set())
            self.assertEqual(len(made), count)

    def test_a_stop_ends_all_that_runs(self) -> None:
        making: Deferred[None] = Deferred()
        making.addErrback(lambda failure: failure.trap(CancelledError))
        stopped: list[str] = []
        self.patch(self.housekeeping, "_making_space", making)
        self.patch(self.housekeeping._compactor, "stop", lambda: stopped.append("compactor"))
        self.patch(self.housekeeping._checkpointer, "stop", lambda: stopped.append("checkpointer"))
        self.successResultOf(Deferred.fromCoroutine(self.housekeeping.stop()))
        self.assertEqual((sorted(stopped), making.called), (["checkpointer", "compactor"], True))

    def test_a_stop_tries_a_checkpoint_once(self) -> None:
        self.engine.put(b"k", b"v")
        self.engine.disk.fail("create", errno.EIO, path="pages", times=9)  # type: ignore[attr-defined]
        self.successResultOf(Deferred.fromCoroutine(self.housekeeping.stop()))
        self.assertEqual(self.engine.store.figures().failed_checkpoints, 1)

    def test_a_stop_goes_on_until_all_is_in_pages(self) -> None:
        runs: list[None] = []
        self.patch(self.housekeeping, "_all_in_pages", lambda: len(runs) == 3)

        async def run() -> None:
            runs.append(None)

        self.patch(self.housekeeping._checkpointer, "run", run)
        self.successResultOf(Deferred.fromCoroutine(self.housekeeping.stop()))
        self.assertEqual(len(runs), 3)

    def test_attempts_to_make_room_are_one_for_all_that_wait(self) -> None:
        runs: list[Deferred[None]] = []

        async def thin_all() -> None:
            runs.append(Deferred())
            await runs[-1]

        self.patch(self.housekeeping._compactor, "thin_all", thin_all)
        self.engine.put(b"k", b"v")
        first, second = self.housekeeping._space_made(), self.housekeeping._space_made()
        self.assertEqual((len(runs), self.engine.store.figures().checkpoints), (1, 1))
        self.engine.clock.advance(0.5)
        runs[0].callback(None)
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual(self.housekeeping._made_space, 0.5)
        third = self.housekeeping._space_made()
        self.assertEqual((len(runs), self.engine.store.figures().checkpoints), (2, 1), "all is in pages")
        runs[1].errback(ZeroDivisionError())
        self.successResultOf(third)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_checkpoint_that_failed_is_tried_once_more_after_thinning(self) -> None:
        self.engine.put(b"k", b"v")
        self.engine.disk.fail("create", errno.ENOSPC, path="pages")  # type: ignore[attr-defined]
        self.successResultOf(self.housekeeping._space_made())
        figures = self.engine.store.figures()
        self.assertEqual((figures.failed_checkpoints, figures.checkpoints), (1, 1))

    def test_the_index_of_pages_takes_its_memory_from_the_cache(self) -> None:
        cache = self.housekeeping._cache
        self.assertEqual(cache.limit, 100_000)
        for number in range(20):
            self.engine.put(b"%02d" % number, bytes(60))
        self.engine.checkpoint()
        [run] = self.engine.store._keyspaces[DATA].tables.runs
        index = sum(INDEX_COST + len(ref.first) + len(ref.stop or b"") for ref in run.pages)
        self.assertGreater(len(run.pages), 5)
        self.assertEqual(cache.limit, 100_000 - index)
        self.engine.reopen()
        self.assertEqual(self.engine.store.housekeeping._cache.limit, 100_000 - index)
        for limit in (1000, 400):
            self.patch(self.engine.store.housekeeping, "_limits", Limits(pages=limit))
            self.engine.store.housekeeping._pages_changed(set())
            self.assertEqual(self.engine.store.housekeeping._cache.limit, limit // 4)

    def test_a_stop_gives_up_its_checkpoint_after_two_and_a_half_seconds(self) -> None:
        self.engine.put(b"k", b"v")
        given_up: list[None] = []
        checkpointer = self.housekeeping._checkpointer
        self.patch(checkpointer, "run", lambda: Deferred())
        self.patch(checkpointer, "give_up", lambda: given_up.append(None))
        stopping = Deferred.fromCoroutine(self.housekeeping.stop())
        for seconds, count in ((2.4, 0), (0.1, 1), (10.0, 1)):
            with capturedLogs() as events:
                self.engine.clock.advance(seconds)
            self.assertEqual(len(given_up), count)
            self.assertEqual(len(events), seconds == 0.1)
        self.assertNoResult(stopping)

    def test_a_stop_in_time_leaves_nothing_to_be_called(self) -> None:
        self.engine.put(b"k", b"v")
        self.successResultOf(Deferred.fromCoroutine(self.housekeeping.stop()))
        self.assertEqual(self.engine.clock.getDelayedCalls(), [])
