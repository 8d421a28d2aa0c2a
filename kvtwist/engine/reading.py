"""
What one request has read from disk so far, while it waits for more.

A page that was loaded may leave the cache before all that the request needs is there. So either it is pinned, or, where
a request asks for any number of keys, what it said of a key is kept, and is good until something newer is on disk.
"""

from __future__ import annotations

from kvtwist.engine.keyspace import Tables
from kvtwist.engine.memtable import Entry, traced
from kvtwist.engine.page import Page
from kvtwist.engine.sorted_run import PageLookup, PageRef, SortedRun, find_in


class Pinned:
    """A page lookup that holds on to the pages that one request has loaded, whatever the cache does with them."""

    def __init__(self, cached: PageLookup) -> None:
        self.pages: dict[int, Page] = {}
        self._cached = cached

    def __call__(self, ref: PageRef) -> Page | None:
        return self.pages.get(ref.number) or self._cached(ref)


class Reading:
    """
    The entries of any number of keys.

    :ivar pinned: the pages that are needed for the key that is looked for; who goes on to the next one clears it.
    """

    def __init__(self, cached: PageLookup) -> None:
        self.pinned = Pinned(cached)
        self._seen: dict[tuple[Tables, bytes, bool], tuple[list[SortedRun], Entry | None]] = {}

    def find(self, tables: Tables, key: bytes, whole: bool) -> Entry | None:
        """
        The newest entry of a key.

        :param whole: whether its value is of interest. There is not room for any number of large ones.
        :raises PageNeeded: when it takes a page that is not there.
        """
        entry = tables.in_memtables(key)
        if entry is not None:
            return entry
        seen = self._seen.get((tables, key, whole))
        if seen is not None and seen[0] is tables.runs:
            return seen[1]
        newer, older = _split(tables.runs, seen[0] if seen is not None else [])
        entry = find_in(newer, key, self.pinned)
        if entry is None:
            entry = seen[1] if older and seen is not None else find_in(older, key, self.pinned)
        if not whole:
            entry = traced(entry)
        self._seen[tables, key, whole] = tables.runs, entry
        return entry


def _split(runs: list[SortedRun], before: list[SortedRun]) -> tuple[list[SortedRun], list[SortedRun]]:
    """The runs that are newer than all that were there before, and the others; all are new when the newest is gone."""
    for at, run in enumerate(runs):
        if before and run is before[0]:
            return runs[:at], runs[at:]
    return runs, []
