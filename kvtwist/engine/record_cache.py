"""
Records that were recently read from pages: reading one from here is faster than finding it in its page.

They borrow memory that the page cache does not use, and give it back when the page cache needs it.
"""

from __future__ import annotations

from collections import OrderedDict

from kvtwist.engine.pages import PageCache
from kvtwist.model import Record

RECORD_COST = 400
"""Memory of a record besides its key and value: objects and dictionary; measured, rounded up."""
_LARGEST = 4096
"""A larger record is not kept: sending it takes much longer than finding it."""


class RecordCache:
    """
    The records of one keyspace, by key. The one that was added first is dropped first.

    :param pages: the page cache whose memory is borrowed.
    :ivar get: the record of a key; None if it is not here.
    """

    def __init__(self, pages: PageCache) -> None:
        self._pages = pages
        self._records: OrderedDict[bytes, Record] = OrderedDict()
        self.get = self._records.get
        pages.borrowers.append(self)

    def put(self, key: bytes, record: Record) -> None:
        """Keep a record."""
        cost = _cost(key, record)
        if cost > _LARGEST:
            return
        self.discard(key)
        self._records[key] = record
        self._pages.borrowed += cost
        if self._pages.borrowed > self._pages.lendable:
            self.give_back()

    def discard(self, key: bytes) -> None:
        """Drop the record of a key."""
        if key in self._records:
            self._pages.borrowed -= _cost(key, self._records.pop(key))

    def give_back(self) -> None:
        """See `Borrower`."""
        pages, records = self._pages, self._records
        while records and pages.borrowed > pages.lendable:
            pages.borrowed -= _cost(*records.popitem(last=False))


def _cost(key: bytes, record: Record) -> int:
    return RECORD_COST + len(key) + len(record.value)
