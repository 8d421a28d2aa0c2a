"""
Writes sorted runs: from a memtable, from several runs, or from one run without its expired records.

A compaction leaves a damaged page where it is. So no read finds a record in its range that it may have replaced or
removed, and nothing is lost if the page can be read again.

All of this runs in the page thread. The functions that write are generators that yield after every page, and after
`STEP` records that fill none, so that other jobs of the thread run in between.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Container, Generator, Iterable, Iterator, Sequence
from heapq import merge
from itertools import groupby
from operator import attrgetter, itemgetter

from attrs import define

from kvtwist.engine.compaction import purge_due
from kvtwist.engine.memtable import Memtable
from kvtwist.engine.page import (
    checksum_of,
    encode_page,
    encode_record,
    expires_of,
    is_tombstone,
    tombstone_of,
    weight_of,
)
from kvtwist.engine.pages import PageDirectory, PageReader, passing_error
from kvtwist.engine.sorted_run import PageRef, SortedRun, newest_of
from kvtwist.model import StoreDamaged, StoreError

PAGE_SIZE = 64 * 1024
STEP = 1000
"""How many records are looked at in one step, if they do not fill a page before."""

EncodedRecords = Iterator[tuple[bytes, bytes]]
Kept = Iterator[tuple[bytes, bytes | None]]
"""(key, the encoded record to write, or None to leave it out)."""
_by_key = itemgetter(0)


@define
class PageNumbers:
    """Assigns page numbers, each once: a leftover of a failure is never taken for a page of a later attempt."""

    next: int

    def take(self) -> int:
        """The next number."""
        number = self.next
        self.next += 1
        return number


def frozen_records(table: Memtable) -> EncodedRecords:
    """(key, encoded record) of a memtable, in key order."""
    for key, entry in table.range(b"", None):
        yield key, encode_record(key, entry)


def run_records(directory: PageReader, pages: Iterable[PageRef]) -> EncodedRecords:
    """(key, encoded record) of the pages of a run, in key order."""
    for ref in pages:
        yield from directory.read(ref).records()


def without_dead(records: EncodedRecords, now_ms: int, base: bool) -> Kept:
    """
    Leave out expired records, or replace them by tombstones.

    :param base: whether the records are for a base run: no older run has records that a tombstone would have to hide.
    """
    for key, record in records:
        yield key, _kept(record, now_ms, base)


def _kept(record: bytes, now_ms: int, base: bool) -> bytes | None:
    if is_tombstone(record):
        return None if base else record
    expires_ms = expires_of(record)
    if expires_ms is None or expires_ms > now_ms:
        return record
    return None if base else tombstone_of(record)


class RunWriter:
    """
    Writes a run, a page at a time. After an `OSError` or `StoreError` call `undo`.

    :ivar pages: the pages written so far.
    """

    def __init__(self, directory: PageDirectory, keyspace: str, numbers: PageNumbers) -> None:
        self.pages: list[PageRef] = []
        self._directory = directory
        self._keyspace = keyspace
        self._numbers = numbers
        self._records = self._weight = self._tombstones = 0
        self._first = self._last = b""
        self._pending: list[bytes] = []
        self._size = 0

    def add(self, key: bytes, record: bytes) -> bool:
        """Add a record; return whether that wrote a page of those before it."""
        full = bool(self._pending) and self._size + len(record) > PAGE_SIZE
        if full:
            self._write_page()
        if not self._pending:
            self._first = key
        self._last = key
        self._pending.append(record)
        self._size += len(record)
        if is_tombstone(record):
            self._tombstones += 1
        else:
            self._records += 1
            self._weight += weight_of(record)
        return full

    def finish(self) -> SortedRun:
        """Write the last page; return the run, with the counts of its live records."""
        if self._pending:
            self._write_page()
        return SortedRun(self.pages, self._records, self._weight, self._tombstones)

    def undo(self) -> None:
        """Remove the pages written so far."""
        self._directory.remove(ref.number for ref in self.pages)

    def _write_page(self) -> None:
        number = self._numbers.take()
        content = encode_page(number, self._keyspace, self._pending)
        self._directory.write(number, content)
        expiries = [expires_of(record) for record in self._pending if not is_tombstone(record)]
        expires_ms = min((e for e in expiries if e is not None), default=None)
        stop, seal = self._last + b"\0", checksum_of(content)
        self.pages.append(PageRef(number, self._first, len(content), expires_ms, stop, seal))
        self._pending, self._size = [], 0


def write_run(
    directory: PageDirectory, keyspace: str, numbers: PageNumbers, records: Kept
) -> Generator[None, None, SortedRun]:
    """
    Write records as a run; return it, with the counts of its live records.

    Raises `OSError` or `StoreError`, and then leaves no pages.
    """
    writer = RunWriter(directory, keyspace, numbers)
    try:
        looked_at = 0
        for key, record in records:
            looked_at += 1
            if (record is not None and writer.add(key, record)) or looked_at == STEP:
                looked_at = 0
                yield
        return writer.finish()
    except (OSError, StoreError):
        writer.undo()
        raise


def write_frozen(
    directory: PageDirectory,
    keyspace: str,
    numbers: PageNumbers,
    table: Memtable,
    now_ms: int,
    base: bool,
    is_superseded: Callable[[bytes], bool] = lambda key: False,
) -> Generator[None, None, SortedRun]:
    """Write a memtable as a run without superseded keys. These are counted as if they were in the run."""
    records = weight = 0

    def needed() -> EncodedRecords:
        nonlocal records, weight
        for key, record in frozen_records(table):
            if not is_superseded(key):
                yield key, record
            elif not is_tombstone(record):
                records += 1
                weight += weight_of(record)

    run = yield from write_run(directory, keyspace, numbers, without_dead(needed(), now_ms, base))
    if not base:
        return SortedRun(run.pages, table.records, table.weight, run.tombstones)
    return SortedRun(run.pages, run.records + records, run.weight + weight, run.tombstones)


def write_compacted(
    directory: PageDirectory,
    keyspace: str,
    numbers: PageNumbers,
    runs: Sequence[SortedRun],
    now_ms: int,
    base: bool,
    damaged: Container[int] = (),
) -> Generator[None, None, list[SortedRun]]:
    """
    Write runs, neighbours in age, the newest first, as one run; as a few if some of their pages are damaged.

    The records of a damaged page are unknown. So it stays, in a run of its own between newer and older records of the
    keys in its range. Keys outside of such ranges go into the last run.

    :param damaged: numbers of pages that are known to be unreadable.
    :raises StoreDamaged: another page is unreadable.
    """
    holes = [[ref for ref in run.pages if ref.number in damaged] for run in runs]
    if any(holes):
        return (yield from _write_around(directory, keyspace, numbers, runs, holes, now_ms, base))
    sources = [run_records(directory, run.pages) for run in runs]
    live = without_dead(newest_of(sources), now_ms, base)
    run = yield from write_run(directory, keyspace, numbers, live)
    if base:
        return [run]
    return [SortedRun(run.pages, *_growth(runs), run.tombstones)]


def _growth(runs: Sequence[SortedRun]) -> tuple[int, int]:
    """The records and bytes by which runs make a keyspace larger."""
    return sum(run.records for run in runs), sum(run.weight for run in runs)


def _write_around(
    directory: PageDirectory,
    keyspace: str,
    numbers: PageNumbers,
    runs: Sequence[SortedRun],
    holes: Sequence[Sequence[PageRef]],
    now_ms: int,
    base: bool,
) -> Generator[None, None, list[SortedRun]]:
    """:param holes: the damaged pages of each run."""
    levels = [level for level, refs in enumerate(holes) if refs]
    above = {level: RunWriter(directory, keyspace, numbers) for level in levels}
    rest = RunWriter(directory, keyspace, numbers)
    tombstones = {level: runs[level].tombstones for level in levels}
    try:
        looked_at = 0
        sources = [_whole_records(directory, level, run, holes[level]) for level, run in enumerate(runs)]
        for key, versions in groupby(merge(*sources, key=_by_key), key=_by_key):
            covering = [level for level in levels if _covers(holes[level], key)]
            seen: set[int | None] = set()
            for _, level, record in versions:
                if level in levels and is_tombstone(record):
                    tombstones[level] -= 1
                hole = next((below for below in covering if below > level), None)
                looked_at += 1
                if hole not in seen:  # else a newer version is on the same side of each hole
                    seen.add(hole)
                    kept = _kept(record, now_ms, base and hole is None)
                    if kept is not None and (rest if hole is None else above[hole]).add(key, kept):
                        looked_at = STEP
                if looked_at >= STEP:
                    looked_at = 0
                    yield
        new: list[SortedRun] = []
        for level in levels:
            newer = above[level].finish()
            new.append(SortedRun(newer.pages, 0, 0, newer.tombstones))
            new.append(SortedRun(list(holes[level]), 0, 0, max(tombstones[level], 0)))
        older = rest.finish()
    except (OSError, StoreError):
        for writer in (*above.values(), rest):
            writer.undo()
        raise
    new.append(SortedRun(older.pages, 0, 0, older.tombstones))
    *others, last = [run for run in new if run.pages]
    return [*others, SortedRun(last.pages, *_growth(runs), last.tombstones)]


def _whole_records(
    directory: PageReader, level: int, run: SortedRun, damaged: Sequence[PageRef]
) -> Iterator[tuple[bytes, int, bytes]]:
    """(key, level, encoded record) of the undamaged pages of a run."""
    without = {ref.number for ref in damaged}
    for key, record in run_records(directory, [ref for ref in run.pages if ref.number not in without]):
        yield key, level, record


def _covers(refs: Sequence[PageRef], key: bytes) -> bool:
    """Whether a key is in the range of any of these pages of a run."""
    at = bisect_right(refs, key, key=attrgetter("first"))
    if at == 0:
        return False
    stop = refs[at - 1].stop
    return stop is None or key < stop


def damaged_pages(
    directory: PageReader, runs: Sequence[SortedRun]
) -> Generator[None, None, list[tuple[PageRef, StoreDamaged]]]:
    """
    Return the damaged pages of runs, and why they cannot be read.

    :raises StoreDamaged: a page cannot be read now, but for a reason that says nothing about the page.
    """
    found: list[tuple[PageRef, StoreDamaged]] = []
    for run in runs:
        for ref in run.pages:
            try:
                directory.read(ref)
            except StoreDamaged as error:
                if passing_error(error):
                    raise
                found.append((ref, error))
            yield
    return found


def write_purged(
    directory: PageDirectory,
    keyspace: str,
    numbers: PageNumbers,
    runs: Sequence[SortedRun],
    now_ms: int,
    base: bool,
    damaged: Container[int] = (),
) -> Generator[None, None, list[SortedRun]]:
    """
    Rewrite those pages of a run that hold expired records.

    :param runs: the run, alone in a list.
    :param damaged: numbers of pages that stay as they are.
    """
    [old] = runs
    due = {ref.number for ref in purge_due(old, now_ms, damaged)}
    pages: list[PageRef] = []
    written: list[int] = []
    records, weight, tombstones = old.records, old.weight, old.tombstones
    try:
        for ref in old.pages:
            if ref.number not in due:
                pages.append(ref)
                continue
            before = list(run_records(directory, [ref]))
            part = yield from write_run(directory, keyspace, numbers, without_dead(iter(before), now_ms, base))
            written += [page.number for page in part.pages]
            yield
            live = [record for _, record in before if not is_tombstone(record)]
            pages += part.pages
            records += part.records - len(live)
            weight += part.weight - sum(map(weight_of, live))
            tombstones += part.tombstones - (len(before) - len(live))
    except (OSError, StoreError):
        directory.remove(written)
        raise
    return [SortedRun(pages, records, weight, tombstones)]
