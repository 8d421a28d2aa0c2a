"""Runs phases in child processes, interleaved: whatever the machine does meanwhile, it does to all contenders."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Timer

from attrs import frozen

from bench import ROOT
from bench.child import Job
from bench.contenders import Entrant
from bench.phases import PHASES, Phase
from bench.proc import device_written, disk_bytes, forget_cached
from bench.results import Result
from bench.workload import RECORD_BYTES

PATIENCE = 900.0
"""Seconds after which a phase is ended, and counts as failed."""
FOUNDATION = "load-random"
"""The phase that makes what the others work on; it runs whatever was asked for."""


@frozen
class Run:
    """
    All phases for one number of keys.

    :ivar only: names of phases; empty for all.
    :ivar place: where the stores' directories are made, and removed again.
    """

    size: int
    rounds: int
    quick: bool
    entrants: Sequence[Entrant]
    only: frozenset[str]
    place: Path
    tell: Callable[[str], None]

    def results(self) -> Iterator[Result]:
        """Run them. A phase that fails is told of and left out; so are those that need it."""
        entrants = [e for e in self.entrants if e.largest is None or self.size <= e.largest]
        for number in range(self.rounds):
            # Who comes first changes from round to round, so that nobody always has the quieter moment.
            turn = number % len(entrants) if entrants else 0
            order = [*entrants[turn:], *entrants[:turn]]
            lost: set[str] = set()
            for phase in self._phases():
                for entrant in order:
                    if entrant.name not in lost and phase.needs in (None, *entrant.can):
                        result = self._one(phase, entrant, number)
                        yield result
                        if result.error and phase.kept:
                            lost.add(entrant.name)
            for entrant in order:
                shutil.rmtree(self._directory(entrant), ignore_errors=True)

    def _phases(self) -> list[Phase]:
        asked = self.only | {FOUNDATION} | ({"kill"} if "recover" in self.only else frozenset())
        return [phase for phase in PHASES if not self.only or phase.name in asked]

    def _directory(self, entrant: Entrant) -> Path:
        return self.place / f"{entrant.name}-{self.size}"

    def _one(self, phase: Phase, entrant: Entrant, number: int) -> Result:
        directory = self._directory(entrant)
        if phase.fresh:
            shutil.rmtree(directory, ignore_errors=True)
        if phase.cold:
            forget_cached(directory)
        weigh = phase.weighed and not self.quick  # waiting for the whole machine's disk takes its time
        before = device_written(self.place) if weigh else None
        job = Job(entrant.name, phase.name, self.size, self.quick, str(directory))
        figures, error = _run_child(job, phase.killed)
        if error is None:
            after = device_written(self.place) if weigh else None
            if before is not None and after is not None:
                figures["device_bytes"] = after - before
            figures["disk_bytes"] = disk_bytes(directory)
            figures["raw_bytes"] = self.size * RECORD_BYTES
        told = f"{self.size:>9,}  {number + 1}/{self.rounds}  {phase.name:18} {entrant.name:15}"
        self.tell(f"{told} {_summary(figures, error)}")
        return Result(self.size, number, phase.name, entrant.name, figures, error)


def _summary(figures: dict[str, float], error: str | None) -> str:
    if error is not None:
        return f"FAILED: {error}"
    parts = []
    if "rate" in figures:
        parts.append(f"{figures['rate']:>11,.0f}/s")
    if "seconds" in figures:
        parts.append(f"{figures['seconds']:8.3f} s")
    if "hold_max" in figures:
        parts.append(f"held at most {figures['hold_max'] * 1000:.1f} ms")
    return "  ".join(parts)


def _run_child(job: Job, killed: bool) -> tuple[dict[str, float], str | None]:
    """The child's figures, or what went wrong. A child that waits to be killed is killed once it has spoken."""
    with tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", "bench.child", job.as_argument()],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        too_long = Timer(PATIENCE, child.kill)
        too_long.start()
        try:
            assert child.stdout is not None
            line = child.stdout.readline()
            if killed:
                child.kill()
            status = child.wait()
        finally:
            too_long.cancel()
            child.kill()
            child.wait()
        if line and (killed or status == 0):
            return json.loads(line), None
        errors.seek(0)
        told = errors.read().strip().splitlines()
        return {}, told[-1] if told else f"ended with status {status}, or after {PATIENCE:.0f} s"
