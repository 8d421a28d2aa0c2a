"""
One ordered keyspace: a memtable over runs of pages, and while a checkpoint is written a frozen memtable between.

Everything that a `Clear` drops at once, and that its undoing brings back at once, is in one object, `Tables`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from msgspec import Struct

from kvtwist.engine.memtable import Entry, Memtable, Tombstone, Trace
from kvtwist.engine.pages import PageCache
from kvtwist.engine.record_cache import RecordCache
from kvtwist.engine.sorted_run import PageLookup, SortedRun, find_in, newest_of
from kvtwist.model import Record, Usage


class Tables:
    """
    :ivar active: what changed since the last checkpoint began.
    :ivar frozen: what a running checkpoint is writing; nobody changes it.
    :ivar runs: what is on disk, the newest run first.
    """

    def __init__(self, on_disk: bool = True) -> None:
        self._on_disk = on_disk
        self.active = Memtable()
        self.frozen: Memtable | None = None
        self.runs: list[SortedRun] = []
        self.expires_ms: int | None = None
        """When the first record on disk expires, None for never."""

    def install(self, runs: list[SortedRun]) -> None:
        """Read from these runs from now on."""
        self.runs = runs
        expiries = [run.expires_ms for run in runs]
        self.expires_ms = min((expires_ms for expires_ms in expiries if expires_ms is not None), default=None)

    def freeze(self) -> None:
        """Begin a new active memtable."""
        self.frozen = self.active
        self.active = Memtable()

    def in_memtables(self, key: bytes) -> Entry | None:
        """The newest entry of a key that is in a memtable."""
        entry = self.active.get(key)
        if entry is None and self.frozen is not None:
            entry = self.frozen.get(key)
        return entry

    def merged(
        self, start: bytes, stop: bytes | None, reverse: bool, lookup: PageLookup
    ) -> Iterator[tuple[bytes, Entry]]:
        """
        The newest entry of every key with start <= key < stop, in order.

        :raises PageNeeded: on the way, when `lookup` does not have a page.
        """
        tables = [self.active] if self.frozen is None else [self.active, self.frozen]
        sources = [table.range(start, stop, reverse) for table in tables]
        sources += [run.range(start, stop, reverse, lookup) for run in self.runs]
        return newest_of(sources, reverse)

    def set(self, key: bytes, entry: Entry, old: Entry | None) -> tuple[Memtable, Entry | None, int, int]:
        """
        Make an entry the newest of its key; returns the table that has changed, its entry before, and by how many
        records and bytes it has grown.

        :param old: what it takes the place of, for `usage`.
        """
        active = self.active
        records = weight = 0
        if type(entry) is Record:
            records, weight = 1, len(key) + len(entry.value)
        if type(old) is Record:
            records, weight = records - 1, weight - len(key) - len(old.value)
        elif type(old) is Trace:
            records, weight = records - 1, weight - len(key) - old.size
        active.records += records
        active.weight += weight
        # Without a disk there is nothing older that a tombstone would hide, and nobody who waits for it to be durable.
        before = active.set(key, None if type(entry) is Tombstone and not self._on_disk else entry)
        return active, before, records, weight

    def forget(self, key: bytes) -> None:
        """Give up the active entry of a record that has expired."""
        active = self.active
        entry = active.get(key)
        assert isinstance(entry, Record)
        active.records -= 1
        active.weight -= len(key) + len(entry.value)
        shadows = self.frozen is not None or self.runs
        active.set(key, Tombstone(entry.revision) if shadows else None)

    def usage(self) -> Usage:
        """See `kvtwist.model.Usage`."""
        tables = [self.active] if self.frozen is None else [self.active, self.frozen]
        return Usage(
            sum(run.records for run in self.runs) + sum(table.records for table in tables),
            sum(run.weight for run in self.runs) + sum(table.weight for table in tables),
        )


class _Unset(Struct, gc=False):
    """Takes back one `Keyspace.set`. The table may have been frozen since. A transaction has one for each change."""

    keyspace: Keyspace
    table: Memtable
    key: bytes
    before: Entry | None
    records: int
    weight: int
    changed: int

    def __call__(self) -> None:
        self.table.set(self.key, self.before)
        self.table.records -= self.records
        self.table.weight -= self.weight
        self.keyspace.changed = self.changed


class Keyspace:
    """
    :ivar tables: what it holds.
    :ivar recent: records that its pages hold; those of before the last `Clear` may be among them.
    :ivar cleared: the revision of its last `Clear`; what is missing here is missing since then.
    :ivar changed: the revision of its last change; after a start, that of the manifest until there is a newer one.
    """

    def __init__(self, on_disk: bool = True, changed: int = 0, pages: PageCache | None = None) -> None:
        self.tables = Tables(on_disk)
        self.recent = RecordCache(pages or PageCache(0))
        self.cleared = 0
        self.changed = changed
        self._on_disk = on_disk

    def get(self, key: bytes, lookup: PageLookup) -> Entry | None:
        """
        The newest entry of a key: a record, a tombstone, or None.

        :raises PageNeeded: when `lookup` does not have a page that it takes to know.
        """
        tables = self.tables
        entry = tables.in_memtables(key)
        if entry is None and tables.runs:
            entry = self.recent.get(key)
            if entry is None or entry.revision < self.cleared:
                entry = find_in(tables.runs, key, lookup)
                if type(entry) is Record:
                    self.recent.put(key, entry)
        return entry

    def set(self, key: bytes, entry: Entry, old: Entry | None) -> Callable[[], object]:
        """
        Make an entry the newest of its key; returns what takes that back.

        :param old: what it takes the place of, for `usage`.
        """
        self.recent.discard(key)
        table, before, records, weight = self.tables.set(key, entry, old)
        undo = _Unset(self, table, key, before, records, weight, self.changed)
        self.changed = entry.revision
        if not self._on_disk and type(entry) is Tombstone:
            self.cleared = entry.revision  # no entry tells since when the key is missing
        return undo

    def clear(self, revision: int) -> Callable[[], object]:
        """Drop everything; returns what takes that back."""
        undo = partial(self._unclear, self.tables, self.cleared, self.changed)
        self.tables = Tables(self._on_disk)
        self.cleared = self.changed = revision
        return undo

    def _unclear(self, tables: Tables, cleared: int, changed: int) -> None:
        self.tables = tables
        self.cleared = cleared
        self.changed = changed
