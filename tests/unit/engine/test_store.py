"""What `IStore` promises: transactions that happen whole, reads that see nothing a crash could take back, bounded slices."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from kvtwist.engine import Limits
from kvtwist.engine.store import GATHERING
from kvtwist.model import (
    DATA,
    HISTORY,
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
    Range,
    Record,
    Room,
    StoreUnavailable,
    TooMuchToRead,
    Unchanged,
    UnchangedSince,
    Usage,
)
from tests.support.engine import (
    Engine,
    EngineCase,
    FaultyDisk,
    SteppedWorker,
    failure_of,
    finish,
    put,
    result_of,
    whole_scan,
)


class TransactionTests(EngineCase):
    def test_what_was_put_is_there_with_all_that_belongs_to_it(self) -> None:
        self.engine.put(b"k", b"\x00\xff", ttl_ms=500)
        record = result_of(self.engine.store.get(DATA, b"k"))
        now_ms = int(self.engine.wall * 1000)
        self.assertEqual(record, Record(b"\x00\xff", "application/octet-stream", 1, now_ms, now_ms + 500))

    def test_revisions_count_the_transactions_that_wrote(self) -> None:
        self.engine.do(put(b"a", b"1"), put(b"b", b"1"))
        self.engine.do(Get(DATA, b"a"))
        self.engine.do(put(b"c", b"1"), conditions=[Exists(DATA, b"no")])
        self.engine.do()
        self.engine.put(b"d", b"1")
        self.assertEqual([(key, r.revision) for key, r in self.engine.records()], [(b"a", 1), (b"b", 1), (b"d", 2)])

    def test_operations_happen_in_their_order(self) -> None:
        self.engine.put(b"k", b"0")
        outcome = self.engine.do(
            Get(DATA, b"k"),
            put(b"k", b"1"),
            Get(DATA, b"k"),
            Delete(DATA, b"k"),
            Get(DATA, b"k"),
            put(b"k", b"2"),
            put(b"other", b"2"),
            Clear(DATA),
            Get(DATA, b"other"),
            put(b"k", b"3"),
            Get(DATA, b"k"),
        )
        self.assertTrue(outcome.committed)
        self.assertEqual(
            [result and result.value for result in outcome.results],
            [b"0", None, b"1", None, None, None, None, None, None, None, b"3"],
        )
        self.assertEqual(self.engine.items(), [(b"k", b"3")])

    def test_operations_happen_in_their_order_when_a_page_holds_what_was_there(self) -> None:
        self.engine.put(b"k", b"0")
        self.engine.checkpoint()
        self.engine.put(b"other", b"0" * 100)
        self.engine.checkpoint()
        outcome = self.engine.do(Get(DATA, b"k"), Delete(DATA, b"k"), Get(DATA, b"k"), Clear(DATA), Get(DATA, b"other"))
        self.assertEqual([result and result.value for result in outcome.results], [b"0", None, None, None, None])
        self.assertEqual(self.engine.items(), [])

    def test_conditions_decide_over_all_of_it(self) -> None:
        self.engine.put(b"here", b"1")
        self.engine.put(b"here", b"2")
        cases: list[tuple[Sequence[Condition], bool]] = [
            ([], True),
            ([Exists(DATA, b"here")], True),
            ([Exists(DATA, b"gone")], False),
            ([Exists(STAGED, b"here")], False),
            ([Unchanged(DATA, b"here", 2)], True),
            ([Unchanged(DATA, b"here", 1)], False),
            ([Unchanged(DATA, b"here", 0)], False),
            ([Unchanged(DATA, b"gone", 0)], True),
            ([Unchanged(DATA, b"gone", 2)], False),
            ([Exists(DATA, b"here"), Unchanged(DATA, b"here", 2), Unchanged(DATA, b"gone", 0)], True),
            ([Exists(DATA, b"here"), Unchanged(DATA, b"gone", 1)], False),
        ]
        for checkpoints in (False, True):
            for conditions, holds in cases:
                outcome = self.engine.do(put(b"result", b"1"), Get(DATA, b"here"), conditions=conditions)
                self.assertEqual((outcome.committed, len(outcome.results)), (holds, 2 if holds else 0), conditions)
                self.assertEqual(self.engine.get(b"result"), b"1" if holds else None)
                self.engine.delete(b"result")
                if checkpoints:
                    self.engine.checkpoint()

    def test_a_condition_may_be_about_a_whole_keyspace(self) -> None:
        def holds(revision: int, keyspace: str = DATA) -> bool:
            return self.engine.do(conditions=[UnchangedSince(keyspace, revision)]).committed

        self.assertTrue(holds(0))
        self.engine.put(b"k", b"1")
        self.engine.put(b"k", b"1", keyspace=STAGED)
        self.engine.delete(b"none")
        self.assertEqual([holds(revision) for revision in range(5)], [False, False, False, True, True])
        self.assertEqual([holds(revision, STAGED) for revision in range(5)], [False, False, True, True, True])
        for _ in range(2):
            self.engine.checkpoint()
            self.engine.reopen()
            self.assertEqual([holds(revision) for revision in (2, 3, 4)], [False, True, True])
        self.engine.do(Clear(DATA))
        self.assertEqual([holds(revision) for revision in (3, 4)], [False, True])

    def test_what_was_taken_back_has_changed_no_keyspace(self) -> None:
        disk = self.engine.disk
        assert isinstance(disk, FaultyDisk)
        self.engine.put(b"k", b"1")
        disk.fail("write", errno.ENOSPC)
        self.failureResultOf(self.engine.store.transact([], [put(b"k", b"2")]), NoRoom)
        revision = result_of(self.engine.store.scan(DATA)).revision
        self.assertTrue(self.engine.do(conditions=[UnchangedSince(DATA, revision)]).committed)

    def test_a_slice_tells_the_revision_that_it_shows(self) -> None:
        for number in range(3):
            self.assertEqual(result_of(self.engine.store.scan(DATA)).revision, number)
            self.engine.put(b"k", b"1")
        self.engine.checkpoint()
        self.engine.reopen()
        for limit in (1, 1000):
            self.assertEqual(result_of(self.engine.store.scan(DATA, limit=limit)).revision, 3)

    def test_there_is_room_for_as_much_as_the_limit(self) -> None:
        self.engine.put(b"old", b"12345", keyspace=STAGED)
        for key, size, fits in (
            (b"new", 2, True),  # 8 + 5 bytes, and twice 10
            (b"new", 3, False),
            (b"old", 20, True),  # it takes the place of the old one
            (b"old", 21, False),
        ):
            limit = 33
            room = Room(STAGED, key, size, 10, limit)
            self.assertIs(self.engine.do(Get(DATA, b"k"), conditions=[room]).committed, fits, (key, size))

    def test_a_keyspace_is_unchanged_only_if_nothing_was_taken_back_since(self) -> None:
        self.engine.put(b"k", b"1")
        for revision, rollbacks, holds in (
            (1, None, True),
            (0, None, False),
            (1, 0, True),
            (1, 1, False),
            (2, 0, True),
        ):
            unchanged = UnchangedSince(DATA, revision, rollbacks)
            self.assertIs(self.engine.do(conditions=[unchanged]).committed, holds, (revision, rollbacks))

    def test_conditions_see_what_was_there_before_the_operations(self) -> None:
        self.assertTrue(self.engine.do(put(b"k", b"1"), conditions=[Unchanged(DATA, b"k", 0)]).committed)
        self.assertFalse(self.engine.do(put(b"k", b"2"), conditions=[Unchanged(DATA, b"k", 0)]).committed)

    def test_appended_records_sort_in_the_order_of_their_transactions(self) -> None:
        for number in range(20):
            self.engine.do(Append(HISTORY, b"k\0", b"%d" % number, "text/plain"))
            if number % 3 == 0:
                self.engine.clock.advance(0.0005)
            if number % 7 == 0:
                self.engine.wall -= 100
            if number % 5 == 0:
                self.engine.checkpoint()
            if number == 10:
                self.engine.reopen()
        records = self.engine.records(HISTORY)
        self.assertEqual([r.value for _, r in records], [b"%d" % n for n in range(20)])
        for key, record in records:
            self.assertEqual(key, b"k\0" + struct.pack(">QQ", record.modified_ms, record.revision))

    def test_keyspaces_are_apart(self) -> None:
        for keyspace in (DATA, STAGED, HISTORY):
            self.engine.put(b"k", keyspace.encode(), keyspace=keyspace)
        self.engine.do(Clear(STAGED))
        self.engine.checkpoint()
        self.assertEqual(self.engine.items(DATA), [(b"k", b"data")])
        self.assertEqual(self.engine.items(STAGED), [])
        self.assertEqual(self.engine.items(HISTORY), [(b"k", b"history")])

    def test_a_key_that_no_page_can_hold_is_refused_at_once(self) -> None:
        # Or else no checkpoint would ever succeed again.
        for size in (0xFFFF, 0x10000, 70_000):
            done = self.engine.store.transact([], [put(b"k" * size, b"v")])
            refused: list[object] = []
            done.addErrback(refused.append)
            self.assertEqual(self.engine.items(), [] if refused else [(b"k" * size, b"v")])
            self.engine.checkpoint()
            self.flushLoggedErrors()
            self.assertEqual(self.engine.store.figures().failed_checkpoints, 0)
            self.engine.do(Clear(DATA))

    def test_any_bytes_make_a_key(self) -> None:
        keys = sorted([b"", b"\0", b"\0\0", b"\xff", b"\xff" * 9, b"a/b", "é".encode(), b"k" * 5000])
        for key in keys:
            self.engine.put(key, key)
        for _ in range(2):
            self.assertEqual(self.engine.items(), [(key, key) for key in keys])
            self.assertEqual([self.engine.get(key) for key in keys], keys)
            self.engine.checkpoint()


class ScanTests(EngineCase):
    def setUp(self) -> None:
        super().setUp()
        # In pages, in the memtable, in both, and removed again.
        for number in range(40):
            self.engine.put(b"%02d" % number, b"old")
        self.engine.checkpoint()
        for number in range(0, 40, 4):
            self.engine.delete(b"%02d" % number)
        for number in range(1, 60, 2):
            self.engine.put(b"%02d" % number, b"new")
        self.there = [(b"%02d" % n, b"new" if n % 2 else b"old") for n in range(60) if n % 2 or (n < 40 and n % 4)]

    def scan(
        self, start: bytes = b"", stop: bytes | None = None, limit: int = 1000, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        found = whole_scan(self.engine.store, DATA, start, stop, limit, reverse)
        return [(key, record.value) for key, record in found]

    def test_ranges_are_half_open_and_slices_join_without_gap_or_overlap(self) -> None:
        bounds: list[tuple[bytes, bytes | None]] = [
            (b"", None),
            (b"10", None),
            (b"", b"30"),
            (b"11", b"29"),
            (b"12", b"13"),
            (b"13", b"13"),
            (b"30", b"10"),
            (b"", b""),
            (b"99", None),
            (b"115", b"295"),
        ]
        for start, stop in bounds:
            expected = [(k, v) for k, v in self.there if start <= k and (stop is None or k < stop)]
            for limit in (1, 2, 7, 1000):
                self.assertEqual(self.scan(start, stop, limit), expected)
                self.assertEqual(self.scan(start, stop, limit, reverse=True), expected[::-1])

    def test_a_slice_holds_at_most_so_many_records(self) -> None:
        for reverse in (False, True):
            piece = result_of(self.engine.store.scan(DATA, limit=5, reverse=reverse))
            self.assertEqual(len(piece.items), 5)
            self.assertIsNotNone(piece.resume)

    def test_a_slice_holds_a_thousand_records_unless_it_is_told(self) -> None:
        self.engine.do(*(put(b"%04d" % number, b"", keyspace=STAGED) for number in range(1001)))
        found = result_of(self.engine.store.scan(STAGED))
        self.assertEqual((len(found.items), found.resume), (1000, b"0999\0"))

    def test_the_last_slice_says_so(self) -> None:
        self.assertIsNone(result_of(self.engine.store.scan(DATA, limit=len(self.there))).resume)
        self.assertIsNone(result_of(self.engine.store.scan(STAGED)).resume)

    def test_it_sees_what_a_running_checkpoint_has_frozen(self) -> None:
        worker = SteppedWorker()
        self.engine.storage.page_worker = worker
        done = self.engine.store.housekeeping.checkpoint()
        self.engine.put(b"00", b"newest")
        self.engine.delete(b"59")
        expected = [(b"00", b"newest"), *self.there[:-1]]
        while worker:
            scan = self.engine.store.scan(DATA)
            worker.finish()
            self.assertEqual([(k, r.value) for k, r in result_of(scan).items], expected)
        self.successResultOf(done)
        self.engine.storage.page_worker = self.engine.pages
        self.assertEqual(self.scan(), expected)


class SliceLimitTests(EngineCase):
    def make_engine(self) -> Engine:
        return Engine(self.path / "store", limits=Limits(slice_bytes=1000, slice_entries=10, pages=1))

    def test_a_slice_ends_after_so_many_bytes(self) -> None:
        for number in range(20):
            self.engine.put(b"%02d" % number, bytes(400))
        for _ in range(2):
            for reverse in (False, True):
                piece = result_of(self.engine.store.scan(DATA, reverse=reverse))
                self.assertEqual(len(piece.items), 2, "a third would be too much")
                self.assertEqual(len(self.engine.records(reverse=reverse)), 20)
            self.engine.checkpoint()

    def test_a_slice_holds_what_just_fits(self) -> None:
        for key, size in ((b"a", 499), (b"b", 499), (b"c", 1), (b"d", 998), (b"e", 999), (b"f", 1), (b"g", 1)):
            self.engine.put(key, bytes(size))
        for reverse, slices in (False, [b"ab", b"c", b"d", b"e", b"fg"]), (True, [b"gf", b"e", b"d", b"cb", b"a"]):
            found, start, stop = [], b"", None
            for _ in slices:
                piece = result_of(self.engine.store.scan(DATA, start, stop, reverse=reverse))
                found.append(b"".join(key for key, _ in piece.items))
                start, stop = (start, piece.resume) if reverse else (piece.resume or b"", stop)
            self.assertEqual(found, slices)
            self.assertIsNone(piece.resume)

    def test_a_record_larger_than_that_comes_alone(self) -> None:
        for key in (b"a", b"b", b"c"):
            self.engine.put(key, bytes(5000))
        piece = result_of(self.engine.store.scan(DATA))
        self.assertEqual([key for key, _ in piece.items], [b"a"])
        self.assertEqual(len(self.engine.items()), 3)

    def test_a_slice_ends_after_looking_at_so_many_removed_records(self) -> None:
        for number in range(35):
            self.engine.put(b"%02d" % number, b"")
        self.engine.checkpoint()
        for number in range(34):
            self.engine.delete(b"%02d" % number)
        piece = result_of(self.engine.store.scan(DATA))
        self.assertEqual(list(piece.items), [])
        self.assertIsNotNone(piece.resume)
        for reverse in (False, True):
            self.assertEqual([key for key, _ in self.engine.records(reverse=reverse)], [b"34"])


class LargeValueTests(EngineCase):
    """However many ask for a large value that is in a page, there is one of it in memory."""

    def make_engine(self) -> Engine:
        return Engine(self.path / "store", limits=Limits(slice_bytes=2**20))

    def test_all_get_the_same_object(self) -> None:
        self.engine.put(b"a", b"small")
        self.engine.put(b"b", bytes(2**20))
        self.engine.checkpoint()
        self.engine.reopen()
        store = self.engine.store
        found = [result_of(store.get(DATA, b"b")) for _ in range(3)]
        found += result_of(store.transact([], [Get(DATA, b"b")])).results
        found += [
            record for reverse in (False, True) for key, record in self.engine.records(reverse=reverse) if key == b"b"
        ]
        self.assertEqual(len(found), 6)
        self.assertEqual(len({id(record.value) for record in found if record}), 1)
        held = sum(len(page._data) for page in store._cache._pages.values()) + 2**20
        self.assertLessEqual(held, store._cache.size)
        self.assertLess(store._cache.size, 2**20 + 2000)


class PageMissTests(EngineCase):
    """Everything is in pages, none of them in memory, and the test decides when one is read."""

    def make_engine(self) -> Engine:
        self.page_jobs = SteppedWorker()
        return Engine(self.path / "store", pages=self.page_jobs, limits=Limits(pages=1))

    def setUp(self) -> None:
        super().setUp()
        for number in range(10):
            self.engine.put(b"%d" % number, b"%d" % number * 60)
        self.checkpoint()

    def checkpoint(self) -> None:
        done = self.engine.store.housekeeping.checkpoint()
        self.page_jobs.finish()
        result_of(done)

    def finished(self, deferred: Deferred[Outcome]) -> Outcome:
        self.page_jobs.finish()
        return result_of(deferred)

    def test_few_transactions_gather_records_at_a_time(self) -> None:
        for returning, is_limited in ((Get, True), (Peek, False)):
            pending = [self.engine.store.transact([], [returning(DATA, b"%d" % number)]) for number in range(10)]
            self.assertEqual(len(self.page_jobs) == GATHERING, is_limited)
            found = [self.finished(done).record(0) for done in pending]
            self.assertTrue(all(record is not None for record in found))

    def test_a_record_in_memory_that_is_durable_is_read_without_delay(self) -> None:
        self.engine.put(b"5", b"new")
        self.patch(self.engine.store._reads, "get", lambda keyspace, key: self.fail("it takes longer"))
        record = self.successResultOf(self.engine.store.get(DATA, b"5"))
        self.assertEqual(record and record.value, b"new")

    def test_only_the_pages_of_one_key_are_kept_while_others_are_read(self) -> None:
        pinned: list[int] = []
        look_up = self.engine.store._loader.look_up

        async def counted(look: Callable[[], object], pages: Any) -> object:
            pinned.append(len(pages.pages))
            return await look_up(look, pages)

        self.patch(self.engine.store._loader, "look_up", counted)
        gets = [Get(DATA, b"%d" % number) for number in range(10)]
        self.finished(self.engine.store.transact([], gets))
        self.assertEqual(pinned, [0] * 11)

    def test_a_get_waits_for_its_page(self) -> None:
        for number in range(10):
            got = self.engine.store.get(DATA, b"%d" % number)
            self.assertNoResult(got)
            self.page_jobs.step()
            record = self.successResultOf(got)
            assert record is not None
            self.assertEqual(record.value, b"%d" % number * 60)

    def test_a_key_before_all_pages_is_known_to_be_missing(self) -> None:
        self.assertIsNone(self.successResultOf(self.engine.store.get(DATA, b"")))

    def test_reads_of_one_page_share_one_read_from_disk(self) -> None:
        gets = [self.engine.store.get(DATA, key) for key in (b"3", b"3", b"30")]
        self.assertEqual(len(self.page_jobs), 1)
        self.page_jobs.step()
        self.assertEqual([record and record.revision for record in map(result_of, gets)], [4, 4, None])

    def test_a_page_in_memory_is_read_at_once(self) -> None:
        got = self.engine.store.get(DATA, b"5")
        self.page_jobs.finish()
        result_of(got)
        self.assertIsNotNone(self.successResultOf(self.engine.store.get(DATA, b"5")))

    def test_a_transaction_that_asks_waits_for_every_page_that_it_asks_for(self) -> None:
        reads: list[Operation] = [Get(DATA, b"%d" % number) for number in range(10)]
        outcome = self.finished(self.engine.store.transact([Unchanged(DATA, b"9", 10)], [*reads, put(b"0", b"new")]))
        self.assertEqual([r and r.value[:1] for r in outcome.results], [*(b"%d" % n for n in range(10)), None])

    def test_a_transaction_that_asks_nothing_waits_for_no_page(self) -> None:
        self.successResultOf(self.engine.store.transact([], [put(b"4", b"new"), Delete(DATA, b"5")]))
        self.assertEqual(len(self.page_jobs), 0)

    def test_a_get_sees_what_was_written_while_its_page_was_read(self) -> None:
        got = self.engine.store.get(DATA, b"3")
        self.engine.put(b"3", b"new")
        self.page_jobs.finish()
        record = self.successResultOf(got)
        assert record is not None
        self.assertEqual(record.value, b"new")

    def test_a_get_sees_that_all_was_cleared_while_its_page_was_read(self) -> None:
        got = self.engine.store.get(DATA, b"3")
        self.engine.do(Clear(DATA))
        self.page_jobs.finish()
        self.assertIsNone(self.successResultOf(got))

    def test_a_condition_is_checked_against_what_was_written_while_its_page_was_read(self) -> None:
        change = self.engine.store.transact([Unchanged(DATA, b"3", 4)], [put(b"3", b"mine")])
        self.engine.put(b"3", b"theirs")
        self.assertFalse(self.finished(change).committed)
        self.assertEqual(self.engine.get(b"3"), b"theirs")

    def test_a_scan_sees_that_all_was_cleared_while_a_page_was_read(self) -> None:
        scan = self.engine.store.scan(DATA)
        for _ in range(3):
            self.page_jobs.step()
        self.engine.do(Clear(DATA), put(b"5", b"new"))
        self.page_jobs.finish()
        self.assertEqual([key for key, _ in self.successResultOf(scan).items], [b"5"])

    def test_a_read_goes_on_over_a_checkpoint_that_replaces_its_pages(self) -> None:
        for reads_before in range(4):
            for number in range(10):
                self.engine.put(b"%d" % number, b"%d" % reads_before * 70)
            scan = self.engine.store.scan(DATA)
            for _ in range(reads_before):
                self.page_jobs.step()
            got = self.engine.store.get(DATA, b"7")
            self.checkpoint()
            self.assertEqual([r.value[:1] for _, r in self.successResultOf(scan).items], [b"%d" % reads_before] * 10)
            self.assertIsNotNone(self.successResultOf(got))

    def test_a_cancelled_read_lets_others_have_the_page(self) -> None:
        first = self.engine.store.get(DATA, b"3")
        second = self.engine.store.get(DATA, b"3")
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.page_jobs.finish()
        self.assertIsNotNone(self.successResultOf(second))

    def test_a_transaction_that_is_cancelled_before_it_was_accepted_does_nothing(self) -> None:
        change = self.engine.store.transact([Exists(DATA, b"3")], [put(b"3", b"new")])
        change.cancel()
        self.failureResultOf(change, CancelledError)
        self.page_jobs.finish()
        got = self.engine.store.get(DATA, b"3")
        self.page_jobs.finish()
        record = result_of(got)
        assert record is not None
        self.assertEqual(record.value, b"3" * 60)

    def test_whoever_waits_for_a_page_when_the_store_closes_gets_an_answer(self) -> None:
        reads: list[Operation] = [Get(DATA, b"%d" % number) for number in range(10)]
        waiting: list[Deferred[Any]] = [
            self.engine.store.get(DATA, b"3"),
            self.engine.store.scan(DATA),
            self.engine.store.transact([], [*reads, put(b"3", b"new")]),
        ]
        answers: list[object] = []
        for deferred in waiting:
            deferred.addBoth(answers.append)
        closed = self.engine.close()
        self.page_jobs.finish()
        self.successResultOf(closed)
        self.assertEqual(len(answers), 3, "a read or a transaction was forgotten")

    def test_a_read_after_the_end_is_answered(self) -> None:
        closed = self.engine.close()
        self.page_jobs.finish()
        self.successResultOf(closed)
        got = self.engine.store.get(DATA, b"3")
        self.failureResultOf(got, StoreUnavailable)


class DurabilityTests(EngineCase):
    """The journal is written when the test says so."""

    def make_engine(self) -> Engine:
        self.journal_jobs = SteppedWorker()
        self.page_jobs = SteppedWorker()
        return Engine(self.path / "store", journal=self.journal_jobs, pages=self.page_jobs, limits=Limits(pages=1))

    def test_a_write_is_answered_once_it_is_durable(self) -> None:
        done = self.engine.store.transact([], [put(b"k", b"v")])
        self.assertNoResult(done)
        self.journal_jobs.step()
        self.assertEqual(self.successResultOf(done), Outcome(True, [None], 1))

    def test_reads_wait_for_what_they_have_seen(self) -> None:
        store = self.engine.store
        changes: list[list[Operation]] = [[put(b"k", b"v")], [Delete(DATA, b"k")], [Clear(DATA)], [put(b"k", b"w", 0)]]
        for change in changes:
            done = store.transact([], change)
            waiting: list[Deferred[Any]] = [
                store.get(DATA, b"k"),
                store.scan(DATA),
                store.transact([Exists(DATA, b"k")], []),
                store.transact([], [Get(DATA, b"k")]),
                store.transact([Unchanged(DATA, b"k", 9)], [put(b"k", b"no")]),
            ]
            for deferred in waiting:
                self.assertNoResult(deferred)
            self.journal_jobs.step()
            for deferred in [done, *waiting]:
                self.successResultOf(deferred)

    def test_a_read_of_something_else_does_not_wait(self) -> None:
        self.engine.store.transact([], [put(b"a", b"1")])
        self.journal_jobs.finish()
        self.engine.store.transact([], [put(b"b", b"1")])
        self.assertIsNotNone(self.successResultOf(self.engine.store.get(DATA, b"a")))
        self.assertIsNone(self.successResultOf(self.engine.store.get(DATA, b"c")))
        self.journal_jobs.finish()

    def test_a_read_waits_for_the_batch_that_gathers_too(self) -> None:
        self.engine.store.transact([], [put(b"a", b"1")])
        self.engine.store.transact([], [put(b"a", b"2")])
        got = self.engine.store.get(DATA, b"a")
        self.journal_jobs.step()
        self.assertNoResult(got)
        self.journal_jobs.step()
        record = self.successResultOf(got)
        assert record is not None
        self.assertEqual(record.value, b"2")

    def test_a_transaction_is_told_of_what_another_has_not_finished(self) -> None:
        first = self.engine.store.transact([], [put(b"a", b"1")])
        second = self.engine.store.transact([Unchanged(DATA, b"a", 1)], [Get(DATA, b"a"), put(b"a", b"2")])
        self.journal_jobs.finish()
        self.successResultOf(first)
        outcome = self.successResultOf(second)
        self.assertEqual([result and result.value for result in outcome.results], [b"1", None])

    def test_a_stopping_store_settles_what_it_has_accepted(self) -> None:
        done = [self.engine.store.transact([], [put(b"%d" % n, b"v")]) for n in range(3)]
        got = self.engine.store.get(DATA, b"2")
        closed = self.engine.close()
        self.failureResultOf(self.engine.store.transact([], [put(b"late", b"v")]), StoreUnavailable)
        finish(self.journal_jobs, self.page_jobs)
        self.successResultOf(closed)
        for deferred in done:
            self.assertTrue(self.successResultOf(deferred).committed)
        self.assertIsNotNone(self.successResultOf(got))
        self.assertEqual(self.engine.reopen().transactions, 0)
        self.assertEqual([key for key, _ in self.engine.items()], [b"0", b"1", b"2"])


class UsageTests(EngineCase):
    def test_it_counts_records_and_bytes(self) -> None:
        usage = lambda: self.engine.store.usage(DATA)  # noqa: E731
        self.assertEqual(usage(), Usage(0, 0))
        self.engine.put(b"ab", b"123")
        self.engine.put(b"c", b"")
        self.assertEqual(usage(), Usage(2, 6))
        self.engine.put(b"ab", b"1")
        self.assertEqual(usage(), Usage(2, 4))
        self.engine.delete(b"c")
        self.engine.delete(b"none")
        self.assertEqual(usage(), Usage(1, 3))
        self.engine.checkpoint()
        self.assertEqual(usage(), Usage(1, 3))
        self.engine.reopen()
        self.assertEqual(usage(), Usage(1, 3))
        self.engine.do(Clear(DATA))
        self.assertEqual(usage(), Usage(0, 0))

    def test_it_is_exact_for_what_was_read_before(self) -> None:
        for number in range(20):
            self.engine.put(b"%02d" % number, bytes(50))
        self.engine.checkpoint()
        for number in range(0, 20, 2):
            key = b"%02d" % number
            self.engine.do(Get(DATA, key), put(key, bytes(10)))
        for number in range(1, 20, 4):
            key = b"%02d" % number
            self.engine.do(Get(DATA, key), Delete(DATA, key))
        self.assertEqual(self.engine.store.usage(DATA), Usage(15, 10 * 12 + 5 * 52))

    def test_a_checkpoint_makes_it_exact(self) -> None:
        for _ in range(2):
            for number in range(20):
                self.engine.put(b"%02d" % number, bytes(50))
            self.engine.checkpoint()
        self.assertEqual(self.engine.store.usage(DATA), Usage(20, 20 * 52))

    def test_figures_tell_what_happened(self) -> None:
        self.engine.put(b"a", b"1")
        self.engine.put(b"b", b"1", keyspace=STAGED)
        figures = self.engine.store.figures()
        self.assertEqual(figures.keyspaces[DATA], Usage(1, 2))
        self.assertEqual(figures.keyspaces[STAGED], Usage(1, 2))
        self.assertEqual((figures.batches, figures.transactions, figures.failed_batches), (2, 2, 0))
        self.assertEqual((figures.checkpoints, figures.checkpointed_ms, figures.read_only), (0, None, False))
        self.assertGreater(figures.journal_bytes, 0)
        self.engine.checkpoint()
        figures = self.engine.store.figures()
        self.assertEqual((figures.checkpoints, figures.failed_checkpoints, figures.journal_bytes), (1, 0, 0))
        self.assertEqual(figures.checkpointed_ms, int(self.engine.wall * 1000))


class CacheTests(EngineCase):
    def make_engine(self) -> Engine:
        return Engine(self.path / "store", limits=Limits(pages=1000))

    def test_pages_in_memory_stay_within_their_limit(self) -> None:
        for number in range(200):
            self.engine.put(b"%03d" % number, bytes(80))
        self.engine.checkpoint()
        for _ in range(2):
            self.assertEqual(len(self.engine.items()), 200)
            self.assertLessEqual(self.engine.store._cache.size, 1000)
        self.engine.do(Clear(DATA))
        self.assertEqual(self.engine.items(), [])


class ResultTests(EngineCase):
    """What the records that one transaction reads may take."""

    def make_engine(self) -> Engine:
        return Engine(self.path / "store", limits=Limits(pages=1, results=100))

    def test_too_much_is_refused_and_nothing_is_done(self) -> None:
        for number in range(3):
            self.engine.put(b"%d" % number, b"v" * 40)
        self.engine.checkpoint()
        gets = [Get(DATA, b"%d" % number) for number in range(3)]
        for operations in ([*gets], [Range(DATA, b"0", b"2"), gets[2]], [gets[0], Range(DATA, b"1", b"3")]):
            done = self.engine.store.transact([], [put(b"new", b""), *operations])
            self.engine.pump()
            self.assertIsInstance(failure_of(done), TooMuchToRead)
        self.assertIsNone(self.engine.get(b"new"))
        self.assertEqual(len(self.engine.do(*gets[:2]).results), 2)
        self.assertEqual(len(self.engine.do(Range(DATA)).results), 1)  # one result may be as large as a slice

    def test_as_much_as_the_limit_is_returned(self) -> None:
        for sizes, fits in (((50, 50), True), ((50, 51), False), ((100, 0), True), ((99, 1, 1), False)):
            operations = [Get(DATA, b"%d" % number) for number in range(len(sizes))]
            for in_pages in (False, True):
                for number, size in enumerate(sizes):
                    self.engine.put(b"%d" % number, b"v" * size)
                if in_pages:
                    self.engine.checkpoint()
                done = self.engine.store.transact([], operations)
                self.engine.pump()
                self.assertEqual(failure_of(done) is None, fits, sizes)

    def test_what_is_read_twice_counts_once_and_a_condition_takes_nothing(self) -> None:
        for in_pages in (False, True):
            self.engine.put(b"a", b"v" * 60)
            self.engine.put(b"large", b"v" * 1000)
            if in_pages:
                self.engine.checkpoint()
            outcome = self.engine.do(Get(DATA, b"a"), Get(DATA, b"a"), conditions=[Exists(DATA, b"large")])
            self.assertEqual([record and len(record.value) for record in outcome.results], [60, 60])  # type: ignore[union-attr]

    def test_a_value_that_a_condition_left_out_is_returned(self) -> None:
        for in_pages in (False, True):
            self.engine.put(b"large", b"v" * 1000)
            if in_pages:
                self.engine.checkpoint()
            for operations in ([Get(DATA, b"large")], [Peek(DATA, b"large"), Get(DATA, b"large")]):
                outcome = self.engine.do(*operations, conditions=[Exists(DATA, b"large")])
                self.assertEqual(outcome.record(len(operations) - 1).value, b"v" * 1000)  # type: ignore[union-attr]

    def test_one_record_may_take_any_size(self) -> None:
        self.engine.put(b"a", b"v" * 1000)
        self.engine.checkpoint()
        self.assertEqual(self.engine.do(Get(DATA, b"a")).record(0).value, b"v" * 1000)  # type: ignore[union-attr]

    def test_a_peek_takes_nothing(self) -> None:
        for number in range(3):
            self.engine.put(b"%d" % number, b"v" * 5000)
        self.engine.checkpoint()
        self.assertTrue(self.engine.do(*(Peek(DATA, b"%d" % number) for number in range(3))).committed)
