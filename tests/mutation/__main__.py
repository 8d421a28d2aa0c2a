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
import math
import os
import random
import resource
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
from attrs import define, frozen

from tests.mutation.mutants import Mutant, mutant, places
from tests.mutation.table import EQUIVALENT, ROUNDED, tests_of

LOADED: Final = (
    *("_hypothesis_pytestplugin", "anyio.pytest_plugin", "pytest_timeout", "pytest_twisted", "xdist.plugin"),
    *("anyio._backends._asyncio", "h11", "httptools", "hypothesis.stateful", "msgspec", "prometheus_client", "treq"),
    *("twisted.application.service", "twisted.internet.posixbase", "twisted.internet.ssl", "twisted.trial.unittest"),
    *("twisted.web.server", "twisted.web.template", "werkzeug.routing"),
)
"""Loaded once for all processes. Not klein: it imports the reactor, which two processes cannot share."""
ARGUMENTS: Final = ("-x", "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider", "-p", "no:xdist", "--timeout=0")
MEMORY: Final = 2 << 30
"""Bytes of address space for a fault, which may be a loop without end that fills a list."""


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


@frozen
class Limits:
    """
    How long a fault may take; one that takes longer is noticed.

    :ivar processor: seconds of processor time, for a loop without end.
    :ivar wall: seconds, for a wait without end.
    """

    processor: float
    wall: float


@define
class Trial:
    """A fault that is being tried, and how many seconds it still has."""

    mutant: Mutant
    seconds: float


def start(path: str, code: str, tests: Sequence[str], output: int, seconds: float) -> int:
    """
    Run tests in a new process, which ends with status 0 if all pass; returns its number.

    :param seconds: of processor time, after which it is killed.
    """
    process = os.fork()
    if process:
        return process
    status = 3
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds),) * 2)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.meta_path.insert(0, Changed(path, code))
        status = int(pytest.main([*ARGUMENTS, *tests]))
    finally:
        os._exit(status)


def survivors(path: str, found: list[Mutant], tests: Sequence[str], limits: Limits, processes: int) -> Iterator[Mutant]:
    """Try all; yields those that no test notices within the limits."""
    waiting = list(reversed(found))
    running: dict[int, Trial] = {}
    before = time.monotonic()
    with open(os.devnull, "wb") as output:
        while waiting or running:
            while waiting and len(running) < processes:
                new = waiting.pop()
                process = start(path, new.code, tests, output.fileno(), limits.processor)
                running[process] = Trial(new, limits.wall)
            now = time.monotonic()
            passed, before = min(now - before, 1.0), now  # longer, if all this was stopped for a while
            for process, trial in list(running.items()):
                ended, status = os.waitpid(process, os.WNOHANG)
                trial.seconds -= passed
                if not ended and trial.seconds < 0:
                    os.killpg(process, signal.SIGKILL)
                    ended, status = os.waitpid(process, 0)
                if ended:
                    del running[process]
                    if status == 0:
                        yield trial.mutant
            time.sleep(0.01)


def limits_of(path: str, source: str, tests: Sequence[str], seconds: float) -> Limits:
    """For a fault: some seconds, and several times what the tests take without it; exits when they fail."""
    with tempfile.TemporaryFile() as output:
        began = time.monotonic()
        _, status, used = os.wait4(start(path, source, tests, output.fileno(), 3600), 0)
        if status:
            output.seek(0)
            sys.exit(f"{path}: its own tests fail:\n{output.read().decode()}")
    return Limits(seconds + 2 * (used.ru_utime + used.ru_stime), 6 * seconds + 4 * (time.monotonic() - began))


def chosen(path: str, source: str, percent: float, dice: random.Random) -> list[Mutant]:
    """That share of the faults, or all, without those that are known to change nothing."""
    known, rounded = EQUIVALENT.get(path, {}), ROUNDED.get(path, ())
    where = places(source)
    dice.shuffle(where)
    found: list[Mutant] = []
    for place in where:
        if len(found) >= len(where) * percent / 100:
            break
        one = mutant(source, place)
        if one is None or (one.was, one.now) in known or (one.operator == "NumberReplacer" and one.was in rounded):
            continue
        found.append(one)
    return sorted(found, key=lambda one: one.line)


def score(tried: int, noticed: int) -> str:
    """For people."""
    return f"{noticed} of {tried} noticed, {noticed / max(tried, 1):.1%}"


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description="How many small faults tests notice.")
    parser.add_argument("modules", nargs="+", metavar="MODULE", help="a file, or a directory with all that is in it")
    parser.add_argument("--percent", type=float, default=100, help="share of each module's faults (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="decides which (default: 0)")
    parser.add_argument(
        "--limit", type=float, default=5, help="seconds of a processor for a fault, besides twice what the tests take"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="so many at once (default: one a core)")
    options = parser.parse_args()
    for module in LOADED:
        import_module(module)
    for given in map(Path, options.modules):
        tried = noticed = 0
        for file in sorted(given.rglob("*.py")) if given.is_dir() else [given]:
            path, source = str(file), file.read_text()
            tests = tests_of(path)
            found = chosen(path, source, options.percent, random.Random(f"{options.seed} {path}"))
            if not found:
                continue
            limits = limits_of(path, source, tests, options.limit)
            left = 0
            for one in survivors(path, found, tests, limits, options.processes):
                left += 1
                print(f"{path}:{one.line}: {one.operator}\n  - {one.was}\n  + {one.now}", flush=True)
            tried, noticed = tried + len(found), noticed + len(found) - left
            print(f"{path}: {score(len(found), len(found) - left)}", flush=True)
        if given.is_dir():
            print(f"{given}: {score(tried, noticed)}", flush=True)


if __name__ == "__main__":
    main()
