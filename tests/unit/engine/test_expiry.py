"""
Expiry: a record is gone at its instant from every answer, soon from memory and disk, and a restart changes nothing.
"""

from __future__ import annotations

from typing import Any

from kvtwist.engine.compactor import PURGE_SECONDS
from kvtwist.engine.housekeeping import SWEEP_SECONDS
from kvtwist.model import DATA, Exists, Get, Unchanged, Usage
from tests.support.engine import EngineCase, SteppedWorker, finish, put, result_of


class ExpiryTests(EngineCase):
    def everywhere(self, key: bytes) -> list[bool]:
        """Whether a key is there, for everyone who may ask."""
        outcome = self.engine.do(Get(DATA, key))
        return [
            self.engine.get(key) is not None,
            key in dict(self.engine.items()),
            key in [found for found, _ in self.engine.records(reverse=True)],
            outcome.results[0] is not None,
            self.engine.do(conditions=[Exists(DATA, key)]).committed,
            not self.engine.do(conditions=[Unchanged(DATA, key, 0)]).committed,
        ]

    def test_a_record_is_gone_at_its_instant(self) -> None:
        self.engine.put(b"k", b"v", ttl_ms=1000)
        self.engine.put(b"stays", b"v")
        self.engine.clock.advance(0.999)
        self.assertEqual(self.everywhere(b"k"), [True] * 6)
        self.engine.clock.advance(0.001)
        self.assertEqual(self.everywhere(b"k"), [False] * 6)
        self.assertEqual(self.everywhere(b"stays"), [True] * 6)

    def test_a_record_in_a_page_is_gone_at_its_instant(self) -> None:
        self.engine.put(b"k", b"v", ttl_ms=1000)
        self.engine.checkpoint()
        self.engine.clock.advance(0.999)
        self.assertEqual(self.everywhere(b"k"), [True] * 6)
        self.engine.clock.advance(0.001)
        self.assertEqual(self.everywhere(b"k"), [False] * 6)

    def test_what_expired_may_be_put_anew_and_stays_then(self) -> None:
        for ttl_ms in (None, 5000):
            self.engine.put(b"k", b"1", ttl_ms=1000)
            self.engine.put(b"k", b"2", ttl_ms=ttl_ms)
            self.engine.clock.advance(1)
            self.assertEqual(self.engine.get(b"k"), b"2")
            self.engine.checkpoint()
            self.engine.reopen()
            self.assertEqual(self.engine.get(b"k"), b"2")

    def test_nothing_older_shows_through(self) -> None:
        self.engine.put(b"k", b"old")
        for moved in (False, True):
            if moved:
                self.engine.checkpoint()
            self.engine.put(b"k", b"new", ttl_ms=1000)
            self.engine.clock.advance(SWEEP_SECONDS)
            for _ in range(3):
                self.assertEqual(self.everywhere(b"k"), [False] * 6)
                self.engine.clock.advance(SWEEP_SECONDS)
            self.engine.checkpoint()
            self.assertEqual(self.everywhere(b"k"), [False] * 6)
            self.engine.put(b"k", b"old")

    def test_it_is_swept_from_memory(self) -> None:
        for number in range(2500):
            self.engine.put(b"%04d" % number, b"v", ttl_ms=1000)
        self.engine.put(b"stays", b"v", ttl_ms=60_000)
        self.engine.clock.pump([0.5] * 6)
        self.assertEqual(self.engine.store.usage(DATA), Usage(1, 6))
        self.assertEqual(len(self.engine.store._keyspaces[DATA].tables.active), 1)

    def test_it_is_swept_from_pages_within_a_minute_or_so(self) -> None:
        for number in range(10):
            self.engine.put(b"%d" % number, bytes(60), ttl_ms=10_000)
        self.engine.put(b"stays", b"v")
        self.engine.checkpoint()
        before = len(self.engine.files("pages"))
        self.engine.clock.pump([SWEEP_SECONDS] * (10 + int(PURGE_SECONDS) + 2))
        self.assertEqual(self.engine.store.usage(DATA), Usage(1, 6))
        after = self.engine.files("pages")
        self.assertLess(len(after), before)
        self.engine.clock.pump([SWEEP_SECONDS] * (3 * int(PURGE_SECONDS)))
        self.assertEqual(self.engine.files("pages"), after, "there is nothing more to sweep")

    def test_what_was_swept_from_memory_leaves_the_journal_too(self) -> None:
        self.engine.put(b"secret", b"v" * 50, ttl_ms=1000)
        self.engine.clock.pump([SWEEP_SECONDS] * (int(PURGE_SECONDS) + 5))
        self.engine.reopen()
        self.assertEqual(self.engine.recovery.transactions, 0)
        pages = b"".join((self.engine.path / name).read_bytes() for name in self.engine.files("pages/"))
        self.assertNotIn(b"secret", pages)

    def test_a_checkpoint_writes_nothing_that_has_expired(self) -> None:
        self.engine.put(b"gone", b"v", ttl_ms=1000)
        self.engine.put(b"stays", b"v", ttl_ms=5000)
        self.engine.clock.advance(1)
        self.engine.checkpoint()
        [run] = self.engine.store._keyspaces[DATA].tables.runs
        [ref] = run.pages
        self.assertEqual((run.records, ref.first), (1, b"stays"))
        self.assertEqual(ref.expires_ms, int(self.engine.wall * 1000) + 5000)

    def test_it_outlives_a_restart(self) -> None:
        for crash in (True, False):
            for key, ttl_ms in ((b"soon", 10_000), (b"later", 60_000)):
                self.engine.put(key, b"v", ttl_ms=ttl_ms)
            if not crash:
                result_of(self.engine.close())
            self.engine.reopen()
            self.assertEqual(self.engine.get(b"soon"), b"v")
            self.engine.clock.advance(10)
            self.engine.reopen()
            self.assertIsNone(self.engine.get(b"soon"))
            self.assertEqual(self.engine.get(b"later"), b"v")

    def test_it_goes_on_while_the_server_is_down(self) -> None:
        self.engine.put(b"k", b"v", ttl_ms=10_000)
        self.engine.checkpoint()
        self.engine.die()
        self.engine.wall += 10
        self.engine.open()
        self.assertIsNone(self.engine.get(b"k"))

    def test_a_clock_that_is_set_back_delays_nothing_and_brings_nothing_back(self) -> None:
        self.engine.put(b"k", b"v", ttl_ms=10_000)
        self.engine.wall -= 3600
        self.engine.clock.advance(9.5)
        self.assertEqual(self.engine.get(b"k"), b"v")
        self.engine.clock.advance(0.5)
        self.assertIsNone(self.engine.get(b"k"))
        self.engine.wall -= 3600
        self.assertIsNone(self.engine.get(b"k"))

    def test_a_clock_that_was_set_back_while_the_server_was_down_brings_nothing_back(self) -> None:
        for checkpoint in (False, True):
            self.engine.put(b"k", b"v", ttl_ms=10_000)
            self.engine.clock.advance(10)
            self.engine.put(b"other", b"v")
            if checkpoint:
                self.engine.checkpoint()
            self.engine.die()
            self.engine.wall -= 3600
            self.engine.open()
            self.assertIsNone(self.engine.get(b"k"))

    def test_times_never_run_backwards_over_a_restart(self) -> None:
        stamps = []
        for number in range(10):
            self.engine.put(b"k", b"v")
            record = result_of(self.engine.store.get(DATA, b"k"))
            assert record is not None
            stamps.append(record.modified_ms)
            if number % 2:
                self.engine.checkpoint()
            self.engine.die()
            self.engine.wall -= 5
            self.engine.clock.advance(1)
            self.engine.open()
        self.assertEqual(stamps, sorted(stamps))

    def test_what_expires_while_a_read_waits_is_gone_when_it_is_answered(self) -> None:
        self.engine.die()
        self.engine.journal = journal = SteppedWorker()
        self.engine.open()
        self.engine.store.transact([], [put(b"k", b"v", ttl_ms=1000)])
        got = self.engine.store.get(DATA, b"k")
        self.engine.clock.advance(1)
        journal.finish()
        self.assertIsNone(self.successResultOf(got))


class SweepTests(EngineCase):
    """The sweeper and those who write at the same time."""

    def setUp(self) -> None:
        super().setUp()
        self.engine.die()
        self.engine.journal = self.journal_jobs = SteppedWorker()
        self.engine.pages = self.page_jobs = SteppedWorker()
        self.engine.open()

    def test_what_is_not_durable_yet_is_not_swept(self) -> None:
        done = self.engine.store.transact([], [put(b"k", b"v", ttl_ms=100)])
        self.engine.clock.advance(SWEEP_SECONDS)
        self.assertEqual(self.engine.store.usage(DATA).records, 1)
        self.journal_jobs.finish()
        self.successResultOf(done)
        self.engine.clock.advance(SWEEP_SECONDS)
        self.assertEqual(self.engine.store.usage(DATA).records, 0)

    def test_many_that_are_not_durable_yet_do_not_keep_the_sweeper_running_in_circles(self) -> None:
        for number in range(1500):
            self.engine.store.transact([], [put(b"%04d" % number, b"v", ttl_ms=100)])
        at_once = 0
        call_later = self.engine.clock.callLater

        def counted(delay: float, *args: Any, **kwargs: Any) -> Any:
            nonlocal at_once
            at_once += delay == 0
            return call_later(delay if at_once < 10 else 1.0, *args, **kwargs)

        self.patch(self.engine.clock, "callLater", counted)
        self.engine.clock.advance(SWEEP_SECONDS)
        self.journal_jobs.finish()
        self.assertLess(at_once, 10)

    def test_what_expires_during_a_checkpoint_is_swept_and_does_not_come_back(self) -> None:
        for steps in range(6):
            self.engine.store.transact([], [put(b"k", b"old", ttl_ms=500), put(b"other", b"1")])
            self.journal_jobs.finish()
            done = self.engine.store.housekeeping.checkpoint()
            self.journal_jobs.finish()
            self.engine.store.transact([], [put(b"k", b"new", ttl_ms=500)])
            for _ in range(steps):
                if self.page_jobs:
                    self.page_jobs.step()
            self.journal_jobs.finish()
            self.engine.clock.advance(SWEEP_SECONDS)
            finish(self.journal_jobs, self.page_jobs)
            self.successResultOf(done)
            got = self.engine.store.get(DATA, b"k")
            self.page_jobs.finish()
            self.assertIsNone(self.successResultOf(got))
        self.engine.reopen()
        self.assertEqual(self.engine.items(), [(b"other", b"1")])

    def test_what_it_replaced_does_not_come_back_when_the_first_checkpoint_is_running(self) -> None:
        for steps in range(6):
            keyspace = f"first-{steps}"  # which has nothing on disk yet
            self.engine.store.transact([], [put(b"k", b"old", keyspace=keyspace)])
            self.journal_jobs.finish()
            done = self.engine.store.housekeeping.checkpoint()
            self.journal_jobs.finish()
            self.engine.store.transact([], [put(b"k", b"new", ttl_ms=500, keyspace=keyspace)])
            self.journal_jobs.finish()
            for _ in range(steps):
                if self.page_jobs:
                    self.page_jobs.step()
            self.engine.clock.advance(SWEEP_SECONDS)
            for _ in range(2):
                got = self.engine.store.get(keyspace, b"k")
                finish(self.journal_jobs, self.page_jobs)
                self.assertIsNone(self.successResultOf(got), steps)
            self.successResultOf(done)
        self.engine.reopen()
        for steps in range(6):
            self.assertIsNone(result_of(self.engine.store.get(f"first-{steps}", b"k")))
