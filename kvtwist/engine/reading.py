"""
The entries that one request has read from disk while it waits for more.

A page may leave the cache before the request has all that it needs. So its pages are pinned; or, for a request with any
number of keys, the entries are kept, which are valid until a newer run is on disk.
"""

from __future__ import annotations

from kvtwist.engine.keyspace import Tables
from kvtwist.engine.memtable import Entry, traced
from kvtwist.engine.page import Page
from kvtwist.engine.sorted_run import PageLookup, PageRef, SortedRun, find_in


class Pinned:
    """A `PageLookup` that keeps the pages that one request has loaded, even if the cache drops them."""

    def __init__(self, cached: PageLookup) -> None:
        self.pages: dict[int, Page] = {}
        self._cached = cached

    def __call__(self, ref: PageRef) -> Page | None:
        return self.pages.get(ref.number) or self._cached(ref)


class Reading:
    """
    The entries of any number of keys.

    :ivar pinned: the pages for the present key; to be cleared before the next key.
    """

    def __init__(self, cached: PageLookup) -> None:
        self.pinned = Pinned(cached)
        self._seen: dict[tuple[Tables, bytes, bool], tuple[list[SortedRun], Entry | None]] = {}

    def find(self, tables: Tables, key: bytes, whole: bool) -> Entry | None:
        """
        The newest entry of a key.

        :param whole: whether the value is needed. There is not enough memory for any number of large ones.
        :raises PageNeeded: a page is needed that is not in memory.
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
    """Split runs into those newer than `before` and the others. All are newer if the newest of `before` is gone."""
    for at, run in enumerate(runs):
        if before and run is before[0]:
            return runs[:at], runs[at:]
    return runs, []
