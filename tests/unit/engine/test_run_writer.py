"""Runs as they are written: where each page ends, what is counted, and what is left out."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TypeVar

from kvtwist.engine import run_writer
from kvtwist.engine.memtable import Entry, Memtable, Tombstone
from kvtwist.engine.page import encode_record, weight_of
from kvtwist.engine.pages import PageDirectory
from kvtwist.engine.run_writer import (
    PageNumbers,
    RunWriter,
    damaged_pages,
    without_dead,
    write_compacted,
    write_frozen,
    write_purged,
    write_run,
)
from kvtwist.engine.sorted_run import PageRef, SortedRun
from kvtwist.model import Record
from tests.support.engine import FaultyDisk, TestCase

T = TypeVar("T")
HEAD = 2 + 1 + 6 + 6
"""Bytes of a record of octets before its key."""


def record(size: int, expires_ms: int | None = None, revision: int = 1) -> Record:
    return Record(bytes(size), "application/octet-stream", revision, 1, expires_ms)


class WriterCase(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(run_writer, "PAGE_SIZE", 100)
        self.directory = PageDirectory(FaultyDisk(), str(self.path / "pages"))
        self.numbers = PageNumbers(7)

    def encoded(self, **entries: Entry) -> Iterator[tuple[bytes, bytes]]:
        for key, entry in entries.items():
            yield key.encode(), encode_record(key.encode(), entry)

    def finish(self, steps: Generator[None, None, T]) -> T:
        self.steps = 0
        while True:
            try:
                next(steps)
                self.steps += 1
            except StopIteration as end:
                found: T = end.value
                return found

    def run_of(self, **entries: Entry) -> SortedRun:
        return self.finish(write_run(self.directory, "data", self.numbers, self.encoded(**entries)))

    def keys(self, run: SortedRun) -> list[list[bytes]]:
        """The keys of each page; what the run says of it has to be right."""
        found = []
        for ref in run.pages:
            page = self.directory.read(ref)
            entries = dict(page.range(b"", None))
            expiries = [
                entry.expires_ms for entry in entries.values() if isinstance(entry, Record) and entry.expires_ms
            ]
            self.assertEqual(ref.expires_ms, min(expiries, default=None))
            self.assertEqual((ref.first, ref.stop), (min(entries), max(entries) + b"\0"))
            self.assertEqual((ref.size, ref.seal), (page.size, page.checksum))
            found.append(list(entries))
        return found


class RunTests(WriterCase):
    def test_a_page_ends_before_the_record_that_does_not_fit(self) -> None:
        half = record(50 - HEAD - 1)
        for entries, pages in (
            ({"a": half, "b": half}, [[b"a", b"b"]]),
            ({"a": half, "b": record(51 - HEAD - 1)}, [[b"a"], [b"b"]]),
            ({"a": half, "b": half, "c": Tombstone(1)}, [[b"a", b"b"], [b"c"]]),
            ({"a": record(1000), "b": half}, [[b"a"], [b"b"]]),
            ({"a": Tombstone(1), "b": record(1000)}, [[b"a"], [b"b"]]),
        ):
            self.assertEqual(self.keys(self.run_of(**entries)), pages)

    def test_what_it_holds_is_counted(self) -> None:
        run = self.run_of(a=record(60, 9), b=Tombstone(1), c=record(70, 5), d=record(0), e=Tombstone(2))
        self.assertEqual((run.records, run.weight, run.tombstones), (3, 3 + 130, 2))
        self.assertEqual([ref.expires_ms for ref in run.pages], [9, 5, None])
        self.assertEqual([ref.number for ref in run.pages], [7, 8, 9])
        self.assertEqual(self.run_of(), SortedRun([], 0, 0, 0))
        self.keys(run)

    def test_it_is_written_in_steps(self) -> None:
        self.patch(run_writer, "STEP", 4)
        # A step ends with a page, which the record after it begins, or with the fourth record of none.
        for count, size, steps in ((9, 100, 8), (9, 0, 2), (3, 0, 0), (4, 0, 1), (12, 20, 5)):
            records = ((b"%02d" % n, encode_record(b"%02d" % n, record(size))) for n in range(count))
            self.finish(write_run(self.directory, "data", self.numbers, records))
            self.assertEqual(self.steps, steps, (count, size))

    def test_records_that_are_left_out_are_steps_as_well(self) -> None:
        self.patch(run_writer, "STEP", 4)
        run = self.finish(write_run(self.directory, "data", self.numbers, ((b"k", None) for _ in range(9))))
        self.assertEqual((run, self.steps), (SortedRun([], 0, 0, 0), 2))

    def test_nothing_is_left_of_what_is_undone(self) -> None:
        writer = RunWriter(self.directory, "data", self.numbers)
        wrote = [writer.add(key, encoded) for key, encoded in self.encoded(a=record(90), b=record(90), c=record(90))]
        self.assertEqual((wrote, self.directory.numbers()), ([False, True, True], {7, 8}))
        writer.undo()
        self.assertEqual(self.directory.numbers(), set())

    def test_expired_records_become_tombstones_where_older_ones_may_be_below(self) -> None:
        entries: dict[str, Entry] = {"a": record(1), "b": record(1, 10), "c": record(1, 11), "d": Tombstone(3)}
        for base, kept in (
            (True, {"a": entries["a"], "c": entries["c"]}),
            (False, {**entries, "b": Tombstone(1)}),
        ):
            found = list(without_dead(self.encoded(**entries), 10, base))
            expected = dict(self.encoded(**kept))
            self.assertEqual(found, [(key.encode(), expected.get(key.encode())) for key in entries])


class FrozenTests(WriterCase):
    def frozen(self, **entries: Entry) -> Memtable:
        table = Memtable()
        for key, entry in entries.items():
            table.set(key.encode(), entry)
            table.records += isinstance(entry, Record)
            table.weight += len(key) + len(getattr(entry, "value", b"")) if isinstance(entry, Record) else 0
        return table

    def test_superseded_records_are_counted_and_not_written(self) -> None:
        table = self.frozen(a=record(5), b=record(6), c=Tombstone(1), d=Tombstone(1))
        for base, tombstones in ((True, 0), (False, 1)):
            run = self.finish(
                write_frozen(self.directory, "data", self.numbers, table, 0, base, lambda key: key in (b"b", b"d"))
            )
            self.assertEqual(self.keys(run), [[b"a"] if base else [b"a", b"c"]])
            self.assertEqual((run.records, run.weight, run.tombstones), (2, 13, tombstones))

    def test_expired_records_are_not_counted_in_a_base_run(self) -> None:
        table = self.frozen(a=record(5), b=record(6, 10))
        for base, records in ((True, (1, 6)), (False, (2, 13))):
            run = self.finish(write_frozen(self.directory, "data", self.numbers, table, 10, base))
            self.assertEqual((run.records, run.weight), records)

    def test_a_compacted_run_that_is_no_base_run_keeps_what_its_runs_were_counted_for(self) -> None:
        newer, older = self.run_of(a=record(5), b=Tombstone(2)), self.run_of(a=record(9), b=record(9), c=record(9))
        runs = [SortedRun(newer.pages, 1, 10, 1), SortedRun(older.pages, 3, 30, 0)]
        for base, expected in ((True, (2, 1 + 5 + 1 + 9, 0)), (False, (4, 40, 1))):
            [run] = self.finish(write_compacted(self.directory, "data", self.numbers, runs, 0, base))
            self.assertEqual((run.records, run.weight, run.tombstones), expected)
            self.assertEqual(self.keys(run), [[b"a", b"c"]] if base else [[b"a", b"b", b"c"]])


class PurgedTests(WriterCase):
    def test_pages_with_expired_records_alone_are_written_anew(self) -> None:
        run = self.run_of(
            a=record(90),
            b=record(30, 10),
            c=record(30),
            d=record(90, 11),
            e=record(30, 5),
            f=Tombstone(1),
            g=record(90),
        )
        self.assertEqual(self.keys(run), [[b"a"], [b"b", b"c"], [b"d"], [b"e", b"f"], [b"g"]])
        weights = {key: weight_of(encode_record(b"k", record(size))) for key, size in (("b", 30), ("e", 30))}
        for base, keys, gone, tombstones in (
            (True, [[b"a"], [b"c"], [b"d"], [b"g"]], 2, 0),
            (False, [[b"a"], [b"b", b"c"], [b"d"], [b"e", b"f"], [b"g"]], 2, 3),
        ):
            [purged] = self.finish(write_purged(self.directory, "data", self.numbers, [run], 10, base))
            self.assertEqual(self.keys(purged), keys)
            self.assertEqual(purged.records, run.records - gone)
            self.assertEqual(purged.weight, run.weight - sum(weights.values()))
            self.assertEqual(purged.tombstones, tombstones)
            kept = [ref for ref in run.pages if ref.first in (b"a", b"d", b"g")]
            self.assertEqual([ref for ref in purged.pages if ref in run.pages], kept)
        damaged = {run.pages[1].number}
        [purged] = self.finish(write_purged(self.directory, "data", self.numbers, [run], 10, True, damaged))
        self.assertEqual(purged.pages[1], run.pages[1])


class DamagedTests(WriterCase):
    def test_each_page_is_read_in_a_step(self) -> None:
        run = self.run_of(a=record(90), b=record(90), c=record(90))
        missing = PageRef(99, b"x", 1, None)
        found = self.finish(damaged_pages(self.directory, [run, SortedRun([missing], 0, 0)]))
        self.assertEqual(([ref for ref, _ in found], self.steps), ([missing], 4))
