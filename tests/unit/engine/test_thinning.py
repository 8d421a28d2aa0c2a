"""Thinning: runs hold less, and all that counts is what it was."""

from __future__ import annotations

import errno
import random

from twisted.internet.defer import Deferred

from kvtwist.engine import Limits, compactor, run_writer
from kvtwist.engine.thinning import _Keys, thin
from kvtwist.model import DATA, Clear, Delete, Operation, StoreUnavailable, Usage
from tests.support.engine import Engine, EngineCase, FaultyDisk, SteppedWorker, failure_of, put, result_of
from tests.support.tools import kvtwist


class ThinningCase(EngineCase):
    disk: FaultyDisk

    def setUp(self) -> None:
        super().setUp()
        self.patch(compactor, "compaction_due", lambda runs: [])
        self.patch(run_writer, "PAGE_SIZE", 300)

    def make_engine(self) -> Engine:
        self.disk = FaultyDisk()
        return Engine(self.path / "store", disk=self.disk, limits=Limits(pages=10**6))

    def live(self, seed: int) -> None:
        """A random history, with several runs."""
        choices = random.Random(seed)
        for _ in range(choices.randint(1, 5)):
            for _ in range(choices.randint(1, 60)):
                self.engine.do(*self.some(choices))
            if choices.random() < 0.15:
                self.engine.do(Clear(DATA))
            self.engine.checkpoint()
            self.engine.clock.advance(choices.choice([0, 0, 3]))
        for _ in range(choices.randint(0, 40)):
            self.engine.do(*self.some(choices))

    def some(self, choices: random.Random) -> list[Operation]:
        key = b"%02d" % choices.randrange(60)
        if choices.random() < 0.4:
            return [Delete(DATA, key)]
        return [put(key, bytes(choices.choice([0, 20, 200])), choices.choice([None, None, 2000]))]

    def thin(self) -> Deferred[None]:
        disk_state = self.engine.store._disk_state
        assert disk_state is not None
        self.superfluous: list[int] = []
        tables, now_ms = disk_state.tables[DATA], self.engine.now_ms()
        return Deferred.fromCoroutine(thin(disk_state, DATA, tables, now_ms, self.superfluous.extend))

    def pages(self) -> set[int]:
        return self.engine.storage.pages.numbers()


class ThinningTests(ThinningCase):
    def test_what_counts_is_what_it_was(self) -> None:
        less = 0
        for seed in range(60):
            self.live(seed)
            before, usage, size = self.engine.records(), self.engine.store.usage(DATA), self.size()
            result_of(self.thin())
            self.assertEqual(self.engine.records(), before)
            self.assertEqual(self.pages(), self.engine.storage.manifest.pages())
            self.assertLessEqual(self.engine.store.usage(DATA).records, usage.records)
            self.assertLessEqual(self.size(), size)
            less += self.size() < size
            self.assert_nothing_is_superseded()
            self.engine.reopen()
            self.assertEqual(self.engine.records(), before)
            self.engine.die()
            self.assertEqual(kvtwist("check", self.engine.path).exit_code, 0)
            self.engine.open()
        self.assertGreater(less, 40)

    def size(self) -> int:
        return sum(run.size for run in self.engine.storage.manifest.keyspaces.get(DATA, []))

    def assert_nothing_is_superseded(self) -> None:
        """Each key is in one run at the most, tombstones not counted, and in none that the journal has removed."""
        pages = self.engine.storage.pages
        tables = self.engine.store._keyspaces[DATA].tables
        seen = {key for key, _ in tables.active.range(b"", None)}
        now_ms = self.engine.now_ms()
        for run in self.engine.storage.manifest.keyspaces.get(DATA, []):
            keys = [key for ref in run.pages for key, _ in pages.read(ref).records()]
            self.assertEqual(sorted(set(keys)), keys)
            self.assertFalse(seen.intersection(keys))
            seen.update(keys)
            self.assertGreater(run.expires_ms or now_ms + 1, now_ms)

    def test_a_second_time_nothing_is_written(self) -> None:
        self.live(3)
        result_of(self.thin())
        calls: list[str] = []
        self.patch(self.disk, "before", lambda call, path: calls.append(call) if "pages" in path else None)
        result_of(self.thin())
        self.assertNotIn("create", calls)
        self.assertEqual(self.superfluous, [])

    def test_usage_is_what_it_was(self) -> None:
        for number in range(60):
            self.engine.put(b"%02d" % number, bytes(100))
        self.engine.checkpoint()
        for number in range(0, 60, 2):
            self.engine.delete(b"%02d" % number)
        usage = self.engine.store.usage(DATA)
        result_of(self.thin())
        self.assertEqual(self.engine.store.usage(DATA), usage)
        self.engine.checkpoint()
        self.assertEqual(self.engine.store.usage(DATA), usage)

    def test_what_has_expired_is_no_part_of_it(self) -> None:
        for number in range(20):
            self.engine.put(b"%02d" % number, bytes(30), ttl_ms=1000 if number % 2 else 60_000)
        self.engine.checkpoint()
        for seconds, records in ((0.999, 20), (0.001, 10)):
            self.engine.clock.rightNow += seconds  # without a sweep
            result_of(self.thin())
            usage = self.engine.store.usage(DATA)
            self.assertEqual(usage, Usage(records, 32 * records))

    def test_an_expired_record_hides_older_ones_still(self) -> None:
        self.engine.put(b"k", b"old")
        self.engine.put(b"other", bytes(90))
        self.engine.checkpoint()
        self.engine.put(b"k", b"new", ttl_ms=1000)
        self.engine.checkpoint()
        self.engine.clock.rightNow += 1
        for _ in range(2):
            result_of(self.thin())
            self.assertIsNone(self.engine.get(b"k"))
            self.assertEqual([key for key, _ in self.engine.items()], [b"other"])
        newer, base = self.engine.store._keyspaces[DATA].tables.runs
        self.assertEqual((newer.tombstones, base.tombstones), (1, 0))
        self.engine.die()
        self.assertEqual(kvtwist("check", self.engine.path).exit_code, 0)
        self.engine.open()

    def test_keys_are_passed_in_order(self) -> None:
        for first, stop, expected in (
            *((b"", b"b", False), (b"", b"b\0", True), (b"a", b"c", True), (b"c", b"d", False), (b"c", None, True)),
            *((b"d", b"d\0", True), (b"e", None, False)),
        ):
            self.assertIs(_Keys(iter([b"b", b"d"])).are_between(first, stop), expected, (first, stop))
        keys = _Keys(iter([b"b", b"d"]))
        self.assertEqual(
            [keys.have(key) for key in (b"a", b"b", b"c", b"d", b"e", b"e")], [False, True] * 2 + [False] * 2
        )

    def test_it_takes_little_room_at_a_time(self) -> None:
        for number in range(60):
            self.engine.put(b"%02d" % number, bytes(20))
        self.engine.checkpoint()
        for number in range(0, 60, 3):
            self.engine.delete(b"%02d" % number)
        before = len(self.pages())
        most = before

        def look(call: str, path: str) -> None:
            nonlocal most
            most = max(most, len(self.pages()))

        self.patch(self.disk, "after", look)
        result_of(self.thin())
        self.assertLessEqual(most, before + 3)
        self.assertLess(len(self.pages()), before)

    def test_of_a_keyspace_of_which_everything_was_removed_nothing_stays(self) -> None:
        for number in range(60):
            self.engine.put(b"%02d" % number, bytes(20))
        self.engine.checkpoint()
        for number in range(60):
            self.engine.delete(b"%02d" % number)
            if number % 20 == 19:
                self.engine.checkpoint()
        result_of(self.thin())
        self.assertEqual(self.pages(), set())
        self.assertEqual(self.engine.items(), [])

    def test_what_may_be_taken_back_takes_nothing_away(self) -> None:
        for number in range(3):
            self.engine.put(b"%d" % number, b"v")
        self.engine.checkpoint()
        self.engine.die()
        self.engine.journal = journal = SteppedWorker()
        self.engine.open()
        store = self.engine.store
        store.transact([], [Delete(DATA, b"0")])
        thinned = self.thin()
        lost = store.transact([], [Delete(DATA, b"1")])
        self.disk.fail("write", errno.EIO, path="journal", skip=2)  # the header, and the first one
        journal.finish()
        result_of(thinned)
        self.assertIsInstance(failure_of(lost), StoreUnavailable)
        self.assertEqual(self.engine.items(), [(b"1", b"v"), (b"2", b"v")])

    def test_one_that_fails_leaves_nothing_and_changes_nothing(self) -> None:
        for call in ("create", "write", "sync", "rename"):
            for path in ("pages", "manifest"):
                for skip in range(3):
                    self.live(skip)
                    before = self.engine.records()
                    self.disk.fail(call, errno.ENOSPC, path=path, skip=skip)
                    failure_of(self.thin())
                    self.disk.heal()
                    self.assertEqual(self.engine.records(), before)
                    self.assertEqual(self.pages(), self.engine.storage.manifest.pages())
                    self.engine.reopen()
                    self.assertEqual(self.engine.records(), before)

    def test_a_keyspace_that_is_cleared_before_it_is_left_alone(self) -> None:
        self.live(1)
        self.engine.checkpoint()
        disk_state = self.engine.store._disk_state
        assert disk_state is not None
        tables = disk_state.tables[DATA]
        self.engine.do(Clear(DATA), put(b"new", b"1"))
        self.engine.checkpoint()
        result_of(Deferred.fromCoroutine(thin(disk_state, DATA, tables, self.engine.now_ms(), lambda numbers: None)))
        self.assertEqual(self.engine.items(), [(b"new", b"1")])


class SupersededTests(ThinningCase):
    """A checkpoint that is tried again leaves out what the journal has replaced since."""

    def fail_once(self) -> None:
        self.disk.fail("create", errno.EIO, path="pages")
        self.engine.checkpoint()

    def test_what_was_replaced_or_removed_meanwhile_is_in_no_page(self) -> None:
        for sync in (True, False):
            self.engine.sync = sync
            self.engine.reopen()
            for number in range(10):
                self.engine.put(b"%02d" % number, b"frozen")
            self.fail_once()
            self.engine.delete(b"03")
            self.engine.put(b"05", b"newer")
            usage = self.engine.store.usage(DATA)
            self.engine.checkpoint()
            pages = self.engine.storage.pages
            [run] = self.engine.storage.manifest.keyspaces[DATA]
            keys = [key for ref in run.pages for key, _ in pages.read(ref).records()]
            self.assertEqual(keys, [b"%02d" % number for number in range(10) if number not in (3, 5)])
            self.assertEqual(self.engine.store.usage(DATA), usage)
            expected = [(b"%02d" % n, b"newer" if n == 5 else b"frozen") for n in range(10) if n != 3]
            self.assertEqual(self.engine.items(), expected)
            self.engine.reopen()
            self.assertEqual(self.engine.items(), expected)
            self.engine.do(Clear(DATA))
            self.engine.checkpoint()

    def test_a_keyspace_that_was_cleared_meanwhile_takes_no_room(self) -> None:
        self.engine.put(b"k", bytes(5000))
        self.fail_once()
        self.engine.do(Clear(DATA))
        self.engine.put(b"new", b"1")
        self.engine.checkpoint()
        self.assertEqual(self.pages(), set())
        self.engine.reopen()
        self.assertEqual(self.engine.items(), [(b"new", b"1")])

    def test_it_goes_on_in_the_segment_that_it_has_begun(self) -> None:
        self.engine.put(b"k", b"1")
        for number in range(5):
            self.fail_once()
            self.engine.put(b"k%d" % number, b"1")
        self.assertEqual(len(self.engine.files("journal-0")), 2)
