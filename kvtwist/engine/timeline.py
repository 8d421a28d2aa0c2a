"""
The store's time: milliseconds that never run backwards, whatever somebody does to the wall clock.

It goes on at the pace of a clock that cannot be set, and follows the wall clock forward, by a day at a time at most:
what expires is gone for good, so a clock that is suddenly years ahead is not believed. A wall clock that is behind is
not followed either, so that what is to expire in a minute does so in a minute.

A start believes the wall clock, which may have been right for as long as nobody looked, unless the store has written
down a later time: then it goes on from that. What an operator does about a time that is years ahead is in
docs/operations.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Final

from twisted.logger import Logger

log = Logger(namespace="kvtwist.store")

CLOCK_STEP: Final = 86_400.0
"""By how many seconds the wall clock may jump forward and be followed."""
_TOLERANCE: Final = 60.0
"""By how many seconds it may be behind without a word."""

since_boot: Final[Callable[[], float]] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)
"""Seconds from anywhere; never jumps, and counts what the machine has slept."""


class _Clock(Enum):
    """What the wall clock looks like."""

    UNSEEN = "unseen"
    RIGHT = "right"
    BEHIND = "behind"
    AHEAD = "ahead"


class Timeline:
    """
    :param wall: seconds since the epoch; may jump.
    :param monotonic: seconds from anywhere; never jumps.
    :param step: by how many seconds `wall` may jump forward and be followed.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = since_boot,
        step: float = CLOCK_STEP,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._step = step
        self._last = wall()
        self._last_monotonic = monotonic()
        self._clock = _Clock.UNSEEN
        self._follows = False
        self._believes = False

    def now_ms(self) -> int:
        """The present, in milliseconds since the epoch: never less than any answer before."""
        wall, monotonic = self._wall(), self._monotonic()
        now = self._last + (monotonic - self._last_monotonic)
        ahead = wall - now
        if not (self._follows and -_TOLERANCE <= ahead <= self._step):
            self._look(ahead)
        if ahead > 0 and self._follows:
            now = wall
        self._last = now
        self._last_monotonic = monotonic
        return int(now * 1000)

    def not_before(self, ms: int) -> None:
        """Go on from there if the clock is still before it: the time of what a former process wrote."""
        # Half a millisecond more, so that the float, cut back to milliseconds, is not one less than was asked.
        self._last = max(self._last, (ms + 0.5) / 1000)

    def _look(self, ahead: float) -> None:
        """Decide what the wall clock is worth, and tell when that has changed."""
        before = self._clock
        self._follows = False
        if ahead < -_TOLERANCE:
            self._clock = _Clock.BEHIND
        elif ahead > self._step and self._believes:
            self._clock = _Clock.AHEAD
        else:
            # Of a clock that was behind at the start the first jump is believed: it has not been set until then.
            self._clock = _Clock.RIGHT
            self._follows = self._believes = True
        if self._clock is before:
            return
        if self._clock is _Clock.BEHIND:
            log.warn(
                "the clock is {seconds} s behind the store's time, which goes on without it; "
                "if the clock is right: stop the server, and run kvtwist reset-time",
                seconds=round(-ahead),
            )
        elif self._clock is _Clock.AHEAD:
            log.error(
                "the clock was set forward by {seconds} s, and the store's time goes on without it; "
                "if the clock is right: restart the server",
                seconds=round(ahead),
            )
        elif before is not _Clock.UNSEEN:
            log.info("the store's time follows the clock again")


class WallTime(Timeline):
    """
    Shows the wall clock, whatever the store has written down.

    :ivar written_ms: the latest time that it has.
    """

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = since_boot) -> None:
        super().__init__(wall, monotonic)
        self.written_ms = 0

    def not_before(self, ms: int) -> None:
        """Remember it, and no more."""
        self.written_ms = max(self.written_ms, ms)
