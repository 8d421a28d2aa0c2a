"""What a manifest says of pages: which page it means, and which keys are in none."""

from __future__ import annotations

from kvtwist.engine.page import Page, encode_page, encode_record
from kvtwist.engine.sorted_run import PageNeeded, PageRef, SortedRun
from kvtwist.model import Record
from tests.support.engine import TestCase
from tests.support.old_format import old_page


def content(
    number: int = 7, keyspace: str = "data", keys: tuple[bytes, ...] = (b"b", b"d"), value: bytes = b"v"
) -> bytes:
    return encode_page(number, keyspace, [encode_record(key, Record(value, "text/plain", 1, 2)) for key in keys])


RIGHT = Page(content())
REF = PageRef(7, b"b", RIGHT.size, None, b"d\0", RIGHT.checksum)
OLD = Page(old_page(content()))
OLD_REF = PageRef(7, b"b", OLD.size, None, b"e", "data")


class MeantTests(TestCase):
    def test_the_page_that_is_meant_has_no_fault(self) -> None:
        self.assertIsNone(REF.fault(RIGHT))
        self.assertIsNone(OLD_REF.fault(OLD))
        last = PageRef(7, b"b", OLD.size, None, None, "data")
        self.assertIsNone(last.fault(OLD))

    def test_each_difference_is_told(self) -> None:
        for other, told in (
            (content(number=8), "it is page 8"),
            (content(keyspace="atad"), "its checksum is"),
            (content(keys=(b"a", b"d")), "it begins with key b'a'"),
            (content(keys=(b"b", b"c")), "it ends with key b'c'"),
            (content(keys=(b"b", b"e")), "it ends with key b'e'"),
            (content(keys=(b"b", b"c", b"d")), "bytes long"),
            (content(value=b"w"), "its checksum is"),
            (content(keys=()), "bytes long"),
            (old_page(content()), "another format"),
        ):
            self.assertIn(told, str(REF.fault(Page(other))))
        empty = Page(content(keys=()))
        self.assertIn("no record", str(PageRef(7, b"b", empty.size, None, b"d\0", empty.checksum).fault(empty)))

    def test_each_difference_to_a_page_of_the_first_format_is_told(self) -> None:
        for other, told in (
            (content(keyspace="atad"), "it is a page of keyspace 'atad'"),
            (content(keys=(b"a", b"d")), "it begins with key b'a'"),
            (content(keys=(b"b", b"e")), "it ends with key b'e', and should before b'e'"),
            (content(keys=(b"b", b"c", b"d")), "bytes long"),
        ):
            self.assertIn(told, str(OLD_REF.fault(Page(old_page(other)))))
        self.assertIn("another format", str(OLD_REF.fault(RIGHT)))


class RangeTests(TestCase):
    """A key that is after the last one of a page, and before the next page, is in none: no page is asked."""

    RUN = SortedRun([REF, PageRef(8, b"f", 99, None, b"g\0", 1)], 4, 4)

    def asked(self, key: bytes) -> int | None:
        try:
            self.RUN.find(key, lambda ref: None)
        except PageNeeded as needed:
            return needed.ref.number
        return None

    def test_a_key_is_looked_for_where_it_can_be(self) -> None:
        expected = {b"a": None, b"b": 7, b"c": 7, b"d": 7, b"d\0": None, b"e": None, b"f": 8, b"g": 8, b"g\0": None}
        self.assertEqual({key: self.asked(key) for key in expected}, expected)

    def test_a_range_begins_where_it_can(self) -> None:
        for start, first in ((b"", 7), (b"d", 7), (b"d\0", 8), (b"e", 8), (b"g", 8), (b"g\0", None)):
            asked: list[int] = []

            def lookup(ref: PageRef, asked: list[int] = asked) -> Page:
                asked.append(ref.number)
                return RIGHT

            list(self.RUN.range(start, None, False, lookup))
            self.assertEqual(next(iter(asked), None), first, start)
