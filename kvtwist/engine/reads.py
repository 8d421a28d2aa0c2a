"""Reads: they answer with what is durable, from memory or from pages on disk."""

from __future__ import annotations

from collections.abc import Mapping

from kvtwist.engine.commit import GroupCommit, MemoryCommit
from kvtwist.engine.keyspace import Keyspace
from kvtwist.engine.limits import Limits
from kvtwist.engine.memtable import Entry, alive
from kvtwist.engine.page_loader import PageLoader
from kvtwist.engine.reading import Pinned
from kvtwist.engine.sorted_run import PageLookup, PageNeeded
from kvtwist.engine.timeline import Timeline
from kvtwist.model import Range, Record, Slice


class Reads:
    """The reads of one store that may have to wait."""

    def __init__(
        self,
        keyspaces: Mapping[str, Keyspace],
        commit: GroupCommit | MemoryCommit,
        timeline: Timeline,
        loader: PageLoader,
    ) -> None:
        self._keyspaces = keyspaces
        self._commit = commit
        self._timeline = timeline
        self._loader = loader

    async def get(self, keyspace: str, key: bytes) -> Record | None:
        """Return the record of a key, once it is durable and its page is loaded. See `IStore.get`."""

        def look() -> tuple[Entry | None, int]:
            space = self._keyspaces[keyspace]
            entry = space.get(key, pinned)
            return entry, space.cleared if entry is None else entry.revision

        pinned = Pinned(self._loader.cached)
        while True:
            entry, revision = await self._loader.look_up(look, pinned)
            if await self._commit.settled(revision) >= revision:
                return alive(entry, self._timeline.now_ms)

    async def scan(self, asked: Range, settled: bool, limits: Limits) -> Slice:
        """Return a slice. See `IStore.scan`; the latch keeps a scan from half of a transaction."""
        pinned = Pinned(self._loader.cached)
        while True:
            await self._commit.latch.free()
            try:
                found = self.slice(asked, limits, pinned)
            except PageNeeded as needed:
                pinned.pages[needed.ref.number] = await self._loader.load(needed.ref)
                continue
            revision = self._commit.assigned
            if not settled or await self._commit.settled(revision) >= revision:
                return found

    def slice(self, asked: Range, limits: Limits, lookup: PageLookup) -> Slice:
        """
        Return a slice as the memory is now.

        :raises PageNeeded: a page is not loaded.
        """
        items: list[tuple[bytes, Record]] = []
        size = 0
        last = asked.start
        revision, rollbacks = self._commit.assigned, self._commit.rollbacks
        now_ms = self._timeline.now_ms()
        limit, reverse = asked.limit, asked.reverse
        slice_bytes, slice_entries = limits.slice_bytes, limits.slice_entries
        entries = self._keyspaces[asked.keyspace].tables.merged(asked.start, asked.stop, reverse, lookup)
        for seen, (key, entry) in enumerate(entries):
            record = None
            more = 0
            if isinstance(entry, Record) and (entry.expires_ms is None or entry.expires_ms > now_ms):
                record = entry
                more = len(key) + len(entry.value)
            if seen >= slice_entries or len(items) >= limit or (items and size + more > slice_bytes):
                return Slice(items, last if reverse else last + b"\0", revision, rollbacks)
            last = key
            if record is not None:
                items.append((key, record))
                size += more
        return Slice(items, None, revision, rollbacks)
