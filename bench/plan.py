"""How much of everything: what a phase does depends on the number of keys, and on how much time there is."""

from __future__ import annotations

from typing import Final

from attrs import frozen

IN_FLIGHT: Final = 64
"""Requests that wait at the same time, as on a server with so many busy connections."""
HOT_KEYS: Final = 100


@frozen
class Plan:
    """
    :ivar seconds: when a phase of reads or single writes ends, however much it has done. Loads and updates run to
        their end.
    :ivar quiet: for how many seconds nothing must have been written before a phase counts as over.
    :ivar updates: as many as there are keys, so that what a checkpoint costs is spread over what it is for.
    :ivar singles: writes one after the other.
    :ivar before_checkpoint: uniform updates that a timed checkpoint has to move.
    :ivar before_kill: uniform updates before a SIGKILL; 350,000 nearly fill a journal segment of 64 MiB.
    """

    seconds: float
    quiet: float
    updates: int
    singles: int
    hot_reads: int
    reads: int
    prefixes: int
    before_checkpoint: int
    before_kill: int


def plan_for(size: int, quick: bool) -> Plan:
    """What to do with so many keys."""
    if quick:
        return Plan(1.0, 0.2, size // 2, 300, 30_000, size, 300, size // 2, size)
    return Plan(
        seconds=10.0,
        quiet=1.0,
        updates=max(size, 50_000),
        singles=2_000,
        hot_reads=200_000,
        reads=max(min(size, 300_000), 50_000),
        prefixes=3_000,
        before_checkpoint=min(size, 100_000),
        before_kill=min(max(size, 50_000), 350_000),
    )
