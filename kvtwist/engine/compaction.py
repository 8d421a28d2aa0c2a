"""
When it is time to compact runs into one, and which; when pages are purged.

Every checkpoint adds a run. Reading many runs is slow, and what they supersede takes room, but rewriting everything for
every checkpoint would write a hundred bytes for each that changed. So runs are merged in tiers, as size-tiered
("universal") compaction does:

- everything into a new base when what is above the base has grown to `FULL_SHARE` of it, so that what is superseded
  never takes more than that, or when much was removed;
- else, when there are more than `MAX_RUNS` runs above the base, the newest ones of about the same size.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from kvtwist.engine.sorted_run import PageRef, SortedRun

SMALL = 4 * 2**20
"""A keyspace of no more bytes than this is merged whole each time: it costs next to nothing."""
FULL_SHARE = 0.7
MAX_RUNS = 8


def compaction_due(runs: Sequence[SortedRun]) -> list[SortedRun]:
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


def is_compact(runs: Sequence[SortedRun], now_ms: int) -> bool:
    """Whether there is nothing in runs that a merge would leave out, or write in another format."""
    if len(runs) != 1:
        return not runs
    [run] = runs
    if any(isinstance(ref.seal, str) for ref in run.pages):
        return False
    return not run.tombstones and (run.expires_ms is None or run.expires_ms > now_ms)


def purge_due(run: SortedRun, now_ms: int, damaged: Container[int] = ()) -> list[PageRef]:
    """The pages of a run in which something has expired, and that can be written anew."""
    return [
        ref
        for ref in run.pages
        if ref.expires_ms is not None and ref.expires_ms <= now_ms and ref.number not in damaged
    ]
