"""
Chooses the runs to compact, and the pages to purge.

Every checkpoint adds a run. Many runs are slow to read, and superseded records take disk space; but rewriting all runs
after every checkpoint would write a hundred bytes for each that changed. So runs are compacted in tiers (size-tiered or
"universal" compaction):

- All runs become a new base run when the runs above the base reach `FULL_SHARE` of its size, which bounds the space of
  superseded records, or when many records were removed.
- Else, if more than `MAX_RUNS` runs are above the base, the newest runs of about the same size become one.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from kvtwist.engine.sorted_run import PageRef, SortedRun

SMALL = 4 * 2**20
"""A keyspace of at most this many bytes is always compacted as a whole, which costs next to nothing."""
FULL_SHARE = 0.7
MAX_RUNS = 8


def compaction_due(runs: Sequence[SortedRun]) -> list[SortedRun]:
    """The runs, neighbours in age, that are to become one now; empty if none are."""
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
    """Whether compacting the runs would neither leave out a record nor change the format of a page."""
    if len(runs) != 1:
        return not runs
    [run] = runs
    if any(isinstance(ref.seal, str) for ref in run.pages):
        return False
    return not run.tombstones and (run.expires_ms is None or run.expires_ms > now_ms)


def purge_due(run: SortedRun, now_ms: int, damaged: Container[int] = ()) -> list[PageRef]:
    """The pages of a run that hold expired records, and can be read."""
    return [
        ref
        for ref in run.pages
        if ref.expires_ms is not None and ref.expires_ms <= now_ms and ref.number not in damaged
    ]
