"""
Writing runs, and deciding when to merge some into one.

Every checkpoint adds a run. Reading many runs is slow, and what they supersede takes room, but rewriting everything for
every checkpoint would write a hundred bytes for each that changed. So runs are merged in tiers, as size-tiered
("universal") compaction does:

- everything into a new base when what is above the base has grown to `FULL_SHARE` of it, so that what is superseded
  never takes more than that, or when much was removed;
- else, when there are more than `MAX_RUNS` runs above the base, the newest ones of about the same size.

All of this runs in the page thread. The functions that write are generators which stop after every page, and after
`STEP` records that fill none, so that other jobs of that thread get their turn in between.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from heapq import merge
from operator import itemgetter

from attrs import define

from kvtwist.engine.memtable import Memtable
from kvtwist.engine.page import (
    TOMBSTONE,
    checksum_of,
    encode_page,
    encode_record,
    expires_of,
    tombstone_of,
    weight_of,
)
from kvtwist.engine.pages import PageDirectory, PageReader
from kvtwist.engine.run import PageRef, Run
from kvtwist.model import StoreError

PAGE_SIZE = 64 * 1024
SMALL = 4 * 2**20
"""A keyspace of no more bytes than this is merged whole each time: it costs next to nothing."""
FULL_SHARE = 0.7
MAX_RUNS = 8
STEP = 1000
"""Records that are looked at in one go, where they do not fill a page before."""

EncodedRecords = Iterator[tuple[bytes, bytes]]
Kept = Iterator[tuple[bytes, bytes | None]]
"""Of each key what is kept of its record, None for nothing."""
_by_key = itemgetter(0)


def merge_due(runs: Sequence[Run]) -> list[Run]:
    """The runs, neighbours in age, that are to be merged into one now; none if that is not worth it."""
    if len(runs) < 2:
        return []
    sizes = [run.size for run in runs]
    above, base = sum(sizes[:-1]), sizes[-1]
    removed = sum(run.tombstones for run in runs[:-1])
    if above + base <= SMALL or above >= FULL_SHARE * base or removed * 4 >= runs[-1].records:
        return list(runs)
    if len(runs) - 1 <= MAX_RUNS:
        return []
    count, size = 1, sizes[0]
    while count < len(runs) - 1 and (sizes[count] <= size or count < 2):
        size += sizes[count]
        count += 1
    return list(runs[:count])


def is_compact(runs: Sequence[Run], now_ms: int) -> bool:
    """Whether there is nothing in runs that a merge would leave out, or write in another format."""
    if len(runs) != 1:
        return not runs
    [run] = runs
    if any(isinstance(ref.seal, str) for ref in run.pages):
        return False
    return not run.tombstones and (run.expires_ms is None or run.expires_ms > now_ms)


@define
class PageNumbers:
    """Hands out page numbers, each just once: what is left of a failure is never taken for a page of a later try."""

    next: int

    def take(self) -> int:
        """The next one."""
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


def merged_records(sources: Sequence[EncodedRecords]) -> EncodedRecords:
    """Of each key the newest record; the newest source comes first."""
    previous = None
    for key, record in merge(*sources, key=_by_key):
        if key != previous:
            previous = key
            yield key, record


def without_dead(records: EncodedRecords, now_ms: int, base: bool) -> Kept:
    """
    What is kept of records when what has expired goes.

    :param base: whether there is nothing older below them that a tombstone would have to hide.
    """
    for key, record in records:
        if record[2] & TOMBSTONE:
            yield key, None if base else record
            continue
        expires_ms = expires_of(record)
        if expires_ms is None or expires_ms > now_ms:
            yield key, record
        else:
            yield key, None if base else tombstone_of(record)


class RunWriter:
    """
    Writes a run, a page at a time. Raises `OSError` or `StoreError`; call `undo` then.

    :ivar pages: those that are written.
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
        """Add a record; returns whether that has written a page of those before it."""
        full = bool(self._pending) and self._size + len(record) > PAGE_SIZE
        if full:
            self._write_page()
        if not self._pending:
            self._first = key
        self._last = key
        self._pending.append(record)
        self._size += len(record)
        if record[2] & TOMBSTONE:
            self._tombstones += 1
        else:
            self._records += 1
            self._weight += weight_of(record)
        return full

    def finish(self) -> Run:
        """Write the last page; returns the run, whose counts are those of its live records."""
        if self._pending:
            self._write_page()
        return Run(self.pages, self._records, self._weight, self._tombstones)

    def undo(self) -> None:
        """Remove what was written."""
        self._directory.remove(ref.number for ref in self.pages)

    def _write_page(self) -> None:
        number = self._numbers.take()
        content = encode_page(number, self._keyspace, self._pending)
        self._directory.write(number, content)
        expiries = [expires_of(record) for record in self._pending if not record[2] & TOMBSTONE]
        expires_ms = min((e for e in expiries if e is not None), default=None)
        stop, seal = self._last + b"\0", checksum_of(content)
        self.pages.append(PageRef(number, self._first, len(content), expires_ms, stop, seal))
        self._pending, self._size = [], 0


def write_run(
    directory: PageDirectory, keyspace: str, numbers: PageNumbers, records: Kept
) -> Generator[None, None, Run]:
    """
    Write records as pages; returns the run, whose counts are those of its live records.

    Raises `OSError` or `StoreError`, and leaves nothing then.
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
    directory: PageDirectory, keyspace: str, numbers: PageNumbers, table: Memtable, now_ms: int, base: bool
) -> Generator[None, None, Run]:
    """Write a memtable as a run."""
    live = without_dead(frozen_records(table), now_ms, base)
    run = yield from write_run(directory, keyspace, numbers, live)
    return run if base else Run(run.pages, table.records, table.weight, run.tombstones)


def write_merged(
    directory: PageDirectory, keyspace: str, numbers: PageNumbers, runs: Sequence[Run], now_ms: int, base: bool
) -> Generator[None, None, Run]:
    """Write neighbouring runs, the newest first, as one."""
    sources = [run_records(directory, run.pages) for run in runs]
    live = without_dead(merged_records(sources), now_ms, base)
    run = yield from write_run(directory, keyspace, numbers, live)
    if base:
        return run
    return Run(run.pages, sum(r.records for r in runs), sum(r.weight for r in runs), run.tombstones)


def write_scrubbed(
    directory: PageDirectory, keyspace: str, numbers: PageNumbers, old: Run, now_ms: int, base: bool
) -> Generator[None, None, Run]:
    """Write anew just those pages of a run in which something has expired."""
    pages: list[PageRef] = []
    written: list[int] = []
    records, weight, tombstones = old.records, old.weight, old.tombstones
    try:
        for ref in old.pages:
            if ref.expires_ms is None or ref.expires_ms > now_ms:
                pages.append(ref)
                continue
            before = list(run_records(directory, [ref]))
            part = yield from write_run(directory, keyspace, numbers, without_dead(iter(before), now_ms, base))
            written += [page.number for page in part.pages]
            yield
            live = [record for _, record in before if not record[2] & TOMBSTONE]
            pages += part.pages
            records += part.records - len(live)
            weight += part.weight - sum(map(weight_of, live))
            tombstones += part.tombstones - (len(before) - len(live))
    except (OSError, StoreError):
        directory.remove(written)
        raise
    return Run(pages, records, weight, tombstones)
