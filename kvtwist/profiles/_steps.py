"""
Long work in steps of about a millisecond, so that other requests are answered in between.

Threads would not help: they share the interpreter's lock with the reactor, which would wait for it after each system
call. Twisted's cooperator runs the steps of all requests, for about ten milliseconds in each reactor iteration.
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
"""Yields after every step of about a millisecond, and returns the result."""
_SPAN = 64 * 1024
STEP = 256
"""How many small items are handled in a step."""


def at_once(steps: Steps[T]) -> T:
    """Run all steps at once: for small work, or without a reactor."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


async def in_steps(steps: Steps[T]) -> T:
    """Run the first step at once, which for most requests is all; the cooperator runs the others."""
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


def count_up_to(text: bytes, byte: bytes, most: int) -> int:
    """How often a byte occurs in a text, or `most` if that is less."""
    count = 0
    for start in range(0, len(text), _SPAN):
        count += text.count(byte, start, start + _SPAN)
        if count >= most:
            return most
    return count


class Permits:
    """
    Limits how much all requests together may work on; a semaphore with a count.

    :param count: how many permits there are.
    """

    def __init__(self, count: int) -> None:
        self._all = self._free = count
        self._queue: deque[tuple[int, Deferred[None]]] = deque()

    @asynccontextmanager
    async def held(self, count: int) -> AsyncIterator[None]:
        """Hold so many permits, or all if there are fewer; first come, first served."""
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
