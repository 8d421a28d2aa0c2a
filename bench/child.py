"""
One phase of one contender in a process of its own: `python -m bench.child` with a job as JSON for its argument.

It prints what it measured as one line of JSON, and, if the phase says so, waits to be killed.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from typing import Any

from attrs import asdict, frozen
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from bench.contenders import contender
from bench.driving import pause
from bench.phases import PHASES, Figures, Stage
from bench.plan import plan_for
from bench.proc import forget_peak, memory, traffic
from bench.workload import Data


@frozen
class Job:
    """What the parent asks for."""

    contender: str
    phase: str
    size: int
    quick: bool
    directory: str

    def as_argument(self) -> str:
        """For `Job.from_argument`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_argument(cls, text: str) -> Job:
        """What `as_argument` has made."""
        return cls(**json.loads(text))


async def settled(reactor: Any, quiet: float) -> None:
    """
    Return when nothing has been written for so many seconds: what a store still does in the background for what was
    written belongs to what that costs.
    """
    written, since = traffic().written, time.perf_counter()
    while time.perf_counter() - since < quiet:
        await pause(reactor, quiet / 10)
        now = traffic().written
        if now != written:
            written, since = now, time.perf_counter()


async def run(reactor: Any, job: Job) -> None:
    """Do the job, print its figures."""
    phase = next(phase for phase in PHASES if phase.name == job.phase)
    store = contender(job.contender, reactor, job.directory)
    plan = plan_for(job.size, job.quick)
    stage = Stage(reactor, store, Data(job.size), plan)
    measured = phase.prepare(stage)

    # From here on it is the store's memory, the store's traffic and the store's time.
    forget_peak()
    base, before = memory(), traffic()
    started = time.perf_counter()
    stage.replayed = store.open()
    stage.opened = time.perf_counter() - started
    figures: Figures = dict(await measured())
    figures["memory_end"] = memory().resident
    figures["memory_own"] = memory().anonymous
    if phase.weighed:
        await store.checkpoint()
        await settled(reactor, plan.quiet)
    held = memory()
    if not phase.killed:
        started = time.perf_counter()
        await store.close()
        figures["close_seconds"] = time.perf_counter() - started
    after = traffic()

    figures["open_seconds"] = stage.opened
    figures["memory_base"] = base.resident
    figures["memory_peak"] = held.peak
    figures["bytes_written"] = after.written - before.written
    figures["bytes_fetched"] = after.fetched - before.fetched
    print(json.dumps(figures), flush=True)
    if phase.killed:
        await Deferred()


async def main(reactor: Any, argument: str) -> None:
    """Run, and never outlive a failure: the threads of a store that was not closed would."""
    try:
        await run(reactor, Job.from_argument(argument))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def end_with_parent() -> None:
    """Standard input is a pipe that ends with the parent. (Not by `sys.stdin`: its lock would hold up our own end.)"""
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, daemon=True).start()
    react(lambda reactor: Deferred.fromCoroutine(main(reactor, sys.argv[1])))
