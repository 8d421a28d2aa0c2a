"""
One ordered keyspace: a memtable over one sorted level of pages, and while a checkpoint runs a frozen memtable between.

Everything that a `Clear` drops at once, and that its undoing brings back at once, is in one object, `Tables`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import partial
from heapq import merge
from operator import itemgetter

from kvtwist.engine.memtable import Entry, Memtable, Tombstone
from kvtwist.engine.pages import Page, PageRef
from kvtwist.model import Record, Usage

PageLookup = Callable[[PageRef], Page | None]
_ABSENT = Tombstone(0)
_by_key = itemgetter(0)


class PageNeeded(Exception):
    """The answer is in a page that is not in memory."""

    def __init__(self, ref: PageRef) -> None:
        self.ref = ref


class Tables:
    """
    :ivar active: what changed since the last checkpoint began.
    :ivar frozen: what a running checkpoint is moving into pages; nobody changes it.
    :ivar pages: the pages of the last finished checkpoint, in key order.
    :ivar expires_ms: when the first record in a page expires, None for never.
    """

    def __init__(self) -> None:
        self.active = Memtable()
        self.frozen: Memtable | None = None
        self.pages: list[PageRef] = []
        self.expires_ms: int | None = None
        self._firsts: list[bytes] = []

    def install(self, pages: list[PageRef]) -> None:
        """Read from these pages from now on; they hold what was frozen."""
        self.frozen = None
        self.pages = pages
        self.expires_ms = min((ref.expires_ms for ref in pages if ref.expires_ms is not None), default=None)
        self._firsts = [ref.first for ref in pages]

    def freeze(self) -> None:
        """Begin a new active memtable."""
        self.frozen = self.active
        self.active = Memtable()

    def newest(self, key: bytes) -> Entry | None:
        """What the memtables know of a key."""
        entry = self.active.get(key)
        if entry is None and self.frozen is not None:
            entry = self.frozen.get(key)
        return entry

    def page_of(self, key: bytes) -> PageRef | None:
        """The page that holds a key if any does."""
        at = bisect_right(self._firsts, key)
        return self.pages[at - 1] if at else None

    def pages_in(self, start: bytes, stop: bytes | None) -> list[PageRef]:
        """The pages that may hold keys with start <= key < stop."""
        low = max(bisect_right(self._firsts, start) - 1, 0)
        return [ref for ref in self.pages[low:] if stop is None or ref.first < stop]

    def find(self, key: bytes, lookup: PageLookup) -> Entry | None:
        """
        The newest entry of a key: a record, a tombstone, or None.

        :raises PageNeeded: when `lookup` does not have the page.
        """
        entry = self.newest(key)
        if entry is not None:
            return entry
        ref = self.page_of(key)
        if ref is None:
            return None
        page = lookup(ref)
        if page is None:
            raise PageNeeded(ref)
        return page.get(key)

    def merged(
        self, start: bytes, stop: bytes | None, reverse: bool, lookup: PageLookup
    ) -> Iterator[tuple[bytes, Entry]]:
        """
        The newest entry of every key with start <= key < stop, in order.

        :raises PageNeeded: on the way, when `lookup` does not have a page.
        """
        sources: list[Iterator[tuple[bytes, Entry]]] = [self.active.range(start, stop, reverse)]
        if self.frozen is not None:
            sources.append(self.frozen.range(start, stop, reverse))
        if self.pages:
            sources.append(self._paged(start, stop, reverse, lookup))
        # `merge` is stable: of equal keys the one from the newest source comes first.
        previous: bytes | None = None
        for key, entry in merge(*sources, key=_by_key, reverse=reverse):
            if key != previous:
                previous = key
                yield key, entry

    def _paged(
        self, start: bytes, stop: bytes | None, reverse: bool, lookup: PageLookup
    ) -> Iterator[tuple[bytes, Record]]:
        refs = self.pages_in(start, stop)
        for ref in reversed(refs) if reverse else refs:
            page = lookup(ref)
            if page is None:
                raise PageNeeded(ref)
            yield from page.range(start, stop, reverse)

    def set(self, key: bytes, entry: Entry, lookup: PageLookup) -> Callable[[], object]:
        """Make an entry the newest of its key; returns what takes that back."""
        active = self.active
        old: Entry = self._known(key, lookup) or _ABSENT
        undo = partial(self._restore, active, key, active.get(key), active.records, active.size)
        active.records += isinstance(entry, Record) - isinstance(old, Record)
        active.size += _weight(key, entry) - _weight(key, old)
        active.set(key, entry)
        return undo

    def forget(self, key: bytes) -> None:
        """Give up the active entry of a record that has expired."""
        active = self.active
        entry = active.get(key)
        assert isinstance(entry, Record)
        active.records -= 1
        active.size -= _weight(key, entry)
        shadows = self.frozen is not None or self.page_of(key) is not None
        active.set(key, Tombstone(entry.revision) if shadows else None)

    def usage(self) -> Usage:
        """See `kvtwist.model.Usage`."""
        tables = [self.active] if self.frozen is None else [self.active, self.frozen]
        return Usage(
            sum(ref.records for ref in self.pages) + sum(table.records for table in tables),
            sum(ref.size for ref in self.pages) + sum(table.size for table in tables),
        )

    def _known(self, key: bytes, lookup: PageLookup) -> Entry | None:
        try:
            return self.find(key, lookup)
        except PageNeeded:
            return None  # counted as new until the next checkpoint, see `Usage`

    @staticmethod
    def _restore(table: Memtable, key: bytes, entry: Entry | None, records: int, size: int) -> None:
        table.set(key, entry)
        table.records = records
        table.size = size


def _weight(key: bytes, entry: Entry) -> int:
    return len(key) + len(entry.value) if isinstance(entry, Record) else 0


class Keyspace:
    """
    :ivar tables: what it holds.
    :ivar cleared: the revision of its last `Clear`; what is missing here is missing since then.
    """

    def __init__(self) -> None:
        self.tables = Tables()
        self.cleared = 0

    def clear(self, revision: int) -> Callable[[], object]:
        """Drop everything; returns what takes that back."""
        undo = partial(self._restore, self.tables, self.cleared)
        self.tables = Tables()
        self.cleared = revision
        return undo

    def _restore(self, tables: Tables, cleared: int) -> None:
        self.tables = tables
        self.cleared = cleared
