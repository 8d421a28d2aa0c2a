"""The memtable: entries in key order, and what of them has expired."""

from __future__ import annotations

import gc
import random

from kvtwist.engine.memtable import ENTRY_COST, Entry, Memtable, Tombstone, alive, traced, value_size
from kvtwist.model import Record
from tests.support.engine import TestCase


def record(value: bytes, expires_ms: int | None = None, revision: int = 1) -> Record:
    return Record(value, "text/plain", revision, 0, expires_ms)


class EntryTests(TestCase):
    def test_a_trace_has_all_of_a_record_but_a_large_value(self) -> None:
        for size, is_left_out in ((0, False), (256, False), (257, True), (10_000, True)):
            whole = record(b"v" * size, 5, revision=7)
            trace = traced(whole)
            assert isinstance(trace, Record)
            self.assertEqual(trace.value, b"" if is_left_out else whole.value)
            self.assertEqual(value_size(trace), value_size(whole))
            self.assertEqual((trace.media_type, trace.revision, trace.expires_ms), ("text/plain", 7, 5))
            self.assertIs(traced(trace), trace)
        self.assertEqual((traced(None), traced(Tombstone(1))), (None, Tombstone(1)))

    def test_a_record_lives_until_it_expires(self) -> None:
        for entry, lives in (
            (None, False),
            (Tombstone(1), False),
            (record(b"v"), True),
            (record(b"v", 10), False),
            (record(b"v", 11), True),
        ):
            self.assertIs(alive(entry, lambda: 10), entry if lives else None)


class MemtableTests(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.table = Memtable()

    def test_it_returns_the_newest_entry(self) -> None:
        old, new = record(b"1"), record(b"2", revision=2)
        self.assertIsNone(self.table.set(b"k", old))
        self.assertIs(self.table.set(b"k", new), old)
        self.assertIs(self.table.get(b"k"), new)
        self.assertEqual(len(self.table), 1)

    def test_a_tombstone_is_an_entry(self) -> None:
        self.table.set(b"k", Tombstone(7))
        self.assertEqual(self.table.get(b"k"), Tombstone(7))
        self.assertEqual(len(self.table), 1)

    def test_none_removes_an_entry(self) -> None:
        entries: list[Entry] = [record(b"1"), record(b"1", expires_ms=5), Tombstone(7)]
        for entry in entries:
            self.table.set(b"k", entry)
            self.assertIs(self.table.set(b"k", None), entry)
            self.assertIsNone(self.table.get(b"k"))
            self.assertIsNone(self.table.set(b"k", None))
            self.assertEqual(len(self.table), 0)
            self.assertEqual(self.table.expired(10, 10), [])

    def test_a_new_one_has_nothing(self) -> None:
        table = self.table
        self.assertEqual((len(table), table.records, table.weight, table.cost), (0, 0, 0, 0))

    def test_its_cost_is_that_of_what_it_holds(self) -> None:
        dice = random.Random(1)
        held: dict[bytes, Entry] = {}
        for _ in range(500):
            key = b"k" * dice.randrange(5)
            value = record(b"v" * dice.randrange(3), dice.choice([None, 5]))
            entry = dice.choice([None, Tombstone(1), value, value])
            self.table.set(key, entry)
            if entry is None:
                held.pop(key, None)
            else:
                held[key] = entry
            costs = [ENTRY_COST + len(key) + len(getattr(one, "value", b"")) for key, one in held.items()]
            self.assertEqual((self.table.cost, len(self.table)), (sum(costs), len(held)))

    def test_a_tombstone_never_changes_and_is_nothing_to_the_collector(self) -> None:
        tombstone = Tombstone(7)
        self.assertFalse(gc.is_tracked(tombstone))
        with self.assertRaises(AttributeError):
            tombstone.revision = 8  # type: ignore[misc]

    def test_a_range_is_in_byte_order_and_half_open(self) -> None:
        for key in (b"b", b"", b"\xff", b"a\x00", b"a", b"\xc3\xa9"):
            self.table.set(key, record(key))
        cases: list[tuple[bytes, bytes | None, list[bytes]]] = [
            (b"", None, [b"", b"a", b"a\x00", b"b", b"\xc3\xa9", b"\xff"]),
            (b"a", b"b", [b"a", b"a\x00"]),
            (b"a\x00", None, [b"a\x00", b"b", b"\xc3\xa9", b"\xff"]),
            (b"c", b"d", []),
            (b"b", b"b", []),
            (b"b", b"a", []),
        ]
        for start, stop, expected in cases:
            self.assertEqual([key for key, _ in self.table.range(start, stop)], expected)
            self.assertEqual([key for key, _ in self.table.range(start, stop, reverse=True)], expected[::-1])

    def test_what_expires_first_is_told_first(self) -> None:
        for key, expires_ms in ((b"a", 30), (b"b", 10), (b"c", None), (b"d", 20), (b"e", 40)):
            self.table.set(key, record(b"", expires_ms))
        self.assertEqual(self.table.expired(9, 10), [])
        self.assertEqual(self.table.expired(10, 10), [b"b"])
        self.assertEqual(self.table.expired(30, 10), [b"b", b"d", b"a"])
        self.assertEqual(self.table.expired(30, 2), [b"b", b"d"])

    def test_an_expiry_goes_with_its_entry(self) -> None:
        replacements: list[Entry | None] = [record(b"", 90), record(b""), Tombstone(2), None]
        for replacement in replacements:
            self.table.set(b"k", record(b"", 10))
            self.table.set(b"k", replacement)
            self.assertEqual(self.table.expired(50, 10), [])
