"""Keeping a number of requests in flight, and doing nothing else while they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.python.failure import Failure

from bench.plan import IN_FLIGHT

_SYNCHRONOUS_BURST = 64
"""Answers that are taken at once before the reactor gets a turn, as so many connections would in one of its rounds."""


def pause(reactor: Any, seconds: float) -> Deferred[None]:
    """Fires after so many seconds."""
    done: Deferred[None] = Deferred()
    reactor.callLater(seconds, done.callback, None)
    return done


def turn(reactor: Any) -> Deferred[None]:
    """Fires in the reactor's next turn."""
    return pause(reactor, 0)


class _Breath:
    """Lets the reactor turn, for all workers at the same time: else each would have a burst of its own."""

    def __init__(self, reactor: Any) -> None:
        self.answers = 0
        self._reactor = reactor
        self._waiting: list[Deferred[None]] = []

    def taken(self) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        if not self._waiting:
            self._reactor.callLater(0, self._over)
        self._waiting.append(done)
        return done

    def _over(self) -> None:
        waiting, self._waiting = self._waiting, []
        self.answers = 0
        for done in waiting:
            done.callback(None)


async def drive(
    reactor: Any,
    act: Callable[[Any], Deferred[Any]],
    subjects: Iterable[Any],
    in_flight: int = IN_FLIGHT,
    seconds: float | None = None,
) -> int:
    """
    Call `act` with each subject, so many at a time, until none is left or the time is over; how many that were.

    Raises what the first failed one did.
    """
    shared = _counted(subjects, seconds)
    breath = _Breath(reactor)

    async def work() -> int:
        count = 0
        for subject in shared:
            count += 1
            done = act(subject)
            if not done.called or isinstance(done.result, Failure):
                await done
            else:
                breath.answers += 1
                if breath.answers >= _SYNCHRONOUS_BURST:
                    await breath.taken()
        return count

    workers = [Deferred.fromCoroutine(work()) for _ in range(in_flight)]
    return sum(await gatherResults(workers, consumeErrors=True))


def _counted(subjects: Iterable[Any], seconds: float | None) -> Iterator[Any]:
    if seconds is None:
        yield from subjects
        return
    end = time.perf_counter() + seconds
    for subject in subjects:
        if time.perf_counter() > end:
            return
        yield subject
