#!/usr/bin/env python
"""
Measures the server beside its peers, over HTTP: `python bench/http.py`. See bench/README.md.

This is the command line; who takes part is in serving/contenders.py, what is measured in serving/peers.py and
serving/alone.py, what is wanted in serving/goals.py.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

sys.path.pop(0)  # bench/, whose http.py is not the library's
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import ROOT, docs
from bench.proc import file_system, machine, source_version
from bench.results import Result, Results
from bench.serving import alone, peers, report
from bench.serving.contenders import CONTENDERS, Contender, chosen
from bench.serving.stage import Stage

SCENARIOS: Final[dict[str, Callable[[Stage], Iterator[Result]]]] = {
    "get-hot": peers.get_hot,
    "get-random": peers.get_random,
    "put-durable": peers.put_durable,
    "latency": peers.latency,
    "dialects": alone.dialects,
    "tricks": alone.tricks,
    "write-tricks": alone.write_tricks,
    "floors": alone.floors,
    "observed": alone.observed,
    "large": alone.large,
    "idle": alone.idle,
}
NEEDED: Final = ("wrk", "taskset")


def _scenarios(text: str) -> list[str]:
    asked = text.split(",")
    if not set(asked) <= set(SCENARIOS):
        raise argparse.ArgumentTypeError(f"scenarios are {', '.join(SCENARIOS)}")
    return [name for name in SCENARIOS if name in asked]


def _contenders(text: str) -> list[Contender]:
    try:
        return list(chosen(text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _at_least_one(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"a whole number from 1 on is expected, not {text!r}")
    return int(text)


def options(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench/http.py", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of a second: a minute or two")
    parser.add_argument("--rounds", type=_at_least_one, help="of everything; medians are told [5]")
    parser.add_argument("--seconds", type=_at_least_one, help="that a round of a measurement takes [5]")
    parser.add_argument("--only", type=_scenarios, default=list(SCENARIOS), metavar="SCENARIO,...", help="these alone")
    parser.add_argument("--contenders", type=_contenders, metavar="NAME,...", help=f"[{','.join(CONTENDERS)}]")
    parser.add_argument("--dir", type=Path, help="where to make the stores: the disk to measure [/tmp]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures of every round")
    parser.add_argument("--render", type=Path, metavar="FILE", help="measure nothing: take what --json has kept")
    parser.add_argument("--write-docs", action="store_true", help="put tables and a picture into --docs")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", metavar="DIR", help="[docs]")
    return parser.parse_args(arguments)


def measure(asked: argparse.Namespace, place: Path, how: str) -> Results:
    """Run everything that was asked for. What there is when it ends early is kept, too."""
    if file_system(place) == "tmpfs":
        _tell(f"{place} is in memory: what is measured there says nothing of a disk (see --dir)")
    entrants = list(_installed(asked.contenders or list(CONTENDERS.values())))
    rounds, seconds = asked.rounds or (1 if asked.quick else 5), asked.seconds or (1 if asked.quick else 5)
    first, second, *_ = sorted(os.sched_getaffinity(0))
    results = Results(machine(place), source_version(ROOT), how, time.strftime("%Y-%m-%d"))
    _tell(results.machine)
    stage = Stage(place, rounds, seconds, entrants, (first, second), _tell)
    try:
        for name in asked.only:
            results.results.extend(SCENARIOS[name](stage))
    finally:
        stage.close()
        if asked.json is not None:
            results.save(asked.json)
    return results


def _installed(entrants: list[Contender]) -> Iterator[Contender]:
    for entrant in entrants:
        missing = entrant.missing()
        if missing:
            _tell(f"without {entrant.title}: {', '.join(missing)} is not installed")
        else:
            yield entrant


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    """Exit status 1 when something failed or was answered wrongly."""
    asked = options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # not without tidying up
    if asked.render is not None:
        results = Results.load(asked.render)
    else:
        missing = [name for name in NEEDED if shutil.which(name) is None]
        if missing or len(os.sched_getaffinity(0)) < 2:
            sys.exit(f"bench/http.py needs {', '.join(missing) or 'two cores'}")
        how = shlex.join(["python", "bench/http.py", *arguments])
        with tempfile.TemporaryDirectory(prefix="kvtwist-http-", dir=asked.dir) as place:
            results = measure(asked, Path(place), how)
    text = report.report(results)
    print(text)
    if asked.write_docs:
        from bench.serving import picture

        drawn = picture.draw(results, asked.docs / "benchmarks")
        docs.write_section(asked.docs / "benchmarks.md", "bench/http.py", f"![http](benchmarks/{drawn.name})\n\n{text}")
    return 1 if results.errors() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
