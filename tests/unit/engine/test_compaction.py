"""Which runs are compacted, and that compaction changes nothing that a read can see."""

from __future__ import annotations

import errno
import random
from collections.abc import Generator
from typing import TypeVar

from kvtwist.engine import compaction, run_writer
from kvtwist.engine.compaction import compaction_due, is_compact
from kvtwist.engine.disk import Disk
from kvtwist.engine.memtable import Entry, Memtable, Tombstone
from kvtwist.engine.page import Page
from kvtwist.engine.pages import PageDirectory
from kvtwist.engine.run_writer import PageNumbers, damaged_pages, write_compacted, write_frozen, write_purged
from kvtwist.engine.sorted_run import PageNeeded, PageRef, SortedRun, find_in
from kvtwist.model import Record, StoreDamaged
from tests.support.engine import FaultyDisk, TestCase

T = TypeVar("T")

MIB = 2**20


def run(size: int, records: int = 1000, tombstones: int = 0) -> SortedRun:
    return SortedRun([PageRef(1, b"", size, None)], records, size, tombstones)


class CompactionDueTests(TestCase):
    """How many runs, from the newest, are compacted into one."""

    def assert_due(self, cases: dict[str, tuple[list[SortedRun], int]]) -> None:
        for name, (runs, count) in cases.items():
            self.assertEqual(compaction_due(runs), runs[:count], name)

    def test_all_of_them_when_that_costs_little_or_saves_much(self) -> None:
        self.assert_due(
            {
                "nothing there": ([], 0),
                "one run is compact already": ([run(100 * MIB)], 0),
                "next to nothing": ([run(1), run(3 * MIB)], 2),
                "little": ([run(MIB), run(3 * MIB)], 2),
                "a byte more": ([run(MIB), run(3 * MIB + 1)], 0),
                "little above a large base": ([run(MIB), run(100 * MIB)], 0),
                "just below the share": ([run(35 * MIB), run(34 * MIB), run(100 * MIB)], 0),
                "as much as the share": ([run(35 * MIB), run(36 * MIB), run(100 * MIB)], 3),
                "much was removed": ([run(MIB, tombstones=250), run(100 * MIB)], 2),
                "some was removed": ([run(MIB, tombstones=249), run(100 * MIB)], 0),
            }
        )

    def test_the_newest_of_about_the_same_size_when_there_are_many(self) -> None:
        base = run(1000 * MIB)
        small = [run(MIB)] * compaction.MAX_RUNS
        self.assert_due(
            {
                "not too many yet": ([*small, base], 0),
                "one too many": ([*small, run(MIB), base], compaction.MAX_RUNS + 1),
                "a larger one behind them stays": ([*small, run(50 * MIB), base], compaction.MAX_RUNS),
                "one that is as large as they are together goes with them": (
                    [*small, run(compaction.MAX_RUNS * MIB), base],
                    compaction.MAX_RUNS + 1,
                ),
                "at least two": ([run(MIB), *[run(9 * MIB)] * compaction.MAX_RUNS, base], compaction.MAX_RUNS + 1),
            }
        )


class IsCompactTests(TestCase):
    def test_nothing_is_left_to_do(self) -> None:
        def of(*refs: PageRef, tombstones: int = 0) -> SortedRun:
            return SortedRun(list(refs), 1, 1, tombstones)

        sealed, old = PageRef(1, b"", 1, None, b"", 7), PageRef(1, b"", 1, None, b"", "data")
        expiring = PageRef(1, b"", 1, 1000, b"", 7)
        for runs, now_ms, expected in (
            ([], 0, True),
            ([of(sealed)], 0, True),
            ([of(sealed, tombstones=1)], 0, False),
            ([of(sealed), of(sealed)], 0, False),
            ([of(sealed, old)], 0, False),
            ([of(sealed, expiring)], 999, True),
            ([of(sealed, expiring)], 1000, False),
        ):
            self.assertEqual(is_compact(runs, now_ms), expected)


class WritingTests(TestCase):
    """Runs that are written, against plain dictionaries."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(run_writer, "PAGE_SIZE", 200)
        self.directory = PageDirectory(Disk(), str(self.path / "pages"))
        self.numbers = PageNumbers(1)

    def finish(self, steps: Generator[None, None, T]) -> T:
        while True:
            try:
                next(steps)
            except StopIteration as end:
                found: T = end.value
                return found

    def frozen(self, entries: dict[bytes, Entry], base: bool) -> SortedRun:
        table = Memtable()
        for key, entry in entries.items():
            table.set(key, entry)
        return self.finish(write_frozen(self.directory, "data", self.numbers, table, 1000, base))

    def held(self, found: SortedRun) -> dict[bytes, Entry]:
        pages = [self.directory.read(ref) for ref in found.pages]
        for ref, page in zip(found.pages, pages, strict=True):
            expiries = [e.expires_ms for _, e in page.range(b"", None) if isinstance(e, Record) and e.expires_ms]
            self.assertEqual((ref.first, ref.size, ref.expires_ms), (page[0], page.size, min(expiries, default=None)))
        return {key: entry for page in pages for key, entry in page.range(b"", None)}

    def entries(self, chance: random.Random) -> dict[bytes, Entry]:
        found: dict[bytes, Entry] = {}
        for _ in range(chance.randrange(60)):
            key = b"%03d" % chance.randrange(100)
            expires_ms = chance.choice([None, None, 500, 1000, 1001, 9000])
            live = Record(bytes(chance.randrange(40)), "text/plain", 7, 8, expires_ms)
            found[key] = chance.choice([live, live, Tombstone(7)])
        return found

    def test_a_compacted_run_shows_what_the_runs_show_one_above_the_other(self) -> None:
        chance = random.Random(5)
        for _ in range(60):
            layers = [self.entries(chance) for _ in range(chance.randrange(2, 5))]
            runs = [self.frozen(entries, base=False) for entries in layers]
            expected: dict[bytes, Entry] = {}
            for entries in reversed(layers):
                expected.update(entries)
            live = {k: e for k, e in expected.items() if isinstance(e, Record) and (e.expires_ms or 1001) > 1000}

            [base] = self.finish(write_compacted(self.directory, "data", self.numbers, runs, 1000, base=True))
            self.assertEqual(self.held(base), live)
            self.assertEqual((base.records, base.tombstones), (len(live), 0))
            self.assertEqual(base.weight, sum(len(key) + len(entry.value) for key, entry in live.items()))

            [above] = self.finish(write_compacted(self.directory, "data", self.numbers, runs, 1000, base=False))
            hidden = {key: live.get(key, Tombstone(7)) for key in expected}
            self.assertEqual(self.held(above), hidden)
            self.assertEqual(above.tombstones, len(hidden) - len(live))

    def test_purging_writes_only_the_pages_in_which_something_has_expired(self) -> None:
        old: dict[bytes, Entry] = {b"%02d" % n: Record(bytes(50), "text/plain", 7, 8) for n in range(20)}
        old[b"10"] = Record(bytes(50), "text/plain", 7, 8, 1500)
        before = self.frozen(old, base=True)
        for base, left in ((True, None), (False, Tombstone(7))):
            [after] = self.finish(write_purged(self.directory, "data", self.numbers, [before], 1500, base))
            self.assertEqual(len(set(after.pages) - set(before.pages)), 1)
            self.assertEqual(self.held(after).get(b"10"), left)
            self.assertEqual(self.held(after).keys() | {b"10"}, old.keys())
            self.assertEqual((after.records, after.weight), (19, 19 * 52))
            self.assertEqual(after.tombstones, 0 if base else 1)
        again = self.finish(write_purged(self.directory, "data", self.numbers, [before], 1499, True))
        self.assertEqual(again, [before])

    def found(self, runs: list[SortedRun], damaged: set[int], key: bytes) -> Entry | str | None:
        """What runs say of a key; "refused" where a damaged page may say something else."""

        def lookup(ref: PageRef) -> Page | None:
            return None if ref.number in damaged else self.directory.read(ref)

        try:
            return find_in(runs, key, lookup)
        except PageNeeded:
            return "refused"

    def test_compaction_around_damaged_pages_changes_no_answer(self) -> None:
        chance = random.Random(7)
        kinds = set()
        for _ in range(150):
            layers = [self.entries(chance) for _ in range(chance.randrange(2, 7))]
            runs = [run for run in (self.frozen(entries, base=False) for entries in layers) if run.pages]
            pages = [ref for run in runs for ref in run.pages]
            bad = chance.sample(pages, min(chance.randrange(1, 4), len(pages)))
            damaged = {ref.number for ref in bad}
            for ref in bad:
                self.directory.remove([ref.number])
            for base in (False, True):
                after = self.finish(write_compacted(self.directory, "data", self.numbers, runs, 1000, base, damaged))
                self.assertLessEqual(len(after), 2 * len(bad) + 1)
                self.assertEqual([r for r in after if not r.pages], [])
                self.assertEqual(sum(r.records for r in after), sum(r.records for r in runs))
                self.assertEqual(sum(r.weight for r in after), sum(r.weight for r in runs))
                self.assertEqual({r for run in after for r in run.pages if r.number in damaged}, {*bad})
                for key in (b"%03d" % number for number in range(100)):
                    before, now = self.found(runs, damaged, key), self.found(after, damaged, key)
                    if isinstance(before, Record) and before.expires_ms is not None and before.expires_ms <= 1000:
                        before = Tombstone(before.revision)
                    if base and now is None:
                        self.assertTrue(before is None or isinstance(before, Tombstone), key)
                    else:
                        self.assertEqual(now, before, key)
                    kinds.add((base, type(now)))
        self.assertEqual(len(kinds), 8)

    def test_what_is_below_a_damaged_page_is_there_when_it_is_gone(self) -> None:
        self.patch(run_writer, "PAGE_SIZE", 25)
        layers = [
            {b"b": Record(b"new", "", 3, 3), b"c": Tombstone(3)},
            {b"a": Tombstone(2), b"c": Tombstone(2), b"d": Tombstone(2), b"e": Tombstone(2)},
            {b"b": Record(b"", "", 1, 1)},
        ]
        runs = [self.frozen(entries, base=False) for entries in layers]  # type: ignore[arg-type]
        bad, _ = runs[1].pages
        content = self.directory.content(bad.number)
        self.directory.remove([bad.number])
        after = self.finish(write_compacted(self.directory, "data", self.numbers, runs, 0, True, {bad.number}))
        self.assertEqual([[ref.first for ref in run.pages] for run in after], [[b"b", b"c"], [b"a"], [b"b"]])
        self.assertEqual([run.tombstones for run in after], [1, 2, 0])
        self.directory.write(bad.number, content)
        self.assertEqual(self.held(after[1]), {b"a": Tombstone(2), b"c": Tombstone(2)})
        self.assertEqual(self.held(after[2]), layers[2])

    def test_one_that_fails_around_a_damaged_page_leaves_nothing(self) -> None:
        disk = FaultyDisk()
        self.directory = PageDirectory(disk, str(self.path / "pages"))
        runs = [self.frozen({b"%02d" % n: Record(bytes(60), "", 1, 1) for n in range(20)}, False) for _ in range(3)]
        bad = runs[1].pages[2].number
        before = self.directory.numbers()
        failed = 0
        while True:
            disk.fail("write", errno.ENOSPC, skip=failed)
            try:
                after = self.finish(write_compacted(self.directory, "data", self.numbers, runs, 0, True, {bad}))
            except OSError:
                self.assertEqual(self.directory.numbers(), before)
                failed += 1
            else:
                break
        self.assertEqual(failed, sum(len(run.pages) for run in after) - 1)

    def test_a_page_that_is_not_known_to_be_damaged_ends_a_compaction(self) -> None:
        runs = [self.frozen({b"k": Tombstone(number)}, base=False) for number in (2, 1)]
        self.directory.remove([runs[1].pages[0].number])
        steps = write_compacted(self.directory, "data", self.numbers, runs, 0, True)
        self.assertRaises(StoreDamaged, self.finish, steps)
        [(ref, _)] = self.finish(damaged_pages(self.directory, runs))
        self.assertEqual(ref, runs[1].pages[0])

    def test_page_numbers_are_used_once(self) -> None:
        runs = [self.frozen({b"%02d" % n: Tombstone(1) for n in range(40)}, base=False) for _ in range(3)]
        numbers = [ref.number for found in runs for ref in found.pages]
        self.assertEqual(numbers, list(range(1, len(numbers) + 1)))
