#!/usr/bin/env python
"""
Measures the engine beside SQLite, LMDB and DirDBM: `python bench/engine.py`. See bench/README.md.

This is the command line; what is measured is in phases.py, who takes part in contenders.py, how often and how much in
plan.py.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.pop(0)  # bench/, whose http.py is not the library's
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import ROOT, docs, tables
from bench.contenders import DEFAULT, QUICK, Entrant, entrant
from bench.phases import PHASES
from bench.proc import file_system, machine, source_version
from bench.quantities import key_count
from bench.results import Results
from bench.running import Run

_ROUNDS = {10_000: 3, 100_000: 3}
"""Rounds by number of keys; more keys take one."""


def _sizes(text: str) -> list[int]:
    return [key_count(part) for part in text.split(",")]


def _phases(text: str) -> frozenset[str]:
    names = frozenset(text.split(","))
    known = [phase.name for phase in PHASES]
    if not names <= set(known):
        raise argparse.ArgumentTypeError(f"phases are {', '.join(known)}")
    return names


def _entrants(text: str) -> list[Entrant]:
    try:
        return [entrant(name) for name in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def options(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench/engine.py", description=__doc__)
    parser.add_argument("--sizes", type=_sizes, help="numbers of keys [10k,100k,1m]")
    parser.add_argument("--rounds", type=int, help="of everything; medians are told [3, but 1 at 1m]")
    parser.add_argument("--quick", action="store_true", help="10k keys, one round, shorter phases, no DirDBM: a minute")
    parser.add_argument("--only", type=_phases, default=frozenset(), metavar="PHASE,...", help="these phases alone")
    parser.add_argument("--contenders", type=_entrants, metavar="NAME,...", help=f"[{','.join(DEFAULT)}]")
    parser.add_argument("--dir", type=Path, help="where to make the stores: the disk to measure [/tmp]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures of every round")
    parser.add_argument("--render", type=Path, metavar="FILE", help="measure nothing: take what --json has kept")
    parser.add_argument("--write-docs", action="store_true", help="put tables and pictures into --docs")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", metavar="DIR", help="[docs]")
    return parser.parse_args(arguments)


def measure(chosen: argparse.Namespace, place: Path, how: str) -> Results:
    """Run everything that was asked for. What there is when it ends early is kept, too."""
    sizes = chosen.sizes or ([10_000] if chosen.quick else [10_000, 100_000, 1_000_000])
    if file_system(place) == "tmpfs":
        print(f"{place} is in memory: what is measured there says nothing of a disk (see --dir)", file=sys.stderr)
    entrants = chosen.contenders or [entrant(name) for name in (QUICK if chosen.quick else DEFAULT)]
    results = Results(machine(place), source_version(ROOT), how, time.strftime("%Y-%m-%d"))
    print(results.machine, file=sys.stderr)
    try:
        for keys in sizes:
            rounds = chosen.rounds or (1 if chosen.quick else _ROUNDS.get(keys, 1))
            run = Run(keys, rounds, chosen.quick, entrants, chosen.only, place, _tell)
            results.results.extend(run.results())
    finally:
        if chosen.json is not None:
            results.save(chosen.json)
    return results


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    """Exit status 1 when something failed."""
    chosen = options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # not without tidying up
    if chosen.render is not None:
        results = Results.load(chosen.render)
    else:
        how = shlex.join(["python", "bench/engine.py", *arguments])
        with tempfile.TemporaryDirectory(prefix="kvtwist-bench-", dir=chosen.dir) as place:
            results = measure(chosen, Path(place), how)
    text = tables.report(results)
    print(text)
    if chosen.write_docs:
        from bench import plots

        drawn = plots.draw(results, chosen.docs / "benchmarks")
        pictures = [f"![{path.stem}](benchmarks/{path.name})" for path in drawn]
        docs.write_section(chosen.docs / "benchmarks.md", "bench/engine.py", "\n\n".join([*pictures, text]))
    return 1 if results.errors() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
