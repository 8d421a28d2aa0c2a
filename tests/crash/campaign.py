"""
Runs histories and checks what crashes leave of them, until enough different states have been survived.

How many, and from which seed on, may be said in the environment:

    KVTWIST_CRASH_STATES     how many distinct states at least
    KVTWIST_CRASH_SEED       the first seed; those behind it follow. "random" is another one each time
    KVTWIST_CRASH_PROCESSES  how many at a time
"""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait

from attrs import define, field
from twisted.logger import ILogObserver, LogEvent, globalLogBeginner
from zope.interface import provider

from tests.crash.checker import Checker, Tally
from tests.crash.history import Counterexample
from tests.crash.workload import Workload
from tests.support.memorydisk import Forgotten, new_place

QUICK_STATES = 3000
"""Of many histories, a few tries at each moment."""


def check_seed(seed: int, tries: int = 4, lives: int = 3, forgotten: Forgotten | None = None) -> Tally:
    """One history, and all that is tried of its states; :raises Counterexample: with the seed in it."""
    with new_place() as place, new_place() as other_place:
        workload = Workload(seed, place, forgotten)
        checker = Checker(other_place, random.Random(seed), tries, forgotten=forgotten)
        try:
            with workload.settings.applied():
                for history in workload.run(lives):
                    checker.check(history)
        except Counterexample as counterexample:
            raise Counterexample(f"seed {seed}: {counterexample}") from counterexample
        except Exception as error:
            raise RuntimeError(f"seed {seed}: {error}") from error
        return checker.tally


@define
class Campaign:
    """
    :ivar states: how many distinct states to look at, at least.
    :ivar seed: the first one.
    :ivar tries: see `Checker`.
    :ivar lives: see `Workload.run`.
    :ivar processes: how many may run at a time; with one of them everything happens in this one.
    """

    states: int
    seed: int
    tries: int = 4
    lives: int = 3
    processes: int = 1
    tally: Tally = field(factory=Tally)
    seeds: int = 0
    _started: float = field(factory=time.monotonic)

    @classmethod
    def from_environment(cls) -> Campaign:
        """As the environment says, or a quick one."""
        states = os.environ.get("KVTWIST_CRASH_STATES")
        seed = os.environ.get("KVTWIST_CRASH_SEED", "0")
        return cls(
            states=int(states or QUICK_STATES),
            seed=random.SystemRandom().randrange(10**6) if seed == "random" else int(seed),
            tries=4 if states else 1,
            lives=3 if states else 1,
            processes=int(os.environ.get("KVTWIST_CRASH_PROCESSES", "1")),
        )

    def run(self) -> None:
        """:raises Counterexample: on the first state that is not survived."""
        if self.processes > 1:
            self._run_in_processes()
            return
        while not self._enough():
            self._add(check_seed(self.seed + self.seeds, self.tries, self.lives))

    def _enough(self) -> bool:
        return len(self.tally.distinct) >= self.states

    def _run_in_processes(self) -> None:
        context = multiprocessing.get_context("spawn")
        begun = self.seed
        with ProcessPoolExecutor(self.processes, context, initializer=_be_quiet) as pool:
            running: set[Future[Tally]] = set()
            try:
                while not self._enough():
                    while len(running) < self.processes:
                        running.add(pool.submit(check_seed, begun, self.tries, self.lives))
                        begun += 1
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        self._add(future.result())
                for future in running:
                    self._add(future.result())
            finally:
                pool.shutdown(cancel_futures=True)

    def _add(self, tally: Tally) -> None:
        self.seeds += 1
        self.tally.states += tally.states
        self.tally.repaired += tally.repaired
        self.tally.distinct |= tally.distinct

    def __str__(self) -> str:
        seconds = time.monotonic() - self._started
        distinct = len(self.tally.distinct)
        return (
            f"crash states: {self.tally.states} looked at, {distinct} distinct, {self.tally.repaired} repaired, seeds {self.seed} to "
            f"{self.seed + self.seeds - 1}, {seconds:.1f} s, {self.processes * seconds * 1000 / max(distinct, 1):.1f} ms each"
        )


def _be_quiet() -> None:
    """Nobody reads the log of these processes."""
    globalLogBeginner.beginLoggingTo([_forget], redirectStandardIO=False, discardBuffer=True)


@provider(ILogObserver)
def _forget(event: LogEvent) -> None:
    """Log nothing."""
