"""
Sorted runs: a run holds records in key order over any number of pages. It is written once, and never changed.

A keyspace on disk is a few runs, the newest first. The oldest one is the *base run*; the runs above it hold later
changes, and tombstones for removed records. Compaction keeps their number small, see `kvtwist.engine.compaction`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import merge
from operator import attrgetter, itemgetter
from typing import TypeVar

import msgspec

from kvtwist.engine.memtable import Entry
from kvtwist.engine.page import Page

V = TypeVar("V")


class PageRef(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """
    The description of a page in a manifest.

    :ivar number: its number, which gives its file name.
    :ivar first: its first key.
    :ivar size: its size in bytes.
    :ivar expires_ms: when the first of its records expires; None for never.
    :ivar stop: its last key and a zero byte, which is the next possible key. For a page of the first format, whose last
        key is not known, the first key of the next page; None if there is none.
    :ivar seal: its checksum, by which it is recognized. For a page of the first format, the name of its keyspace.
    """

    number: int
    first: bytes
    size: int
    expires_ms: int | None
    stop: bytes | None = None
    seal: int | str = ""

    def fault(self, page: Page) -> str | None:
        """
        How an undamaged page differs from this description, so that no other page is read in its place; else None.

        Raises any of `NONSENSE` for bytes that were never written as a page.
        """
        sealed = isinstance(self.seal, int)
        if sealed != (page.number is not None):
            return "it is a page of another format"
        if page.number not in (None, self.number):
            return f"it is page {page.number}"
        if not sealed and page.keyspace != self.seal:
            return f"it is a page of keyspace {page.keyspace!r}"
        if page.size != self.size:
            return f"it is {page.size} bytes long, and should be {self.size}"
        if not len(page):
            return "it holds no record"
        first, last = page[0], page[len(page) - 1]
        if first != self.first:
            return f"it begins with key {first!r}, and should with {self.first!r}"
        if (self.stop != last + b"\0") if sealed else (self.stop is not None and self.stop <= last):
            return f"it ends with key {last!r}, and should before {self.stop!r}"
        if sealed and page.checksum != self.seal:
            return f"its checksum is {page.checksum}, and should be {self.seal}"
        return None


PageLookup = Callable[[PageRef], Page | None]
_first = attrgetter("first")
_key = itemgetter(0)


class PageNeeded(Exception):
    """A page is needed that is not in memory."""

    def __init__(self, ref: PageRef) -> None:
        self.ref = ref


class SortedRun(msgspec.Struct, frozen=True, array_like=True):
    """
    :ivar pages: its pages, in key order.
    :ivar records: the records by which it makes the keyspace larger than the runs below it.
    :ivar weight: the bytes of keys and values by which it does.
    :ivar tombstones: how many tombstones it holds.
    """

    pages: list[PageRef]
    records: int
    weight: int
    tombstones: int = 0

    @property
    def size(self) -> int:
        """Its size on disk in bytes."""
        return sum(ref.size for ref in self.pages)

    @property
    def expires_ms(self) -> int | None:
        """When the first of its records expires; None for never."""
        return min((ref.expires_ms for ref in self.pages if ref.expires_ms is not None), default=None)

    def find(self, key: bytes, lookup: PageLookup) -> Entry | None:
        """
        The entry of a key; None if the run has none.

        :raises PageNeeded: `lookup` does not have the page.
        """
        at = bisect_right(self.pages, key, key=_first)
        if at == 0:
            return None
        ref = self.pages[at - 1]
        stop = ref.stop
        if stop is not None and stop <= key:
            return None
        page = lookup(ref)
        if page is None:
            raise PageNeeded(ref)
        return page.get(key)

    def range(
        self, start: bytes, stop: bytes | None, reverse: bool, lookup: PageLookup
    ) -> Iterator[tuple[bytes, Entry]]:
        """
        (key, entry) with start <= key < stop, in order.

        :raises PageNeeded: while iterating, if `lookup` does not have a page.
        """
        low = max(bisect_right(self.pages, start, key=_first) - 1, 0)
        before = self.pages[low].stop
        if before is not None and before <= start:
            low += 1
        refs = self.pages[low:] if stop is None else self.pages[low : bisect_right(self.pages, stop, key=_first)]
        for ref in reversed(refs) if reverse else refs:
            yield from _page(ref, lookup).range(start, stop, reverse)


def find_in(runs: Sequence[SortedRun], key: bytes, lookup: PageLookup) -> Entry | None:
    """
    The newest entry of a key in runs, the newest first; None if they have none.

    :raises PageNeeded: `lookup` does not have a page that is needed.
    """
    for run in runs:
        entry = run.find(key, lookup)
        if entry is not None:
            return entry
    return None


def newest_of(sources: Sequence[Iterable[tuple[bytes, V]]], reverse: bool = False) -> Iterator[tuple[bytes, V]]:
    """Merge (key, value) pairs in key order; of each key, yield the pair from the first source that has it."""
    previous: bytes | None = None
    for pair in merge(*sources, key=_key, reverse=reverse):  # which is stable
        if pair[0] != previous:
            previous = pair[0]
            yield pair


def _page(ref: PageRef, lookup: PageLookup) -> Page:
    page = lookup(ref)
    if page is None:
        raise PageNeeded(ref)
    return page
