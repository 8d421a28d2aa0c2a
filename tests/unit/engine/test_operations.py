"""The properties of single operations."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from kvtwist.engine.frame import Change, Transaction
from kvtwist.engine.operations import (
    all_free_space,
    change_of,
    frees_space,
    has_valid_key,
    returns_records,
    size_of,
)
from kvtwist.engine.page import MAX_KEY
from kvtwist.model import DATA, HISTORY, STAGED, Append, Clear, Delete, Get, Operation, Peek, Put, Range, Restore

STAMP = b"\0\0\0\0\0\0\x03\xe8" + b"\0\0\0\0\0\0\0\x07"
"""Time and revision, of eight bytes each."""


class OperationTests(SynchronousTestCase):
    def test_a_page_can_hold_the_key(self) -> None:
        for length, expected in ((0, True), (MAX_KEY, True), (MAX_KEY + 1, False)):
            self.assertIs(has_valid_key(Put(DATA, b"k" * length, b"", "")), expected)
        for length, expected in ((0, True), (MAX_KEY - 16, True), (MAX_KEY - 15, False)):
            self.assertIs(has_valid_key(Append(HISTORY, b"k" * length, b"", "")), expected)
        self.assertTrue(has_valid_key(Delete(DATA, b"k" * 2 * MAX_KEY)))
        self.assertTrue(has_valid_key(Clear(DATA)))

    def test_whole_records_are_returned_by_some(self) -> None:
        delete, peek = Delete(DATA, b"k"), Peek(DATA, b"k")
        for operations, expected in (
            ([], False),
            ([delete, peek], False),
            ([delete, Get(DATA, b"k")], True),
            ([Range(DATA, b"", None, 1, False), peek], True),
        ):
            self.assertIs(returns_records(operations), expected)

    def test_its_size_in_the_journal(self) -> None:
        for operation, size in (
            (Put(DATA, b"12", b"345", ""), 5),
            (Append(DATA, b"1", b"2345", ""), 5),
            (Delete(DATA, b"123"), 3),
            (Clear(DATA), 0),
            (Get(DATA, b"k"), 0),
        ):
            self.assertEqual(size_of(operation), size)

    def test_what_the_journal_records_of_it(self) -> None:
        for operation, change in (
            (Put(DATA, b"k", b"v", "a/b"), Change(DATA, b"k", b"v", "a/b")),
            (Put(DATA, b"k", b"v", "a/b", 0), Change(DATA, b"k", b"v", "a/b", 1000)),
            (Put(DATA, b"k", b"v", "a/b", 5), Change(DATA, b"k", b"v", "a/b", 1005)),
            (Append(HISTORY, b"p", b"v", "a/b", 5), Change(HISTORY, b"p" + STAMP, b"v", "a/b", 1005)),
            (Append(HISTORY, b"p", b"v", "a/b"), Change(HISTORY, b"p" + STAMP, b"v", "a/b")),
            (Restore(DATA, b"k", b"v", "a/b", None, 4, 3), Change(DATA, b"k", b"v", "a/b", 3, 4)),
            (Delete(DATA, b"k"), Change(DATA, b"k")),
            (Clear(DATA), Change(DATA, None)),
        ):
            self.assertEqual(change_of(operation, 7, 1000), change)


class FreesSpaceTests(SynchronousTestCase):
    def test_what_leaves_no_more_than_there_was(self) -> None:
        """As each profile deletes, and what is no deletion."""
        written = Put(DATA, b"k", b"v", "")
        table: list[tuple[bool, Sequence[Operation]]] = [
            (True, [Delete(DATA, b"k")]),
            (True, [Clear(DATA)]),
            (True, [Delete(DATA, b"k"), Append(HISTORY, b"k", b"", "")]),
            (True, [Put(STAGED, b"k", b"", "")]),
            (True, [Clear(STAGED), Delete(DATA, b"k"), written]),
            (True, [Delete(STAGED, b"k"), written]),
            (False, [written]),
            (False, [Put(DATA, b"k", b"", "")]),
            (False, [Put(STAGED, b"k", b"v", "")]),
            (False, [written, Append(HISTORY, b"k", b"v", "")]),
            (False, [Delete(DATA, b"k"), written, written]),
            (True, [Delete(DATA, b"k"), written, written, Delete(DATA, b"k")]),
            (True, []),
        ]
        for expected, operations in table:
            self.assertEqual(frees_space(operations), expected, operations)
            transaction = Transaction(1, 0, [change(operation) for operation in operations])
            self.assertEqual(all_free_space([transaction]), expected, operations)
            refused = Transaction(2, 0, [change(written)])
            self.assertFalse(all_free_space([transaction, refused]))


def change(operation: Operation) -> Change:
    key = getattr(operation, "key", getattr(operation, "prefix", None))
    return Change(operation.keyspace, key, getattr(operation, "value", None))
