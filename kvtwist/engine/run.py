"""
A run: records in key order, over as many pages as they need, written once and only ever read.

A keyspace on disk is a few runs, the newest first. The oldest is its *base*; a run above it holds what has changed
since, removed records included, as tombstones. Merging keeps their number small, see `kvtwist.engine.merging`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter

import msgspec

from kvtwist.engine.memtable import Entry
from kvtwist.engine.page import Page


class PageRef(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """
    What a manifest says of a page.

    :ivar number: its name.
    :ivar first: its first key. All keys of its run from there to the next page's first are in it.
    :ivar size: bytes that it takes.
    :ivar expires_ms: when the first of its records expires, None for never.
    """

    number: int
    first: bytes
    size: int
    expires_ms: int | None


PageLookup = Callable[[PageRef], Page | None]
_first = attrgetter("first")


class PageNeeded(Exception):
    """The answer is in a page that is not in memory."""

    def __init__(self, ref: PageRef) -> None:
        self.ref = ref


class Run(msgspec.Struct, frozen=True, array_like=True):
    """
    :ivar pages: its pages, in key order.
    :ivar records: by how many records it makes the keyspace larger than the runs below it alone.
    :ivar weight: by how many bytes of keys and values it does.
    :ivar tombstones: how many removed records it remembers.
    """

    pages: list[PageRef]
    records: int
    weight: int
    tombstones: int = 0

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(ref.size for ref in self.pages)

    @property
    def expires_ms(self) -> int | None:
        """When the first of its records expires, None for never."""
        return min((ref.expires_ms for ref in self.pages if ref.expires_ms is not None), default=None)

    def find(self, key: bytes, lookup: PageLookup) -> Entry | None:
        """
        What it says of a key, None if nothing.

        :raises PageNeeded: when `lookup` does not have the page.
        """
        at = bisect_right(self.pages, key, key=_first)
        if at == 0:
            return None
        ref = self.pages[at - 1]
        page = lookup(ref)
        if page is None:
            raise PageNeeded(ref)
        return page.get(key)

    def range(
        self, start: bytes, stop: bytes | None, reverse: bool, lookup: PageLookup
    ) -> Iterator[tuple[bytes, Entry]]:
        """
        (key, entry) with start <= key < stop, in order.

        :raises PageNeeded: on the way, when `lookup` does not have a page.
        """
        low = max(bisect_right(self.pages, start, key=_first) - 1, 0)
        refs = self.pages[low:] if stop is None else self.pages[low : bisect_right(self.pages, stop, key=_first)]
        for ref in reversed(refs) if reverse else refs:
            yield from _page(ref, lookup).range(start, stop, reverse)


def find_in(runs: Sequence[Run], key: bytes, lookup: PageLookup) -> Entry | None:
    """
    What the newest of some runs says of a key that says anything.

    :raises PageNeeded: when `lookup` does not have a page that it takes to know.
    """
    for run in runs:
        entry = run.find(key, lookup)
        if entry is not None:
            return entry
    return None


def _page(ref: PageRef, lookup: PageLookup) -> Page:
    page = lookup(ref)
    if page is None:
        raise PageNeeded(ref)
    return page
