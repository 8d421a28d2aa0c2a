"""Watches at the edges: what waits, what is dropped, what expires, and a journal that is removed under a reader."""

from __future__ import annotations

import errno

from twisted.internet.defer import CancelledError, Deferred

from kvtwist.engine import Limits, backlog, changes, expiry
from kvtwist.engine.changes import WATCHED_SECONDS
from kvtwist.engine.expiry import SILENT_SECONDS, TELL_SECONDS
from kvtwist.model import (
    CLEAR,
    DATA,
    DELETE,
    EXPIRE,
    PUT,
    STAGED,
    Changes,
    ChangesGone,
    Clear,
    Delete,
    Event,
    Position,
    StoreUnavailable,
    Watched,
)
from tests.support.engine import Engine, EngineCase, SteppedWorker, failure_of, finish, put, result_of

ALL = Watched(DATA, b"", is_prefix=True)


def told(changes: Changes) -> list[tuple[str, bytes, int]]:
    return [(event.kind, event.key, event.revision) for event in changes.events]


class WatchCase(EngineCase):
    def ask(self, watched: Watched = ALL, after: int = 0, wait: bool = True) -> Deferred[Changes]:
        asked = self.engine.store.changes(watched, Position(after), 1000.0 if wait else 0.0)
        for _ in range(3):
            self.engine.pump()
        return asked

    def answer(self, asked: Deferred[Changes]) -> list[tuple[str, bytes, int]]:
        for _ in range(3):
            self.engine.pump()
        return told(result_of(asked))

    def now(self) -> int:
        return self.engine.storage.commit.durable


class WaitingTests(WatchCase):
    def test_each_kind_of_change_is_told(self) -> None:
        asked = self.ask()
        self.engine.do(put(b"a", b"1"), Delete(DATA, b"a"), Clear(DATA), put(b"s", b"1", keyspace=STAGED))
        found = result_of(asked)
        now_ms = self.engine.now_ms()
        record = dict(self.engine.records(STAGED))[b"s"]
        self.assertEqual(told(found), [(PUT, b"a", 1), (DELETE, b"a", 1), (CLEAR, b"", 1)])
        self.assertEqual(found.events[0].record, record)
        self.assertEqual([event.is_last for event in found.events], [False, False, True])
        self.assertEqual(found.events[1], Event(DELETE, b"a", None, 1, now_ms, False))
        self.assertEqual(found.position, Position(1))

    def test_one_that_waits_hears_only_of_what_it_watches(self) -> None:
        watched = [Watched(DATA, b"ab"), Watched(DATA, b"ab", True), Watched(DATA, b"", True), Watched(STAGED, b"ab")]
        asked = [self.ask(one) for one in watched]
        for key in (b"a", b"b", b"abc", b"ab"):
            self.engine.put(key, b"1")
        self.engine.pump()
        self.assertEqual(self.answer(asked[0]), [(PUT, b"ab", 4)])
        self.assertEqual(self.answer(asked[1])[0], (PUT, b"abc", 3))
        self.assertEqual(self.answer(asked[2])[0], (PUT, b"a", 1))
        self.assertFalse(asked[3].called)
        self.engine.do(Clear(STAGED))
        self.assertEqual(self.answer(asked[3]), [(CLEAR, b"", 5)])

    def test_one_that_leaves_is_forgotten(self) -> None:
        for watched in (ALL, Watched(DATA, b"a"), Watched(DATA, b"a", True)):
            stays, leaves = self.ask(watched, self.now()), self.ask(watched, self.now())
            leaves.cancel()
            self.assertIsInstance(failure_of(leaves), CancelledError)
            self.engine.put(b"a", b"1")
            self.assertEqual(self.answer(stays), [(PUT, b"a", self.now())])
            last = self.ask(watched, self.now())
            last.cancel()
            failure_of(last)
            self.assertFalse(self.engine.store._feed._waiting[DATA])

    def test_a_change_is_told_once_it_is_durable(self) -> None:
        journal = SteppedWorker()
        self.engine.die()
        self.engine.journal = journal
        self.engine.open()
        asked = self.ask()
        done = self.engine.store.transact([], [put(b"a", b"1")])
        self.engine.pump()
        self.assertFalse(asked.called)
        self.assertEqual(result_of(self.ask(wait=False)).events, ())
        finish(journal)
        self.assertTrue(result_of(done).committed)
        self.assertEqual(self.answer(asked), [(PUT, b"a", 1)])

    def test_a_change_that_failed_is_not_told(self) -> None:
        asked = self.ask()
        self.engine.disk.fail("write", errno.ENOSPC, path="journal", times=9)  # type: ignore[attr-defined]
        failure_of(self.engine.store.transact([], [put(b"a", b"1")]))
        self.engine.pump()
        self.assertFalse(asked.called)
        self.engine.disk.heal()  # type: ignore[attr-defined]
        self.engine.put(b"b", b"1")
        self.assertEqual(self.answer(asked), [(PUT, b"b", 1)])

    def test_a_stop_ends_those_who_wait(self) -> None:
        asked = self.ask()
        closing = self.engine.close()
        self.assertIsInstance(failure_of(asked), StoreUnavailable)
        result_of(closing)
        self.assertIsInstance(failure_of(self.ask()), StoreUnavailable)

    def test_a_wait_ends_and_has_gone_on_meanwhile(self) -> None:
        watched = Watched(DATA, b"k")
        asked = self.engine.store.changes(watched, Position(0), 15.0)
        shorter = self.engine.store.changes(watched, Position(0), 2.0)
        for number in range(10):
            self.engine.put(b"%d" % number, b"1")
            self.engine.clock.advance(1.0)
            self.assertEqual(shorter.called, number >= 1, number)
        self.assertEqual(result_of(shorter), Changes((), Position(2)))
        self.assertFalse(asked.called)
        self.engine.clock.pump([0.5] * 12)
        self.assertEqual(result_of(asked), Changes((), Position(10)))
        self.assertFalse(self.engine.store._feed._waiting[DATA])
        self.assertFalse(self.engine.store._feed._queues)

    def test_waits_end_some_at_a_time(self) -> None:
        self.patch(changes, "_WAKE", 3)
        asked = [self.engine.store.changes(ALL, Position(0), 1.0) for _ in range(8)]
        self.engine.clock.rightNow += 2.0
        counts = []
        while not all(one.called for one in asked):
            self.engine.iterate()
            counts.append(sum(one.called for one in asked))
        self.assertEqual(counts, [3, 6, 8])

    def test_a_wait_that_ends_does_not_pass_changes_that_are_being_told(self) -> None:
        self.patch(changes, "LOOK", 1)
        asked = self.engine.store.changes(Watched(DATA, b"k"), Position(0), 1.0)
        self.engine.clock.rightNow += 2.0
        done = self.engine.store.transact([], [put(b"a", b"1"), put(b"b", b"1"), put(b"k", b"1")])
        self.engine.store._feed._look_for_late()
        found = result_of(asked)
        self.assertEqual((found.events, found.position), ((), Position(0)))
        result_of(done)
        self.assertEqual(self.answer(self.ask(Watched(DATA, b"k"))), [(PUT, b"k", 1)])

    def test_a_wait_that_ends_does_not_pass_a_change_that_it_is_woken_for(self) -> None:
        asked = self.engine.store.changes(Watched(DATA, b"k"), Position(0), 1.0)
        self.engine.clock.rightNow += 2.0
        done = self.engine.store.transact([], [put(b"k", b"1")])  # it is told in the next iteration
        self.engine.store._feed._look_for_late()
        self.assertEqual(self.answer(asked), [(PUT, b"k", 1)])
        result_of(done)

    def test_one_that_leaves_when_it_was_woken_is_forgotten(self) -> None:
        asked = self.ask()
        done = self.engine.store.transact([], [put(b"k", b"1")])
        asked.cancel()
        self.assertIsInstance(failure_of(asked), CancelledError)
        self.engine.pump()
        result_of(done)
        self.assertFalse(self.engine.store._feed._queues)

    def test_a_stop_ends_those_who_were_woken_and_those_who_come_late(self) -> None:
        asked = self.ask()
        late = self.engine.store.changes(ALL, Position(0), 1.0)
        done = self.engine.store.transact([], [put(b"k", b"1")])
        result_of(self.engine.close())
        result_of(done)
        self.assertIsInstance(failure_of(asked), StoreUnavailable)
        self.assertIsInstance(failure_of(late), StoreUnavailable)
        again = self.engine.store._feed.after(ALL, Position(1), 1.0)
        self.assertIsInstance(failure_of(again), StoreUnavailable)

    def test_it_counts_as_watched_for_a_minute_after_a_long_wait(self) -> None:
        asked = self.ask()
        self.engine.clock.pump([1.0] * 200)
        asked.cancel()
        failure_of(asked)
        self.engine.clock.advance(WATCHED_SECONDS - 1)
        self.assertTrue(self.engine.store._feed.is_watched(DATA))

    def test_many_are_woken_some_at_a_time(self) -> None:
        self.patch(changes, "_WAKE", 3)
        asked = [self.ask() for _ in range(8)]
        done = self.engine.store.transact([], [put(b"a", b"1")])
        counts = []
        while not all(one.called for one in asked):
            self.engine.iterate()
            counts.append(sum(one.called for one in asked))
        self.assertEqual([count for count in counts if count], [3, 6, 8])
        result_of(done)

    def test_waking_takes_only_so_long_at_a_time(self) -> None:
        asked = [self.ask() for _ in range(4)]
        for one in asked:
            one.addCallback(lambda found: self.engine.clock.advance(0.02) or found)
        # Each takes longer than waking may: so the next one is woken in another iteration.
        self.engine.store.transact([], [put(b"a", b"1")])
        counts = []
        while not all(one.called for one in asked):
            self.engine.iterate()
            counts.append(sum(one.called for one in asked))
        self.assertGreaterEqual(len(set(counts) - {0}), 2)


class KeptTests(WatchCase):
    def make_engine(self) -> Engine:
        return Engine(self.path / "store", limits=Limits(pages=1, changes=3000))

    def test_changes_since_the_first_watch_outlast_a_checkpoint(self) -> None:
        failure_of(self.ask(after=7))
        self.engine.put(b"a", b"1")
        self.engine.checkpoint()
        self.assertEqual(self.answer(self.ask()), [(PUT, b"a", 1)])

    def test_older_ones_come_from_the_journal_until_a_checkpoint(self) -> None:
        for number in range(5):
            self.engine.put(b"%d" % number, b"1")
        self.assertEqual(self.answer(self.ask(after=2)), [(PUT, b"%d" % n, n + 1) for n in range(2, 5)])
        self.engine.checkpoint()
        gone = failure_of(self.ask(after=2))
        assert isinstance(gone, ChangesGone)
        self.assertEqual((gone.oldest, str(gone)), (5, "only the changes after revision 5 are kept"))
        self.assertEqual(self.answer(self.ask(after=5, wait=False)), [])

    def test_what_is_kept_is_bounded(self) -> None:
        self.ask(Watched(DATA, b"none"))
        for number in range(20):
            self.engine.put(b"%02d" % number, bytes(500))
            self.assertLessEqual(self.engine.store._feed.recent.size, 3000)
        self.engine.checkpoint()
        gone = failure_of(self.ask(after=2))
        assert isinstance(gone, ChangesGone)
        self.assertEqual(gone.oldest, self.engine.store._feed.recent.first - 1)
        self.assertIn(gone.oldest, range(16, 19))
        self.assertEqual(len(self.answer(self.ask(after=gone.oldest))), 20 - gone.oldest)

    def test_nothing_is_kept_when_nobody_has_watched_for_a_while(self) -> None:
        feed = self.engine.store._feed
        asked = self.ask()
        self.engine.put(b"a", b"1")
        self.assertEqual(self.answer(asked), [(PUT, b"a", 1)])
        self.engine.clock.pump([1.0] * int(WATCHED_SECONDS - 1))
        self.assertGreater(feed.recent.size, 0)
        self.engine.clock.pump([1.0] * 3)
        self.engine.put(b"b", b"1")
        self.assertEqual(feed.recent.size, 0)
        self.assertFalse(feed.is_watched(DATA))
        self.assertEqual(self.answer(self.ask()), [(PUT, b"a", 1), (PUT, b"b", 2)])

    def test_one_that_waits_for_long_counts_as_a_watch(self) -> None:
        asked = self.ask()
        self.engine.clock.pump([1.0] * 200)
        self.engine.put(b"a", b"1", ttl_ms=100)
        self.assertEqual(self.answer(asked), [(PUT, b"a", 1)])
        self.assertGreater(self.engine.store._feed.recent.size, 0)

    def test_a_kill_loses_no_watch(self) -> None:
        asked = self.ask()
        self.engine.put(b"a", b"1")
        self.answer(asked)
        self.engine.put(b"b", b"1")
        self.engine.reopen()
        self.engine.put(b"c", b"1")
        self.engine.checkpoint()  # as a start soon does; the segments before it go
        self.engine.put(b"d", b"1")
        self.assertEqual(self.answer(self.ask(after=1)), [(PUT, b"b", 2)])
        self.assertIsInstance(failure_of(self.ask(after=2)), ChangesGone)  # c is in no memory and no segment
        self.assertEqual(self.answer(self.ask(after=3)), [(PUT, b"d", 4)])

    def test_what_was_replayed_is_forgotten_after_a_while(self) -> None:
        self.engine.put(b"a", b"1")
        self.engine.reopen()
        self.assertGreater(self.engine.store._replayed.size, 0)
        self.engine.clock.pump([1.0] * int(WATCHED_SECONDS + 2))
        self.assertEqual(self.engine.store._replayed.size, 0)

    def test_a_revision_that_the_store_has_not_reached_is_gone(self) -> None:
        self.engine.put(b"a", b"1")
        gone = failure_of(self.ask(after=2))
        assert isinstance(gone, ChangesGone)
        self.assertEqual(gone.oldest, 0)

    def test_a_journal_that_cannot_be_read_now_is_no_end(self) -> None:
        self.engine.put(b"a", b"1")
        disk = self.engine.disk
        read = disk.read_part

        def refusing(path: str, position: int, count: int) -> bytes:
            raise OSError(errno.EMFILE, "too many files")

        disk.read_part = refusing  # type: ignore[method-assign]
        failure = failure_of(self.ask())
        self.assertEqual(str(failure), "the journal cannot be read now (too many files)")
        self.assertIsInstance(failure, StoreUnavailable)
        disk.read_part = read  # type: ignore[method-assign]
        self.assertEqual(self.answer(self.ask()), [(PUT, b"a", 1)])

    def test_a_segment_may_vanish_while_it_is_read(self) -> None:
        self.engine.put(b"a", b"1")
        read = self.engine.disk.read_part

        def vanishing(path: str, position: int, count: int) -> bytes:
            self.engine.disk.read_part = read  # type: ignore[method-assign]
            self.engine.checkpoint()
            return read(path, position, count)

        self.engine.disk.read_part = vanishing  # type: ignore[method-assign]
        self.assertIsInstance(failure_of(self.ask()), ChangesGone)

    def test_a_long_frame_is_read_whole(self) -> None:
        self.patch(backlog, "_AT_A_TIME", 100)
        self.engine.put(b"a", bytes(5000))
        self.engine.put(b"b", b"1")
        self.assertEqual(self.answer(self.ask()), [(PUT, b"a", 1)])
        self.assertEqual(self.answer(self.ask(after=1)), [(PUT, b"b", 2)])


class ExpiryTests(WatchCase):
    def test_it_is_told_soon_and_has_a_revision(self) -> None:
        self.engine.put(b"a", b"1", ttl_ms=1000)
        asked = self.ask(after=1)
        self.engine.clock.pump([0.25] * 4 + [TELL_SECONDS])
        found = result_of(asked)
        self.assertEqual(told(found), [(EXPIRE, b"a", 2)])
        self.assertLess(found.events[0].time_ms, self.engine.now_ms() + 1)
        self.engine.reopen()
        self.assertEqual(self.answer(self.ask(after=1)), [(EXPIRE, b"a", 2)])

    def test_it_is_told_wherever_the_record_is(self) -> None:
        pages = SteppedWorker()
        self.engine.put(b"page", b"1", ttl_ms=1000)
        self.engine.put(b"later", b"1", ttl_ms=3000)
        self.engine.put(b"stays", b"1")
        self.engine.checkpoint()
        self.engine.put(b"frozen", b"1", ttl_ms=1000)
        self.engine.put(b"page2", b"1", ttl_ms=1000)
        self.engine.storage.page_worker = pages
        checkpoint = self.engine.store.housekeeping.checkpoint()
        self.engine.put(b"active", b"1", ttl_ms=1000)
        self.engine.put(b"page2", b"2")
        after = self.now()
        asked = self.ask(after=after)
        self.engine.clock.pump([0.25] * 8)
        expired = self.answer(asked)
        while {key for _, key, _ in expired} < {b"active", b"frozen", b"page"}:
            expired += self.answer(self.ask(after=expired[-1][2]))
        self.assertEqual({kind for kind, _, _ in expired}, {EXPIRE})
        self.assertEqual(sorted(key for _, key, _ in expired), [b"active", b"frozen", b"page"])
        finish(pages)
        result_of(checkpoint)
        self.engine.storage.page_worker = self.engine.pages
        revision = self.now()
        self.engine.clock.pump([0.25] * 8)
        self.assertEqual(self.answer(self.ask(after=revision)), [(EXPIRE, b"later", revision + 1)])
        self.assertEqual(dict(self.engine.items()), {b"stays": b"1", b"page2": b"2"})

    def test_nothing_vanishes_before_it_is_told(self) -> None:
        """Neither a checkpoint nor a compaction drops what a watch has not been told of."""
        self.engine.put(b"a", b"1", ttl_ms=1000)
        asked = self.ask(after=1)
        self.engine.clock.advance(1.1)
        self.patch(expiry, "TELL_SECONDS", 1000.0)
        self.engine.checkpoint()
        self.engine.clock.pump([0.25] * 8)
        self.assertEqual(self.answer(asked), [(EXPIRE, b"a", 2)])

    def test_many_are_removed_in_several_transactions(self) -> None:
        self.patch(expiry, "_AT_ONCE", 10)
        for number in range(25):
            self.engine.put(b"%02d" % number, b"1", ttl_ms=1000)
        asked = self.ask(after=25)
        self.engine.clock.pump([0.25] * 8)
        self.answer(asked)
        found = result_of(self.ask(after=25))
        self.assertEqual([event.revision for event in found.events], [26] * 10 + [27] * 10 + [28] * 5)

    def test_what_vanished_untold_ends_older_watches(self) -> None:
        for checkpoint in (False, True):
            self.engine.put(b"a", b"1", ttl_ms=1000)
            before = self.now()
            if checkpoint:
                self.engine.checkpoint()
            self.engine.clock.pump([1.0] * 70)
            self.engine.clock.pump([1.0] * 70)
            gone = failure_of(self.ask(after=before))
            assert isinstance(gone, ChangesGone), gone
            self.assertEqual(gone.oldest, before + 1)
            # The refusal has made a revision from which a watch can go on.
            self.assertEqual(self.answer(self.ask(after=before + 1, wait=False)), [])
            self.engine.clock.pump([1.0] * 130)

    def test_a_restart_remembers_what_vanished(self) -> None:
        self.engine.put(b"a", b"1", ttl_ms=1000)
        self.engine.put(b"b", b"1")
        self.engine.clock.pump([1.0] * 3)
        self.engine.checkpoint()
        self.engine.reopen()
        gone = failure_of(self.ask(after=2))
        assert isinstance(gone, ChangesGone)
        self.assertEqual(gone.oldest, 3)

    def test_without_disk_space_records_vanish_untold_for_a_while(self) -> None:
        self.engine.put(b"a", b"1", ttl_ms=1000)
        asked = self.ask(after=1)
        self.engine.disk.fail("write", errno.ENOSPC, path="journal", times=10**6)  # type: ignore[attr-defined]
        self.engine.clock.pump([0.25] * 12)
        self.assertIsInstance(failure_of(asked), ChangesGone)
        self.engine.disk.heal()  # type: ignore[attr-defined]
        self.assertEqual(len(self.engine.store._keyspaces[DATA].tables.active), 0)
        self.engine.clock.pump([1.0] * int(SILENT_SECONDS + 1))
        self.engine.put(b"b", b"1", ttl_ms=1000)
        asked = self.ask(after=self.now())
        self.engine.clock.pump([0.25] * 8)
        self.assertEqual(self.answer(asked)[0][:2], (EXPIRE, b"b"))

    def test_a_damaged_page_does_not_keep_the_others(self) -> None:
        self.engine.put(b"a", b"1", ttl_ms=1000)
        self.engine.checkpoint()
        self.engine.put(b"b", b"1", ttl_ms=1000)
        [page] = [self.engine.path / name for name in self.engine.files("pages/")]
        page.write_bytes(b"?" + page.read_bytes()[1:])
        asked = self.ask(after=2)
        self.engine.clock.pump([0.25] * 8)
        self.assertEqual(self.answer(asked), [(EXPIRE, b"b", 3)])
