"""The record cache: the memory that it borrows, and that it never returns an outdated record."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kvtwist.engine.page import Page, encode_page, encode_record
from kvtwist.engine.pages import PageCache
from kvtwist.engine.record_cache import RECORD_COST, RecordCache
from kvtwist.model import DATA, TEXT, Clear, Delete, Put, Record
from tests.support.engine import Engine, EngineCase, result_of


def record(size: int = 10) -> Record:
    return Record(b"v" * size, TEXT, 1, 0)


COST = RECORD_COST + 2 + 10


class RecordCacheTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.pages = PageCache(20 * COST)
        self.records = RecordCache(self.pages)

    def keys(self) -> list[int]:
        return [number for number in range(100) if self.records.get(b"%02d" % number) is not None]

    def fill(self, count: int) -> None:
        for number in range(count):
            self.records.put(b"%02d" % number, record())

    def test_the_oldest_one_is_dropped_first(self) -> None:
        self.fill(12)
        self.assertEqual((self.keys(), self.pages.borrowed), ([*range(2, 12)], 10 * COST))

    def test_a_record_counts_once(self) -> None:
        for _ in range(5):
            self.records.put(b"00", record())
        self.assertEqual(self.pages.borrowed, COST)
        self.records.discard(b"00")
        self.records.discard(b"00")
        self.assertEqual((self.pages.borrowed, self.keys()), (0, []))

    def test_large_records_are_not_kept(self) -> None:
        self.pages.limit = 2**20
        for size in (3000, 5000):
            self.records.put(b"%02d" % (size // 1000), record(size))
        self.assertEqual(self.keys(), [3])

    def test_pages_take_back_what_they_need(self) -> None:
        self.fill(10)
        for number, size, left in ((1, 9, 10), (2, 5, 5), (3, 4, 1)):
            self.pages.put(number, Page(encode_page(1, DATA, [encode_record(b"a", record(size * COST))])))
            self.assertLessEqual(self.pages.size + self.pages.borrowed, self.pages.limit)
            self.assertEqual(len(self.keys()), left)
        self.pages.put(4, Page(encode_page(1, DATA, [encode_record(b"b", record(20 * COST))])))
        self.assertEqual((self.keys(), self.pages.borrowed), ([], 0))

    def test_they_go_at_once_when_there_is_less_room(self) -> None:
        self.fill(10)
        self.pages.resize(8 * COST)
        self.assertEqual((self.keys(), self.pages.borrowed), ([*range(6, 10)], 4 * COST))

    def test_several_keyspaces_share_what_there_is(self) -> None:
        other = RecordCache(self.pages)
        self.fill(10)
        other.put(b"00", record())
        self.assertLessEqual(self.pages.borrowed, self.pages.lendable)


class FreshnessTests(EngineCase):
    """The pages of these stores are read, and what was read is remembered."""

    def make_engine(self) -> Engine:
        return Engine(self.path / "store")

    def put(self, key: str, value: str) -> None:
        result_of(self.engine.store.transact([], [Put(DATA, key.encode(), value.encode(), TEXT)]))

    def get(self, key: str) -> str | None:
        found = result_of(self.engine.store.get(DATA, key.encode()))
        return None if found is None else found.value.decode()

    def remembered(self) -> int:
        return len(self.engine.store._keyspaces[DATA].recent._records)

    def setUp(self) -> None:
        super().setUp()
        for key in "abc":
            self.put(key, f"{key}1")
        self.engine.checkpoint()
        for _ in range(2):
            self.assertEqual([self.get(key) for key in "abc"], ["a1", "b1", "c1"])
        self.assertEqual(self.remembered(), 3)

    def test_what_is_written_is_read(self) -> None:
        self.put("a", "a2")
        result_of(self.engine.store.transact([], [Delete(DATA, b"b")]))
        self.assertEqual([self.get(key) for key in "abc"], ["a2", None, "c1"])
        self.engine.checkpoint()
        for _ in range(2):
            self.assertEqual([self.get(key) for key in "abc"], ["a2", None, "c1"])

    def test_what_is_cleared_is_gone(self) -> None:
        result_of(self.engine.store.transact([], [Clear(DATA), Put(DATA, b"a", b"a2", TEXT)]))
        self.assertEqual([self.get(key) for key in "abc"], ["a2", None, None])
        self.engine.checkpoint()
        for _ in range(2):
            self.assertEqual([self.get(key) for key in "abc"], ["a2", None, None])
