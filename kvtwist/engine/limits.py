"""How much memory the store may take for each purpose."""

from __future__ import annotations

from attrs import frozen

MIB = 2**20


@frozen
class Limits:
    """
    :ivar pages: bytes for the cache of pages, and the index of all pages.
    :ivar memtables: bytes for the active memtables, and as much again for the frozen ones.
    :ivar unsynced: bytes for changes that are not durable yet, and as much again for the frames of their batches.
    :ivar changes: bytes for the latest changes, kept for those who watch them.
    :ivar journal: the size of the journal, in bytes, at which a checkpoint begins.
    :ivar slice_bytes: bytes of keys and values in one slice of a scan, unless it is a single record.
    :ivar slice_entries: entries that one slice looks at.
    :ivar step: operations of a transaction that are applied before the reactor goes on.
    :ivar results: bytes of the records that one transaction reads, unless it is a single record.
    """

    pages: int = 120 * MIB
    memtables: int = 51 * MIB
    unsynced: int = 13 * MIB
    changes: int = 8 * MIB
    journal: int = 64 * MIB
    slice_bytes: int = MIB
    slice_entries: int = 4000
    step: int = 500
    results: int = 16 * MIB

    @classmethod
    def within(cls, memory: int) -> Limits:
        """
        Divide `memory` bytes: half for pages and, 1/32 of it, for changes that are watched; two fifths for memtables;
        a tenth for changes that are not durable.
        """
        changes = memory // 32
        return cls(pages=memory // 2 - changes, memtables=memory // 5, unsynced=memory // 20, changes=changes)

    @property
    def memory(self) -> int:
        """The limit of a store in memory, in bytes; the changes that it keeps come on top."""
        return self.pages + 2 * (self.memtables + self.unsynced)
