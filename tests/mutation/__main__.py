"""
Mutation testing: `python -m tests.mutation kvtwist/engine/page.py`. What it prints is each fault that no test noticed, and
the share of those that some test did.

A fault is tried in a process of its own, forked from this one, which has loaded pytest but nothing that is tested: the
changed module is given to Python in place of the file, so the working tree stays as it is.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.util
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest
from attrs import define

from tests.mutation.mutants import Mutant, mutant, places
from tests.mutation.table import EQUIVALENT, tests_of

LOADED: Final = (
    *("_hypothesis_pytestplugin", "pytest_timeout", "pytest_twisted", "xdist.plugin"),
    *("msgspec", "prometheus_client", "twisted.trial.unittest", "twisted.web.http", "werkzeug.routing"),
)
"""Loaded once for all processes. Not what imports the reactor, since that is no good in a fork: klein, treq."""
ARGUMENTS: Final = ("-x", "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider", "-p", "no:xdist", "--timeout=0")


class Changed(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Loads one module from a text."""

    def __init__(self, path: str, code: str) -> None:
        self._name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        self._path = os.path.abspath(path)
        self._code = code

    def find_spec(self, name: str, path: object, target: ModuleType | None = None) -> Any:
        """See `MetaPathFinder`."""
        if name != self._name:
            return None
        is_package = self._path.endswith("/__init__.py")
        return importlib.util.spec_from_file_location(
            name,
            self._path,
            loader=self,
            submodule_search_locations=[os.path.dirname(self._path)] if is_package else None,
        )

    def get_source(self, fullname: str) -> str:
        """See `InspectLoader`."""
        return self._code


@define
class Trial:
    """A fault that is being tried."""

    mutant: Mutant
    until: float


def start(path: str, code: str, tests: Sequence[str], output: int) -> int:
    """Run tests in a new process, which ends with status 0 if all pass; returns its number."""
    process = os.fork()
    if process:
        return process
    status = 3
    try:
        os.setsid()
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.meta_path.insert(0, Changed(path, code))
        status = int(pytest.main([*ARGUMENTS, *tests]))
    finally:
        os._exit(status)


def survivors(path: str, found: list[Mutant], tests: Sequence[str], limit: float, processes: int) -> Iterator[Mutant]:
    """Try all; yields those that no test notices within so many seconds."""
    waiting = list(reversed(found))
    running: dict[int, Trial] = {}
    with open(os.devnull, "wb") as output:
        while waiting or running:
            while waiting and len(running) < processes:
                new = waiting.pop()
                running[start(path, new.code, tests, output.fileno())] = Trial(new, time.monotonic() + limit)
            for process, trial in list(running.items()):
                ended, status = os.waitpid(process, os.WNOHANG)
                if not ended and time.monotonic() > trial.until:
                    os.killpg(process, signal.SIGKILL)
                    ended, status = os.waitpid(process, 0)
                if ended:
                    del running[process]
                    if status == 0:
                        yield trial.mutant
            time.sleep(0.01)


def clean_seconds(path: str, source: str, tests: Sequence[str]) -> float:
    """How long the tests of the module as it is take; exits when they fail."""
    with tempfile.TemporaryFile() as output:
        began = time.monotonic()
        _, status = os.waitpid(start(path, source, tests, output.fileno()), 0)
        if status:
            output.seek(0)
            sys.exit(f"{path}: its own tests fail:\n{output.read().decode()}")
    return time.monotonic() - began


def chosen(path: str, source: str, sample: int | None, dice: random.Random) -> list[Mutant]:
    """So many faults, or all, without those that are known to change nothing."""
    known = EQUIVALENT.get(path, {})
    where = places(source)
    dice.shuffle(where)
    found: list[Mutant] = []
    for place in where:
        if len(found) == sample:
            break
        one = mutant(source, place)
        if one is not None and (one.was, one.now) not in known:
            found.append(one)
    return sorted(found, key=lambda one: one.line)


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description="How many small faults tests notice.")
    parser.add_argument("modules", nargs="+", metavar="MODULE", help="a file, or a directory with all that is in it")
    parser.add_argument("--sample", type=int, help="so many faults of each module, chosen by chance (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="decides which (default: 0)")
    parser.add_argument(
        "--limit", type=float, default=20, help="seconds for a fault, and four times what tests take without it"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="so many at once (default: one a core)")
    options = parser.parse_args()
    for module in LOADED:
        import_module(module)
    tried = noticed = 0
    for given in map(Path, options.modules):
        for file in sorted(given.rglob("*.py")) if given.is_dir() else [given]:
            path, source = str(file), file.read_text()
            tests = tests_of(path)
            found = chosen(path, source, options.sample, random.Random(f"{options.seed} {path}"))
            if not found:
                continue
            limit = options.limit + 4 * clean_seconds(path, source, tests)
            left = 0
            for one in survivors(path, found, tests, limit, options.processes):
                left += 1
                print(f"{path}:{one.line}: {one.operator}\n  - {one.was}\n  + {one.now}", flush=True)
            tried, noticed = tried + len(found), noticed + len(found) - left
            print(f"{path}: {len(found) - left} of {len(found)} noticed, {_share(found, left)}", flush=True)
    print(f"all: {noticed} of {tried} noticed, {noticed / max(tried, 1):.1%}")


def _share(found: list[Mutant], left: int) -> str:
    return f"{1 - left / len(found):.1%}"


if __name__ == "__main__":
    main()
