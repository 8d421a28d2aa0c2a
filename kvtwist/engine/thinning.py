"""
Thinning: removes dead records from pages when there is no disk space for a compaction, a few pages at a time.

A compaction writes all live records before it removes anything, and a full disk has no space for that. Thinning
rewrites a few pages of one run without the records that newer runs have replaced or removed, and without expired ones;
then it writes the manifest and removes the old pages, before the next few. Tombstones stay until the next compaction,
except in the oldest run.

Changes in the journal count as newer if they are on disk, since a start applies them. So deletions free space even when
there is none for a checkpoint.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator, Iterator, Sequence
from heapq import merge
from itertools import zip_longest
from operator import attrgetter

from attrs import frozen

from kvtwist.engine import run_writer
from kvtwist.engine.disk_space import PIECES
from kvtwist.engine.disk_state import DiskState
from kvtwist.engine.keyspace import Tables
from kvtwist.engine.page import expires_of, is_tombstone, tombstone_of, weight_of
from kvtwist.engine.pages import PageDirectory, PageReader
from kvtwist.engine.run_writer import PageNumbers, run_records, write_run
from kvtwist.engine.sorted_run import PageRef, SortedRun, newest_of
from kvtwist.model import StoreError

_first = attrgetter("first")


@frozen
class Thinned:
    """
    :ivar run: the run that replaces the old one.
    :ivar following: the first key of the page to go on with; None at the end.
    """

    run: SortedRun
    following: bytes | None


async def thin(
    disk_state: DiskState, name: str, tables: Tables, now_ms: int, finished: Callable[[set[int]], object]
) -> None:
    """
    Thin all runs of a keyspace, the oldest first. No compaction may run meanwhile.

    :param finished: called each time with the numbers of pages that are no longer needed.
    Raises `OSError` or `StoreError`; runs that are thinned by then stay so.
    """
    synced = await disk_state.storage.commit.flush()
    changed = _keys_of(tables, synced)
    most = max(disk_state.storage.disk_space.size // len(PIECES), run_writer.PAGE_SIZE)
    for run in reversed(list(tables.runs)):
        start: bytes | None = b""
        # The tables of a cleared keyspace are replaced, and their pages are gone.
        while start is not None and disk_state.tables.get(name) is tables:
            depth = next(at for at, other in enumerate(tables.runs) if other is run)
            thinned = await disk_state.write(
                write_thinned(
                    disk_state.storage.pages, name, disk_state.numbers, tables.runs, depth, changed, start, now_ms, most
                )
            )
            start = thinned.following
            if thinned.run.pages == run.pages:
                continue
            superfluous = await disk_state.replace(name, tables, [run], [thinned.run])
            run = thinned.run
            finished(superfluous)
            await disk_state.remove(superfluous)


def write_thinned(
    directory: PageDirectory,
    keyspace: str,
    numbers: PageNumbers,
    runs: Sequence[SortedRun],
    depth: int,
    changed: Sequence[bytes],
    start: bytes,
    now_ms: int,
    most: int,
) -> Generator[None, None, Thinned]:
    """
    Rewrite those pages of a run that hold dead records.

    :param runs: all runs of the keyspace, the newest first.
    :param depth: the index of the run to thin.
    :param changed: the keys, in order, that the journal has changed after all runs.
    :param start: pages that begin before this key stay as they are.
    :param most: about how many bytes to write.

    Raises `OSError` or `StoreError`, and then leaves no pages.
    """
    old = runs[depth]
    base = depth == len(runs) - 1
    at = bisect_left(old.pages, start, key=_first)
    newer = _Keys(
        merge(
            (key for key, _ in newest_of([_from(directory, run, start) for run in runs[:depth]])),
            changed[bisect_left(changed, start) :],
        )
    )
    pages = old.pages[:at]
    written: list[PageRef] = []
    pending: list[tuple[bytes, bytes]] = []
    records, weight, tombstones = old.records, old.weight, old.tombstones

    def write() -> Generator[None, None, None]:
        part = yield from write_run(directory, keyspace, numbers, iter(pending))
        pending.clear()
        pages.extend(part.pages)
        written.extend(part.pages)

    try:
        for ref, following in zip_longest(old.pages[at:], old.pages[at + 1 :]):
            if sum(page.size for page in written) >= most:
                break
            at += 1
            yield
            expired = ref.expires_ms is not None and ref.expires_ms <= now_ms
            removed = base and old.tombstones > 0
            if not (expired or removed or newer.are_between(ref.first, None if following is None else following.first)):
                yield from write()
                pages.append(ref)
                continue
            before = list(run_records(directory, [ref]))
            after: list[tuple[bytes, bytes]] = []
            for key, record in before:
                if newer.have(key):
                    tombstones -= is_tombstone(record)
                elif is_tombstone(record):
                    if base:
                        tombstones -= 1
                    else:
                        after.append((key, record))
                elif (expires_ms := expires_of(record)) is None or expires_ms > now_ms:
                    after.append((key, record))
                else:
                    records, weight = records - 1, weight - weight_of(record)
                    if not base:
                        tombstones += 1
                        after.append((key, tombstone_of(record)))
            if after == before:
                yield from write()
                pages.append(ref)
                continue
            pending += after
            if sum(len(record) for _, record in pending) >= run_writer.PAGE_SIZE:
                yield from write()
        yield from write()
    except (OSError, StoreError):
        directory.remove(page.number for page in written)
        raise
    rest = old.pages[at:]
    return Thinned(SortedRun([*pages, *rest], records, weight, tombstones), rest[0].first if rest else None)


def _keys_of(tables: Tables, synced: int) -> list[bytes]:
    """The keys in memtables, in order, whose changes the journal has on disk."""
    found: set[bytes] = set()
    for table in filter(None, (tables.active, tables.frozen)):
        found.update(key for key, entry in table.range(b"", None) if entry.revision <= synced)
    return sorted(found)


class _Keys:
    """The keys of newer runs. They must be asked for in ascending order."""

    def __init__(self, keys: Iterator[bytes]) -> None:
        self._keys = keys
        self._key: bytes | None = b""
        self._step()

    def are_between(self, first: bytes, stop: bytes | None) -> bool:
        """Whether any key is in first <= key < stop (None: to the end)."""
        self._go_to(first)
        return self._key is not None and (stop is None or self._key < stop)

    def have(self, key: bytes) -> bool:
        """Whether a key is among them."""
        self._go_to(key)
        return self._key == key

    def _go_to(self, key: bytes) -> None:
        while self._key is not None and self._key < key:
            self._step()

    def _step(self) -> None:
        self._key = next(self._keys, None)


def _from(directory: PageReader, run: SortedRun, start: bytes) -> Iterator[tuple[bytes, bytes]]:
    return run_records(directory, run.pages[max(bisect_right(run.pages, start, key=_first) - 1, 0) :])
