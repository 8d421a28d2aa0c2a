"""How much memory the store may take, and what for."""

from __future__ import annotations

from attrs import frozen

MIB = 2**20


@frozen
class Limits:
    """
    :ivar pages: bytes for the cache of pages, and the index of all pages.
    :ivar memtables: bytes for the active memtables, and as much again for the frozen ones.
    :ivar unsynced: bytes that changes may take while they wait for their batch, and as much again for its frame.
    :ivar journal: how large the journal may grow before a checkpoint begins.
    :ivar slice_bytes: how many bytes of keys and values one slice of a scan holds at most, unless it is one record.
    :ivar slice_entries: how many entries one slice looks at.
    :ivar step: how many operations of a transaction are done before the reactor goes on.
    """

    pages: int = 128 * MIB
    memtables: int = 51 * MIB
    unsynced: int = 13 * MIB
    journal: int = 64 * MIB
    slice_bytes: int = MIB
    slice_entries: int = 4000
    step: int = 500

    @classmethod
    def within(cls, memory: int) -> Limits:
        """What fits into so many bytes: half for pages, two fifths for changes, a tenth for what is not synced."""
        return cls(pages=memory // 2, memtables=memory // 5, unsynced=memory // 20)

    @property
    def memory(self) -> int:
        """All of it: what a store without a disk may hold."""
        return self.pages + 2 * (self.memtables + self.unsynced)
