"""Looking at a store from outside: what is in a directory, what a damaged page still says, what a journal is missing."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st
from twisted.persisted.dirdbm import DirDBM

from kvtwist.engine.disk import Disk
from kvtwist.engine.inspection.diagnosis import manifest_faults
from kvtwist.engine.inspection.directory import look
from kvtwist.engine.inspection.page_faults import faults_of
from kvtwist.engine.inspection.readonly import ReadOnlyDisk
from kvtwist.engine.inspection.salvage import claim_of, readable_records
from kvtwist.engine.lock import DirectoryLock, ReadLock
from kvtwist.engine.manifest import Manifest
from kvtwist.engine.memtable import Entry, Tombstone
from kvtwist.engine.page import Page, decode_record, encode_page, encode_record, is_record, key_of, revision_of
from kvtwist.engine.pages import page_file, page_number
from kvtwist.engine.sorted_run import PageRef, SortedRun
from kvtwist.model import JSON, OCTETS, TEXT, Record, StoreInUse
from tests.support.engine import TestCase

ENTRIES: dict[bytes, Entry] = {
    b"%02d" % n: Record(b"value %d" % n * n, "text/plain", n + 1, 7, n if n % 3 else None) for n in range(20)
}
ENTRIES[b"05"] = Tombstone(3)
ENTRIES[b"07"] = Record(b"", "image/png", 4, 7, None)
RECORDS = {key: encode_record(key, entry) for key, entry in ENTRIES.items()}
PAGE = encode_page(1, "data", list(RECORDS.values()))


def readable(content: bytes) -> dict[bytes, bytes]:
    return dict(readable_records(content, claim_of(content, "data"), b"", None, 100))


class RecordTests(TestCase):
    def test_a_record_is_one(self) -> None:
        for key, record in RECORDS.items():
            self.assertTrue(is_record(record))
            self.assertEqual((key_of(record), decode_record(record)), (key, ENTRIES[key]))
            self.assertEqual(revision_of(record), ENTRIES[key].revision)

    def test_a_part_of_one_is_none(self) -> None:
        for key, record in RECORDS.items():
            start = len(record) - len(getattr(ENTRIES[key], "value", b""))
            for size in range(start):
                self.assertFalse(is_record(record[:size]), (key, size))
        self.assertFalse(is_record(RECORDS[b"05"] + b"x"))

    def test_one_of_a_media_type_that_is_unknown_is_none(self) -> None:
        known = {JSON: 0, TEXT: 1, OCTETS: 2}
        for media_type, number in known.items():
            record = encode_record(b"k", Record(b"v" * 99, media_type, 1, 1))
            self.assertEqual(record[2], number)
            numbers = [n for n in range(64) if is_record(record[:2] + bytes([n]) + record[3:])]
            self.assertLessEqual(set(numbers), {0, 1, 2, 63})
            self.assertLessEqual({0, 1, 2}, set(numbers))

    @given(st.binary(max_size=60))
    def test_whatever_passes_can_be_decoded(self, data: bytes) -> None:
        if is_record(data):
            decode_record(data)
            self.assertLessEqual(len(key_of(data)), len(data))


class SalvageTests(TestCase):
    def test_a_whole_page_is_read_as_a_whole(self) -> None:
        self.assertEqual(readable(PAGE), RECORDS)
        self.assertEqual(claim_of(PAGE).keyspace, "data")
        self.assertEqual(claim_of(PAGE).count, len(RECORDS))

    def test_a_byte_takes_one_record_at_the_most(self) -> None:
        table = PAGE.index(RECORDS[b"00"])
        for at in [*range(20), *range(25, 29), *range(table, len(PAGE))]:
            found = readable(PAGE[:at] + bytes([PAGE[at] ^ 0x55]) + PAGE[at + 1 :])
            missing = RECORDS.items() - found.items()
            self.assertLessEqual(len(missing), 1, at)

    def test_an_offset_takes_two_records_at_the_most(self) -> None:
        for at in range(29, PAGE.index(RECORDS[b"00"]) - 4):
            found = readable(PAGE[:at] + bytes([PAGE[at] ^ 0x55]) + PAGE[at + 1 :])
            self.assertLessEqual(len(RECORDS.items() - found.items()), 2, at)

    def test_records_on_both_sides_of_a_gap_are_read(self) -> None:
        start = PAGE.index(RECORDS[b"10"]) + 30
        for content in (PAGE[:start] + PAGE[start + 7 :], PAGE[:start] + b"1234567" + PAGE[start:]):
            self.assertLessEqual({key for key, _ in RECORDS.items() - readable(content).items()}, {b"10"})

    def test_what_cannot_be_is_left_out(self) -> None:
        claim = claim_of(PAGE, "data")
        self.assertEqual(list(dict(readable_records(PAGE, claim, b"03", b"06", 100))), [b"03", b"04", b"05"])
        self.assertEqual(len(readable_records(PAGE, claim, b"", None, 4)), 6)

    @given(st.binary(max_size=200))
    def test_no_bytes_are_too_strange(self, data: bytes) -> None:
        for content in (data, PAGE[:40] + data):
            for key, record in readable(content).items():
                self.assertTrue(is_record(record))
                self.assertEqual(key_of(record), key)
                self.assertIn(record, content)
        claim = claim_of(data)
        self.assertLessEqual(claim.table, len(data))
        self.assertTrue(claim.count is None or 0 <= claim.count <= len(data) // 4)


class FaultsTests(TestCase):
    """Pages that are whole, and the ones that the manifest means, and that should not have been written so."""

    def faults(self, content: bytes = PAGE, expires_ms: int | None = 1, stop: bytes = b"20", revision: int = 20) -> str:
        ref = PageRef(1, b"00", len(content), expires_ms, stop, Page(content).checksum)
        return "; ".join(f"{at}: {what}" for at, what in faults_of(Page(content), "data", ref, revision))

    def test_what_is_right_has_none(self) -> None:
        self.assertEqual(self.faults(), "")

    def test_each_is_told(self) -> None:
        first, second, *others = RECORDS.values()
        swapped = encode_page(1, "data", [first, *others, second])
        twice = encode_page(1, "data", [first, second, second, *others])
        for part, found in (
            ("keyspace 'other'", self.faults(encode_page(1, "other", list(RECORDS.values())))),
            ("first record to expire does so at 1, and should at None", self.faults(expires_ms=None)),
            ("key b'19' is not in the page's range", self.faults(stop=b"19")),
            ("is of revision 20, the manifest of 19", self.faults(revision=19)),
            ("key b'01' follows on b'19'", self.faults(swapped)),
            ("key b'01' follows on b'01'", self.faults(twice)),
            ("no record where one should begin", self.faults(encode_page(1, "data", [first, b"nonsense", second]))),
        ):
            self.assertIn(part, found)

    def test_a_fault_is_told_with_the_byte_where_its_record_begins(self) -> None:
        self.assertTrue(self.faults(stop=b"19").startswith(f"{PAGE.index(RECORDS[b'19'])}: "))

    def test_a_manifest_that_cannot_be(self) -> None:
        def of(*runs: SortedRun, next_page: int = 10) -> str:
            return "; ".join(manifest_faults(Manifest(7, 0, next_page, {"data": list(runs)})))

        one, two = PageRef(1, b"a", 9, None, b"aa\0", 3), PageRef(2, b"b", 9, None)
        self.assertEqual(of(SortedRun([one, two], 1, 1)), "")
        for part, found in (
            ("used twice", of(SortedRun([one], 1, 1), SortedRun([one], 1, 1))),
            ("not assigned yet", of(SortedRun([one, two], 1, 1), next_page=2)),
            ("key b'a' follows on b'b\\x00'", of(SortedRun([two, one], 1, 1))),
            ("key b'aa' follows on b'aa\\x00'", of(SortedRun([one, PageRef(2, b"aa", 9, None)], 1, 1))),
            ("a page from b'a' to before b'a'", of(SortedRun([PageRef(1, b"a", 9, None, b"a")], 1, 1))),
            ("no page", of(SortedRun([], 1, 1))),
        ):
            self.assertIn(part, found)


class DirectoryTests(TestCase):
    def test_pages_have_the_names_that_dirdbm_gives_them(self) -> None:
        database = DirDBM(os.fsencode(self.path))
        for number in (1, 9, 10, 123, 10**6, 2**60):
            database[b"%d" % number] = b""
            self.assertIn(page_file(number), os.listdir(self.path))
            self.assertEqual(page_number(page_file(number)), number)
        for name in ("", "_", "MQ==", "MQ==__", "MDE=_", "LTE=_", "notes", "MQ==_.new", "\udcff"):
            self.assertIsNone(page_number(name), name)

    def test_what_is_begun_is_a_store(self) -> None:
        DirectoryLock(str(self.path)).release()
        (self.path / "pages").mkdir()
        self.assertEqual(look(Disk(), str(self.path)).pages, set())

    def test_a_disk_to_look_at_changes_nothing(self) -> None:
        disk = ReadOnlyDisk()
        file = str(self.path / "file")
        (self.path / "file").write_bytes(b"content")
        for change in (disk.create, disk.reopen, disk.remove, disk.make_directory):
            self.assertRaises(OSError, change, file)
        self.assertRaises(OSError, disk.save, file, b"")
        for move in (disk.rename, disk.link):
            self.assertRaises(OSError, move, file, file + "2")
        disk.cut_file(file, 1)
        self.assertEqual(disk.read(file), b"content")


class ReadLockTests(TestCase):
    def test_it_keeps_writers_out_and_changes_nothing(self) -> None:
        ReadLock(str(self.path)).release()
        self.assertEqual(os.listdir(self.path), [])
        DirectoryLock(str(self.path)).release()
        before = (self.path / "lock").read_bytes()
        one, two = ReadLock(str(self.path)), ReadLock(str(self.path))
        self.assertRaises(StoreInUse, DirectoryLock, str(self.path))
        one.release()
        two.release()
        self.assertEqual((self.path / "lock").read_bytes(), before)
        writer = DirectoryLock(str(self.path))
        self.assertRaises(StoreInUse, ReadLock, str(self.path))
        writer.release()
