#!/usr/bin/env python
"""
Measures what it is worth that a journal segment need not grow when it is synced: `python bench/journal.py`.

The same batches go through the engine's own `JournalWriter` to segments that grow with every batch, that have grown
ahead by zeros, and that are written over an old one. They take turns; what is told is the median time of a batch.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.pop(0)  # bench/, whose http.py is not the library's
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kvtwist.engine import journal
from kvtwist.engine.disk import Disk
from kvtwist.engine.frame import Change, Transaction
from kvtwist.engine.journal import JournalWriter
from kvtwist.model import DATA, OCTETS

BATCHES = 300
WAYS = ("growing", "ahead", "reused")


def batch(revision: int, records: int) -> list[Transaction]:
    """That many transactions of one record of 100 bytes."""
    value = random.Random(revision).randbytes(100)
    return [Transaction(revision + n, 0, [Change(DATA, b"%016d" % n, value, OCTETS)]) for n in range(records)]


def seconds(way: str, place: str, records: int) -> list[float]:
    """How long each batch took."""
    journal.EXTENT = 0 if way == "growing" else 2**20
    writer = JournalWriter(Disk(), place, 1, durable=True)
    revision = 1
    if way == "reused":
        for _ in range(BATCHES):
            writer.append(batch(revision, records))
            revision += records
        writer.rotate()
        writer.drop(revision - 1)
        writer.append(batch(revision, 1))
        writer.rotate()  # into what has just been dropped
        revision += 1
    taken = []
    for _ in range(BATCHES):
        transactions = batch(revision, records)
        began = time.perf_counter()
        writer.append(transactions)
        taken.append(time.perf_counter() - began)
        revision += records
    writer.close()
    return taken


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench/journal.py", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dir", type=Path, help="the disk to measure [/tmp]")
    chosen = parser.parse_args()
    print("| records in a batch | " + " | ".join(f"{way}, µs" for way in WAYS) + " | growing : reused |")
    print("|" + "---|" * 5)
    for records in (1, 16, 64, 512):
        taken: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(chosen.rounds):
            for way in WAYS:
                with tempfile.TemporaryDirectory(dir=chosen.dir) as place:
                    taken[way] += seconds(way, place, records)
        middle = {way: statistics.median(taken[way]) * 1e6 for way in WAYS}
        figures = " | ".join(f"{middle[way]:.0f}" for way in WAYS)
        print(f"| {records} | {figures} | {middle['growing'] / middle['reused']:.2f} |", flush=True)


if __name__ == "__main__":
    main()
