#!/usr/bin/env python
"""
How does the engine compare with SQLite, LMDB and DirDBM, in a process and without HTTP?

Each store runs in processes of its own: one loads, one reads, one updates, one is killed, one recovers. What is read is
checked, and after the SIGKILL every record is compared with what was acknowledged.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Final

sys.path.pop(0)  # bench/, whose http.py would hide the library's
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import command, engine_child, machine
from bench.checkout import Checkout
from bench.command import Run, say
from bench.data import RECORD_BYTES
from bench.engine_child import PROCESSES, Job
from bench.figures import Figures, Panel, mebi, micro, milli, rounds, short, table, whole
from bench.stores import STORES, is_installed

DIRDBM_LIMIT: Final = 100_000
"""Records that DirDBM is tried with: each takes a file of 4 KiB."""

ROWS: Final = (
    ("load", "load in random order: records/s", "rate", whole),
    ("update", "update of any record: records/s", "rate", whole),
    ("put single", "put, one writer: records/s", "rate", whole),
    ("get one", "get of one key: records/s", "rate", whole),
    ("get any", "get of any key: records/s", "rate", whole),
    ("scan", "full scan: records/s", "rate", whole),
    ("prefix", "scan of a prefix, 100 records: scans/s", "rate", whole),
    ("load", "load: processor time of a record, µs", "cpu_seconds", micro),
    ("update", "update: processor time of a record, µs", "cpu_seconds", micro),
    ("get any", "get of any key: processor time, µs", "cpu_seconds", micro),
    ("load", "load: bytes written per byte of records", "written", short),
    ("update", "update: bytes written per byte of records", "written", short),
    ("load", "load: memory, MiB", "resident", mebi),
    ("update", "update: memory, MiB", "resident", mebi),
    ("load", "disk after the load, times raw data", "disk", short),
    ("update", "disk after the updates, times raw data", "disk", short),
    ("recover", "first answer after SIGKILL, s", "seconds_with_open", short),
    ("load", "load: reactor held, longest, ms", "held", milli),
    ("update", "update: reactor held, longest, ms", "held", milli),
    ("scan", "full scan: reactor held, longest, ms", "held", milli),
)
"""Phase, title, figure and its form."""
DRAWN: Final = (0, 1, 4, 5, 11, 12)
"""The rows of the picture."""


def _run(run: Run, checkout: Checkout, job: Job) -> Iterator[tuple[str, dict[str, float]]]:
    """The figures of each phase of a process."""
    child = [checkout.python, engine_child.__file__, job.as_argument()]
    done = subprocess.run(child, stdout=subprocess.PIPE, text=True, timeout=3600, check=False, cwd=run.place)
    if done.returncode != (-signal.SIGKILL if job.process == "kill" else 0):
        sys.exit(f"{job.store}, {job.process}: failed, see above")
    disk = machine.disk_bytes(Path(job.directory)) / (job.size * RECORD_BYTES)
    for figures in map(json.loads, done.stdout.splitlines()):
        yield figures.pop("phase"), {**figures, "disk": disk}


def measure(run: Run, sizes: list[int]) -> tuple[Figures, list[str]]:
    """All phases of all rounds; also the contenders, each with its number of records."""
    figures = Figures()
    names = run.chosen([*run.checkouts, *(name for name in STORES if name != "kvtwist")])
    for name in [name for name in names if not is_installed(name)]:
        say(f"skipped {name}: it is not installed")
        names.remove(name)
    columns: list[str] = []
    for size in sizes:
        sized = {name: f"{name}, {size:,}" for name in names if name != "dirdbm" or size <= DIRDBM_LIMIT}
        columns += sized.values()
        for order in rounds(run.rounds, list(sized)):
            for process, name in product(PROCESSES, order):
                checkout = run.checkouts.get(name, run.checkouts["kvtwist"])
                store = "kvtwist" if name in run.checkouts else name
                seconds = 0.2 if run.quick else 5.0
                job = Job(store, process, size, str(run.place / name), str(checkout.root), seconds)
                for phase, found in _run(run, checkout, job):
                    figures.add(phase, sized[name], **found)
                    say(f"{sized[name]}, {phase}: {found['rate']:,.0f}/s")
            for name in order:
                shutil.rmtree(run.place / name)
    return figures, columns


def main() -> None:
    """Exit status 1 when a store lost something."""
    parser = command.parser(__doc__, rounds=3)
    parser.add_argument("--records", default="100000,1000000", metavar="NUMBER,...", help="[100000,1000000]")
    options = parser.parse_args()
    with command.run(options) as run:
        sizes = [1_000] if run.quick else [int(size) for size in options.records.split(",")]
        figures, columns = measure(run, sizes)
        lines = [
            [title, *(figures.cell(phase, c, metric, form, f"kvtwist, {c.partition(', ')[2]}") for c in columns)]
            for phase, title, metric, form in ROWS
        ]
        panels = [
            Panel(title, form, figures.bars({column: (phase, column, metric) for column in columns}))
            for phase, title, metric, form in (ROWS[at] for at in DRAWN)
        ]
        run.report("engine", table(["records", *columns], lines), panels)


if __name__ == "__main__":
    main()
