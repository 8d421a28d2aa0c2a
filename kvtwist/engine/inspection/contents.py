"""
The records of a store, read without opening it: nothing is written.

The changes in the journal are held in memory, as after a start, and one page of each run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

from kvtwist.engine import manifest as manifests
from kvtwist.engine.disk import Disk
from kvtwist.engine.frame import Transaction
from kvtwist.engine.inspection.directory import look
from kvtwist.engine.inspection.readonly import ReadOnlyDisk
from kvtwist.engine.keyspace import Keyspace
from kvtwist.engine.memtable import Entry, Tombstone
from kvtwist.engine.recovery import Recovery, replay
from kvtwist.engine.run_writer import EncodedRecords, frozen_records, run_records
from kvtwist.engine.sorted_run import PageRef, newest_of
from kvtwist.model import Record


def apply(keyspaces: dict[str, Keyspace], transaction: Transaction) -> None:
    """Apply a transaction of the journal to keyspaces."""
    for change in transaction.changes:
        space = keyspaces[change.keyspace]
        entry: Entry = Tombstone(transaction.revision)
        if change.key is None:
            space.clear(transaction.revision)
            continue
        if change.value is not None:
            modified_ms = transaction.time_ms if change.modified_ms is None else change.modified_ms
            entry = Record(change.value, change.media_type, transaction.revision, modified_ms, change.expires_ms)
        space.tables.set(change.key, entry, space.tables.in_memtables(change.key))


class Contents:
    """
    An undamaged store.

    :ivar revision: its last transaction.
    :ivar time_ms: the latest time that it has recorded.
    """

    def __init__(self, path: str, disk: Disk | None = None) -> None:
        """
        :raises StoreDamaged: the manifest or the journal is not what was written.
        :raises StoreError: there is no store, or it cannot be read.
        """
        disk = disk or ReadOnlyDisk()
        self.listing = look(disk, path)
        self.manifest = manifests.load(disk, self.listing.path)
        self.recovery = Recovery()
        self.revision = self.manifest.revision
        self.time_ms = self.manifest.time_ms
        self._keyspaces: dict[str, Keyspace] = defaultdict(Keyspace)
        for name, runs in self.manifest.keyspaces.items():
            self._keyspaces[name].tables.install(runs)
        for transaction in replay(disk, self.listing.path, self.manifest.revision, self.recovery):
            apply(self._keyspaces, transaction)
            self.revision = transaction.revision
            self.time_ms = max(self.time_ms, transaction.time_ms)

    def names(self) -> list[str]:
        """The names of the keyspaces, sorted."""
        return sorted(self._keyspaces)

    def sources(self, keyspace: str, advance: Callable[[int], object] = lambda _: None) -> list[EncodedRecords]:
        """
        (key, encoded record) of the journal, and of each run, the newest first. Each source supersedes the records of
        later ones.

        :param advance: called with the size of each page that is read.
        """
        tables = self._keyspaces[keyspace].tables
        runs = [self._pages(run.pages, advance) for run in tables.runs]
        return [frozen_records(tables.active), *runs]

    def records(self, keyspace: str, advance: Callable[[int], object] = lambda _: None) -> EncodedRecords:
        """(key, encoded record) of a keyspace, in order, including tombstones and expired records."""
        return newest_of(self.sources(keyspace, advance))

    def _pages(self, refs: list[PageRef], advance: Callable[[int], object]) -> Iterator[tuple[bytes, bytes]]:
        for ref in refs:
            advance(ref.size)
            yield from run_records(self.listing.reader, [ref])
