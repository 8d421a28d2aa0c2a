"""
A keyspace: a memtable over sorted runs, with a frozen memtable between them while a checkpoint runs.

All that a `Clear` drops, and that its undo brings back, is in one object: `Tables`.
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
    :ivar active: the memtable of changes since the last checkpoint began.
    :ivar frozen: the memtable that the running checkpoint writes. It does not change.
    :ivar runs: the runs on disk, the newest first.
    """

    def __init__(self, on_disk: bool = True) -> None:
        self._on_disk = on_disk
        self.active = Memtable()
        self.frozen: Memtable | None = None
        self.runs: list[SortedRun] = []
        self.expires_ms: int | None = None
        """When the first record on disk expires; None for never."""

    def install(self, runs: list[SortedRun]) -> None:
        """Replace the runs."""
        self.runs = runs
        expiries = [run.expires_ms for run in runs]
        self.expires_ms = min((expires_ms for expires_ms in expiries if expires_ms is not None), default=None)

    def freeze(self) -> None:
        """Make the active memtable the frozen one, and begin a new one."""
        self.frozen = self.active
        self.active = Memtable()

    def first_expiry(self) -> int | None:
        """When the first record expires, in ms since the epoch, as far as it is known; None for never."""
        expiries = [self.expires_ms, self.active.first_expiry]
        if self.frozen is not None:
            expiries.append(self.frozen.first_expiry)
        return min((expires_ms for expires_ms in expiries if expires_ms is not None), default=None)

    def in_memtables(self, key: bytes) -> Entry | None:
        """The newest entry of a key in the memtables."""
        entry = self.active.get(key)
        if entry is None and self.frozen is not None:
            entry = self.frozen.get(key)
        return entry

    def merged(
        self, start: bytes, stop: bytes | None, reverse: bool, lookup: PageLookup
    ) -> Iterator[tuple[bytes, Entry]]:
        """
        The newest entry of every key with start <= key < stop, in order.

        :raises PageNeeded: while iterating, if `lookup` does not have a page.
        """
        tables = [self.active] if self.frozen is None else [self.active, self.frozen]
        sources = [table.range(start, stop, reverse) for table in tables]
        sources += [run.range(start, stop, reverse, lookup) for run in self.runs]
        return newest_of(sources, reverse)

    def set(self, key: bytes, entry: Entry, old: Entry | None) -> tuple[Memtable, Entry | None, int, int]:
        """
        Make an entry the newest of its key. Returns the changed memtable, its previous entry, and the records and bytes
        by which it has grown.

        :param old: the entry that is replaced, for `usage`.
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
        # A store in memory needs no tombstones: no older record is below them, and no read waits for their batch.
        before = active.set(key, None if type(entry) is Tombstone and not self._on_disk else entry)
        return active, before, records, weight

    def forget(self, key: bytes) -> None:
        """Remove an expired record from the active memtable."""
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
    """The undo of one `Keyspace.set`, in the table that it changed, which may be frozen by now."""

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
    :ivar tables: its memtables and runs.
    :ivar recent: records that were read from pages; some may be older than the last `Clear`.
    :ivar cleared: the revision of the last `Clear`; a key without an entry is missing since then.
    :ivar changed: the revision of the last change; after a start, that of the manifest until there is a newer one.
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

        :raises PageNeeded: `lookup` does not have a page that is needed.
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
        Make an entry the newest of its key; return the undo.

        :param old: the entry that is replaced, for `usage`.
        """
        self.recent.discard(key)
        table, before, records, weight = self.tables.set(key, entry, old)
        undo = _Unset(self, table, key, before, records, weight, self.changed)
        self.changed = entry.revision
        if not self._on_disk and type(entry) is Tombstone:
            self.cleared = entry.revision  # there is no tombstone to hold the revision
        return undo

    def clear(self, revision: int) -> Callable[[], object]:
        """Drop all records; return the undo."""
        undo = partial(self._unclear, self.tables, self.cleared, self.changed)
        self.tables = Tables(self._on_disk)
        self.cleared = self.changed = revision
        return undo

    def _unclear(self, tables: Tables, cleared: int, changed: int) -> None:
        self.tables = tables
        self.cleared = cleared
        self.changed = changed
