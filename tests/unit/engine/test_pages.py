"""
Pages: what is written comes back or is told to be damaged, and the traps of DirDBM that must stay shut.

An entry is on the disk when the write returns, an old one is never replaced, and no error of the disk is ever taken for
a key that is not there.
"""

from __future__ import annotations

import errno
import sys

from kvtwist.engine.memtable import Entry, Tombstone
from kvtwist.engine.page import (
    LANDMARKS,
    Page,
    decode_record,
    encode_page,
    encode_record,
    expires_of,
    is_record,
    key_of,
    number_of,
    revision_of,
    tombstone_of,
    weight_of,
)
from kvtwist.engine.pages import PageCache, PageDirectory, PageReader
from kvtwist.engine.sorted_run import PageRef
from kvtwist.model import Record, StoreDamaged, StoreError, StoreUnavailable
from tests.support.engine import FaultyDisk, TestCase


def record(value: bytes, expires_ms: int | None = None) -> Record:
    return Record(value, "application/octet-stream", 3, 4, expires_ms)


ENTRIES: dict[bytes, Entry] = {
    b"": record(b""),
    b"a": record(b"\x00\xff" * 9, 17),
    b"b" * 300: Record(b"x", "text/plain", 2**47, 2**41),
    b"c": Tombstone(12),
    b"d": Record(b"", "application/x-something-else", 1, 2, 2**47),
    b"\xff": Record(b"{}", "application/json", 9, 8),
}


def encoded(entries: dict[bytes, Entry], keyspace: str = "data", number: int = 1) -> bytes:
    return encode_page(number, keyspace, [encode_record(key, entry) for key, entry in entries.items()])


def ref_of(content: bytes) -> PageRef:
    """What a manifest says of a page."""
    page = Page(content)
    assert page.number is not None
    return PageRef(page.number, page[0], page.size, None, page[len(page) - 1] + b"\0", page.checksum)


CONTENT = encoded(ENTRIES)
PAGE = Page(CONTENT)
REF = ref_of(CONTENT)


class PageTests(TestCase):
    def test_a_page_comes_back_as_it_was_encoded(self) -> None:
        self.assertEqual((PAGE.number, PAGE.keyspace, len(PAGE), PAGE.size), (1, "data", len(ENTRIES), len(CONTENT)))
        self.assertEqual(list(PAGE.range(b"", None)), list(ENTRIES.items()))

    def test_a_key_is_found_or_not(self) -> None:
        self.assertEqual({key: PAGE.get(key) for key in ENTRIES}, ENTRIES)
        for key in (b"\x00", b"aa", b"b", b"b" * 299, b"b" * 301, b"\xff\xff", b"A"):
            self.assertIsNone(PAGE.get(key))

    def test_bytes_of_a_key_in_other_places_are_not_the_key(self) -> None:
        entries: dict[bytes, Entry] = {
            b"\x00000": record(b"k2"),
            b"k1": record(b"k2k3k0"),
            b"k11": record(b"k12"),
            b"k2": record(b"k1"),
            b"k2" * 200: record(b"v" * 400),
            b"k3": record(b"k2", 99),
            b"zzzz": Record(b"k4", "a/b", 1, 2),
        }
        page = Page(encoded(entries))
        for key, entry in entries.items():
            self.assertEqual(page.get(key), entry)
        for key in (b"k0", b"k12", b"k4", b"\x03a/b", b"k2" * 199, b"k2" * 201, b"a/bz", b"zzzzk"):
            self.assertIsNone(page.get(key), key)

    def test_keys_are_found_in_pages_of_any_size(self) -> None:
        for count in (1, 2, LANDMARKS - 1, LANDMARKS, LANDMARKS + 1, 3 * LANDMARKS, 3 * LANDMARKS + 1):
            for size in (0, 300, 600):  # the last ones have more bytes between landmarks than are searched
                entries: dict[bytes, Entry] = {b"%03d" % (2 * number): record(bytes(size)) for number in range(count)}
                page = Page(encoded(entries))
                for number in range(-1, 2 * count + 1):
                    key = b"%03d" % number
                    self.assertEqual(page.get(key), entries.get(key), (count, size, number))

    def test_times_and_revisions_of_any_size_come_back(self) -> None:
        for large in (0, 1, 2**32 - 1, 2**32, 2**40, 2**47, 2**48 - 1):
            for media_type in ("text/plain", "x/y"):
                for expires_ms in (None, large):
                    entry = Record(b"v", media_type, large, large, expires_ms)
                    encoded_record = encode_record(b"k", entry)
                    self.assertEqual(decode_record(encoded_record), entry)
                    self.assertEqual(Page(encoded({b"k": entry})).get(b"k"), entry)
                    self.assertEqual((revision_of(encoded_record), expires_of(encoded_record)), (large, expires_ms))
            self.assertEqual(decode_record(encode_record(b"k", Tombstone(large))), Tombstone(large))

    def test_bytes_with_the_structure_of_a_record_are_one(self) -> None:
        for key in (b"", b"k", b"k" * 255, b"k" * 256, b"k" * 0xFFFF):
            for entry in (
                Tombstone(1),
                record(b""),
                record(b"v", 7),
                Record(b"v", "x/y", 1, 2),
                Record(b"", "", 1, 2, 3),
            ):
                encoded_record = encode_record(key, entry)
                self.assertTrue(is_record(encoded_record), (key, entry))
                self.assertEqual(key_of(encoded_record), key)
                value = len(getattr(entry, "value", b""))
                self.assertFalse(is_record(encoded_record[: len(encoded_record) - value - 1]), (key[:9], entry))
                if isinstance(entry, Tombstone):
                    self.assertFalse(is_record(encoded_record + b"x"))
        named = encode_record(b"k", Record(b"v", "xy/z", 1, 2))
        self.assertFalse(is_record(named.replace(b"xy/z", b"x\xff/z")))
        self.assertFalse(is_record(b""))

    def test_the_number_is_in_the_first_bytes(self) -> None:
        for number in (0, 1, 2**40):
            content = encoded(ENTRIES, number=number)
            self.assertEqual(number_of(content), number)
            self.assertEqual(number_of(content[:20]), number)
            self.assertIsNone(number_of(content[:19]))
            self.assertIsNone(number_of(b"X" + content[1:]))

    def test_a_range_is_half_open(self) -> None:
        cases: list[tuple[bytes, bytes | None, list[bytes]]] = [
            (b"", None, list(ENTRIES)),
            (b"a", b"b" * 300, [b"a"]),
            (b"e", None, [b"\xff"]),
            (b"e", b"f", []),
        ]
        for start, stop, keys in cases:
            self.assertEqual([key for key, _ in PAGE.range(start, stop)], keys)
            self.assertEqual([key for key, _ in PAGE.range(start, stop, reverse=True)], keys[::-1])

    def test_records_are_copied_as_they_are(self) -> None:
        records = list(PAGE.records())
        self.assertEqual([key for key, _ in records], list(ENTRIES))
        self.assertEqual(encode_page(1, "data", [record for _, record in records]), CONTENT)

    def test_what_a_compaction_asks_of_an_encoded_record(self) -> None:
        for key, entry in ENTRIES.items():
            found = encode_record(key, entry)
            self.assertEqual(key_of(found), key)
            self.assertEqual(Page(encode_page(1, "data", [tombstone_of(found)])).get(key), Tombstone(entry.revision))
            if isinstance(entry, Record):
                self.assertEqual(expires_of(found), entry.expires_ms)
                self.assertEqual(weight_of(found), len(key) + len(entry.value))


class LargeRecordTests(TestCase):
    """A large value is one object for all who ask for it, and somebody knows what it takes."""

    SIZES = (10, 20_000, 8192 - 16, 8193 - 16, 30_000)

    def setUp(self) -> None:
        super().setUp()
        self.values = {b"%d" % n: Record(bytes([n]) * size, "text/plain", 3, 4) for n, size in enumerate(self.SIZES)}
        self.page = Page(encoded(self.values))  # type: ignore[arg-type]

    def taken(self, page: Page) -> int:
        """Bytes that it holds, beside what every page does."""
        values = [entry.value for entry in page._large.values() if isinstance(entry, Record)]
        held = [page._data, page._large, *values, *page._large.values()]
        return sum(map(sys.getsizeof, held)) - sys.getsizeof(b"") - sys.getsizeof({})

    def test_a_large_value_is_one_object(self) -> None:
        for key, expected in self.values.items():
            found = [self.page.get(key), self.page.get(key), *dict(self.page.range(key, key + b"\0")).values()]
            self.assertEqual(found, [expected] * 3)
            large = len(expected.value) > 8192 - 16
            self.assertEqual(
                len({id(record.value) for record in found if isinstance(record, Record)}), 1 if large else 3
            )

    def test_what_it_takes_is_told_once(self) -> None:
        told: list[int] = []
        self.page.on_share = told.append
        for _ in range(2):
            for key in self.values:
                self.page.get(key)
                self.assertLessEqual(self.taken(self.page), self.page.size + self.page.shared)
        self.assertEqual((len(told), sum(told)), (3, self.page.shared))
        self.assertLess(self.page.shared, 20_000 + 8193 + 30_000 + 3 * 500)

    def test_one_that_is_alone_in_its_page_takes_its_size_once(self) -> None:
        for entry in (Record(bytes(100_000), "text/plain", 3, 4), Record(bytes(9_000), "image/x", 5, 6, 7)):
            content = encoded({b"key": entry})
            page = Page(content)
            record = page.record(0)
            for _ in range(2):
                self.assertEqual(page.get(b"key"), entry)
                self.assertEqual((page.size, page[0], page.record(0)), (len(content), b"key", record))
                self.assertLessEqual(self.taken(page), page.size + page.shared)
            self.assertLess(page.shared, 500)
            self.assertIsNone(page.get(b"kex"))

    def test_a_cache_knows_what_its_pages_have_grown_to(self) -> None:
        cache = PageCache(200_000)
        lone = Page(encoded({b"k": record(bytes(50_000))}))
        self.page.get(b"1")
        for number, page in ((1, self.page), (2, lone)):
            cache.put(number, page)
        for key in self.values:
            self.page.get(key)
        lone.get(b"k")
        self.assertEqual(cache.size, self.page.size + self.page.shared + lone.size + lone.shared)
        self.assertLess(cache.size, 200_000)
        cache.resize(150_000)
        self.assertEqual((cache.get(1), cache.size), (None, lone.size + lone.shared))
        cache.put(3, other := Page(encoded(self.values)))  # type: ignore[arg-type]
        for key in self.values:
            other.get(key)
        self.assertIsNone(cache.get(2), "it made room")
        cache.discard(3)
        self.assertEqual(cache.size, 0)

    def test_a_page_that_was_given_up_is_nothing_to_the_cache(self) -> None:
        cache = PageCache(10**6)
        cache.put(1, self.page)
        cache.discard(1)
        self.page.get(b"1")
        self.assertEqual(cache.size, 0)


class PageDirectoryTests(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.disk = FaultyDisk()
        self.directory = PageDirectory(self.disk, str(self.path / "pages"))

    def test_a_page_comes_back_as_it_was_written(self) -> None:
        self.directory.write(1, CONTENT)
        other = encoded({b"k": record(b"v")}, "other", 20)
        self.directory.write(20, other)
        self.assertEqual(list(self.directory.read(REF).records()), list(PAGE.records()))
        self.assertEqual(self.directory.read(ref_of(other)).keyspace, "other")
        self.assertEqual(self.directory.numbers(), {1, 20})
        self.assertEqual(PageDirectory(self.disk, self.directory.path).read(REF).size, PAGE.size)

    def test_names_stay_short_and_plain_however_large_the_number(self) -> None:
        for number in (1, 2**31, 2**63):
            content = encoded(ENTRIES, number=number)
            self.directory.write(number, content)
            self.assertEqual(self.directory.read(ref_of(content)).size, PAGE.size)
            with open(self.directory.file_of(number), "rb") as file:
                self.assertTrue(file.read().startswith(b"kvtpage2"))
        self.assertEqual(self.directory.numbers(), {1, 2**31, 2**63})

    def test_a_page_is_synced_before_it_gets_its_name(self) -> None:
        name = self.directory.file_of(1)
        seen = []

        class Spy(FaultyDisk):
            def after(self, call: str, path: str) -> None:
                with open(path, "rb") as file:
                    seen.append((call, path, len(file.read()) > 100))

        PageDirectory(Spy(), self.directory.path).write(1, CONTENT)
        new = name + ".new"
        self.assertEqual(seen[:3], [("create", new, False), ("write", new, True), ("sync", new, True)])
        self.assertTrue((self.path / "pages" / name).exists())

    def test_names_are_synced_on_demand(self) -> None:
        self.disk.fail("sync_directory", errno.EIO, path=self.directory.path)
        self.assertRaises(OSError, self.directory.sync)
        self.directory.sync()

    def test_removed_pages_are_gone(self) -> None:
        for number in (1, 2, 3):
            self.directory.write(number, CONTENT)
        self.directory.remove([1, 3])
        self.assertEqual(self.directory.numbers(), {2})
        self.assertRaises(StoreDamaged, self.directory.read, REF)

    def test_a_page_that_cannot_be_removed_is_told(self) -> None:
        with self.assertRaises(StoreError) as caught:
            self.directory.remove([5])
        self.assertIn(self.directory.file_of(5), str(caught.exception))

    def test_damage_at_every_byte_is_noticed_and_names_the_file(self) -> None:
        self.directory.write(1, CONTENT)
        name = self.directory.file_of(1)
        with open(name, "rb") as file:
            content = file.read()
        damaged = [
            content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :]
            for at in range(len(content))
            for bit in (1, 128)
        ]
        damaged += [content[:length] for length in range(len(content))] + [content + b"\0", content + content]
        for text in damaged:
            with open(name, "wb") as file:
                file.write(text)
            with self.assertRaises(StoreDamaged) as caught:
                self.directory.read(REF)
            self.assertIn(name, str(caught.exception))

    def test_no_error_of_the_disk_is_taken_for_a_missing_key(self) -> None:
        self.directory.write(1, CONTENT)
        for number in (errno.EIO, errno.EACCES, errno.ENOMEM):
            self.disk.fail("read", number)
            with self.assertRaises(StoreError) as caught:
                self.directory.read(REF)
            self.assertIn(self.directory.file_of(1), str(caught.exception))
            self.assertNotIsInstance(caught.exception, KeyError)

    def test_where_no_file_can_be_opened_a_page_is_not_damaged(self) -> None:
        self.directory.write(1, CONTENT)
        for reader in (self.directory, PageReader(self.disk, self.directory.path)):
            for number in (errno.EMFILE, errno.ENFILE):
                self.disk.fail("read", number)
                with self.assertRaises(StoreUnavailable) as caught:
                    reader.read(REF)
                self.assertNotIn(str(self.path), str(caught.exception), "clients are told this")

    def test_a_page_that_cannot_be_written_leaves_nothing_and_says_why(self) -> None:
        for call in ("create", "write", "sync"):
            self.disk.fail(call, errno.ENOSPC)
            with self.assertRaises(OSError) as caught:
                self.directory.write(1, CONTENT)
            self.assertEqual(self.directory.numbers(), set())
            self.assertEqual(list((self.path / "pages").iterdir()), [])
            self.assertEqual(caught.exception.errno, errno.ENOSPC, f"{call}: {caught.exception}")
        self.assertEqual(self.disk.paths, {})

    def test_what_a_crash_left_of_a_write_is_removed(self) -> None:
        self.directory.write(1, CONTENT)
        with open(self.directory.file_of(2) + ".new", "wb") as file:
            file.write(b"half a pa")
        again = PageDirectory(self.disk, self.directory.path)
        self.assertEqual(again.numbers(), {1})
        self.assertEqual(len(list((self.path / "pages").iterdir())), 1)


class PageCacheTests(TestCase):
    def page(self, number: int, size: int) -> tuple[int, Page]:
        overhead = len(encoded({b"k": record(b"")}))
        return number, Page(encoded({b"k": record(bytes(size - overhead))}))

    def held(self, cache: PageCache) -> list[int]:
        return [number for number in range(1, 10) if number in cache._pages]

    def test_the_least_recently_used_page_goes_first(self) -> None:
        cache = PageCache(1000)
        for number in (1, 2, 3):
            cache.put(*self.page(number, 300))
        cache.get(1)
        cache.put(*self.page(4, 300))
        self.assertEqual(self.held(cache), [1, 3, 4])
        self.assertIsNone(cache.get(2))
        self.assertEqual(cache.size, 900)

    def test_one_page_is_held_even_if_it_is_larger_than_all_room(self) -> None:
        cache = PageCache(1)
        for number in (1, 2):
            _, page = self.page(number, 500)
            cache.put(number, page)
            self.assertIs(cache.get(number), page)
        self.assertEqual((self.held(cache), cache.size), ([2], 500))

    def test_what_no_longer_fits_goes_at_once_when_there_is_less_room(self) -> None:
        cache = PageCache(1000)
        for number in (1, 2, 3):
            cache.put(*self.page(number, 300))
        cache.resize(700)
        self.assertEqual((self.held(cache), cache.size), ([2, 3], 600))

    def test_a_page_that_is_put_again_counts_once(self) -> None:
        cache = PageCache(1000)
        for _ in range(3):
            cache.put(*self.page(1, 400))
        self.assertEqual((self.held(cache), cache.size), ([1], 400))

    def test_a_discarded_page_gives_its_memory_back(self) -> None:
        cache = PageCache(1000)
        cache.put(*self.page(1, 400))
        cache.discard(1)
        cache.discard(1)
        self.assertIsNone(cache.get(1))
        self.assertEqual(cache.size, 0)
