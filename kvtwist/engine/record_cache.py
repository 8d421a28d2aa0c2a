"""
Records that were read from pages lately, ready to be handed out: it takes a page a while to find one.

They take what memory the cache of pages has no use for, and give it back when it has.
"""

from __future__ import annotations

from collections import OrderedDict

from kvtwist.engine.pages import PageCache
from kvtwist.model import Record

RECORD_COST = 400
"""Memory that a record takes beside its key and value: objects and dictionary; measured, rounded up."""
_LARGEST = 4096
"""A record of more bytes is not kept: finding it is little beside sending it."""


class RecordCache:
    """
    The records of one keyspace, by key; who has been here longest goes first.

    :param pages: whose memory it takes.
    :ivar get: the record of a key, if it is here.
    """

    def __init__(self, pages: PageCache) -> None:
        self._pages = pages
        self._records: OrderedDict[bytes, Record] = OrderedDict()
        self.get = self._records.get
        pages.borrowers.append(self)

    def put(self, key: bytes, record: Record) -> None:
        """Keep a record, if there is room."""
        cost = _cost(key, record)
        if cost > _LARGEST:
            return
        self.discard(key)
        self._records[key] = record
        self._pages.borrowed += cost
        if self._pages.borrowed > self._pages.lendable:
            self.give_back()

    def discard(self, key: bytes) -> None:
        """Keep it no longer."""
        if key in self._records:
            self._pages.borrowed -= _cost(key, self._records.pop(key))

    def give_back(self) -> None:
        """Give back what is more than the pages leave."""
        pages, records = self._pages, self._records
        while records and pages.borrowed > pages.lendable:
            pages.borrowed -= _cost(*records.popitem(last=False))


def _cost(key: bytes, record: Record) -> int:
    return RECORD_COST + len(key) + len(record.value)
