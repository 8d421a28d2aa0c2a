"""
Work on what may be large, in steps, so that no request holds the reactor from the others.

Not in threads: they would share the interpreter's lock with the reactor, which then waits for it at each call of the
kernel. And one step of one request after the other's: however many there are, a turn takes about ten milliseconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import cooperate

T = TypeVar("T")

Steps = Generator[None, None, T]
"""Stops after every step of about a millisecond, and returns what came of all."""
STEP = 256
"""How many small things make a step."""


def at_once(steps: Steps[T]) -> T:
    """All steps, one after the other: for what is small, or where there is no reactor."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


async def in_steps(steps: Steps[T]) -> T:
    """The first step at once, which for most requests is all; each other one when it is its turn."""
    try:
        next(steps)
    except StopIteration as end:
        result: T = end.value
        return result
    results: list[T] = []

    def rest() -> Generator[None, None, None]:
        results.append((yield from steps))

    task = cooperate(rest())
    try:
        await task.whenDone()
    except CancelledError:
        task.stop()
        raise
    return results[0]


class Permits:
    """
    Bounds what all requests together may be working on.

    :param count: how many permits there are.
    """

    def __init__(self, count: int) -> None:
        self._all = self._free = count
        self._queue: deque[tuple[int, Deferred[None]]] = deque()

    @asynccontextmanager
    async def held(self, count: int) -> AsyncIterator[None]:
        """Hold so many (or all, if there are not so many), first come, first served."""
        count = min(count, self._all)
        if self._queue or count > self._free:
            granted: Deferred[None] = Deferred()
            self._queue.append((count, granted))
            try:
                await granted
            except CancelledError:
                self._queue.remove((count, granted))
                self._serve()
                raise
        else:
            self._free -= count
        try:
            yield
        finally:
            self._free += count
            self._serve()

    def _serve(self) -> None:
        while self._queue and self._queue[0][0] <= self._free:
            count, granted = self._queue.popleft()
            self._free -= count
            granted.callback(None)
