"""
Taking what is gone out of pages where there is no room to merge them: a few pages at a time, in their places.

A merge writes all that is left before it removes anything, which takes as much room as what is left. On a full disk
that is not there. Here pages of one run are written anew without what newer runs have replaced or removed, and what
has expired; the manifest is written, and the old pages are removed, before the next few. Tombstones stay where they
are, but for those of the oldest run: they go with the next merge.

What the journal has on disk counts as newer, too, since a start applies it: so even where there is no room for a
checkpoint, what has been deleted leads to some.
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
    :ivar run: the run as it is to be now.
    :ivar following: the first key of the page to go on with; None: there is none.
    """

    run: SortedRun
    following: bytes | None


async def thin(
    disk_state: DiskState, name: str, tables: Tables, now_ms: int, finished: Callable[[set[int]], object]
) -> None:
    """
    Take what is of no use any more out of all runs of a keyspace, the oldest first. Nothing else may merge meanwhile.

    :param finished: called with the pages that are of no use any more, each time that there are some.
    Raises `OSError` or `StoreError`; what was thinned by then stays so.
    """
    synced = await disk_state.storage.commit.flush()
    changed = _keys_of(tables, synced)
    most = max(disk_state.storage.disk_space.size // len(PIECES), run_writer.PAGE_SIZE)
    for run in reversed(list(tables.runs)):
        start: bytes | None = b""
        while (
            start is not None and disk_state.tables.get(name) is tables
        ):  # else it was cleared, and its pages are gone
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
    Write anew those pages of a run in which something is of no use any more.

    :param runs: of the keyspace, the newest first; it is the one at `depth`.
    :param changed: keys, in order, of which the journal has something newer than any run.
    :param start: pages that begin before this key stay as they are.
    :param most: about how many bytes to write.

    Raises `OSError` or `StoreError`, and leaves nothing then.
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
    """The keys in memtables, in order, as far as the journal has them on the disk itself."""
    found: set[bytes] = set()
    for table in filter(None, (tables.active, tables.frozen)):
        found.update(key for key, entry in table.range(b"", None) if entry.revision <= synced)
    return sorted(found)


class _Keys:
    """The keys of newer runs, to be asked for in ascending order."""

    def __init__(self, keys: Iterator[bytes]) -> None:
        self._keys = keys
        self._key: bytes | None = b""
        self._step()

    def are_between(self, first: bytes, stop: bytes | None) -> bool:
        """Whether there are any with first <= key < stop (None: to the end)."""
        self._go_to(first)
        return self._key is not None and (stop is None or self._key < stop)

    def have(self, key: bytes) -> bool:
        """Whether a key is one of them."""
        self._go_to(key)
        return self._key == key

    def _go_to(self, key: bytes) -> None:
        while self._key is not None and self._key < key:
            self._step()

    def _step(self) -> None:
        self._key = next(self._keys, None)


def _from(directory: PageReader, run: SortedRun, start: bytes) -> Iterator[tuple[bytes, bytes]]:
    return run_records(directory, run.pages[max(bisect_right(run.pages, start, key=_first) - 1, 0) :])
