"""
The store's time: milliseconds that never run backwards, even if the wall clock is set.

It advances with a monotonic clock, and follows the wall clock forward, by at most a day at a time: expired records are
lost for good, so a clock that suddenly jumps by years is not believed. A wall clock that is behind is not followed
either, so that a record that expires in a minute does so in a minute.

A start believes the wall clock, unless the store has recorded a later time: then it goes on from that.
docs/operations.md tells operators what to do if the recorded time is years ahead.
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
"""The largest jump of the wall clock, in seconds, that is followed."""
_TOLERANCE: Final = 60.0
"""How many seconds the wall clock may be behind without a log line."""

since_boot: Final[Callable[[], float]] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)
"""Seconds from any origin. Never jumps; includes the time in which the machine was suspended."""


class _Clock(Enum):
    """The state of the wall clock."""

    UNSEEN = "unseen"
    RIGHT = "right"
    BEHIND = "behind"
    AHEAD = "ahead"


class Timeline:
    """
    :param wall: seconds since the epoch; may jump.
    :param monotonic: seconds from any origin; never jumps.
    :param step: the largest jump of `wall`, in seconds, that is followed.
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
        """The present in milliseconds since the epoch: never less than any result before."""
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
        """Advance to at least `ms`, the time of records that an earlier process wrote."""
        # Half a millisecond more, because the float is rounded down to milliseconds.
        self._last = max(self._last, (ms + 0.5) / 1000)

    def _look(self, ahead: float) -> None:
        """Decide whether to follow the wall clock, and log when that changes."""
        before = self._clock
        self._follows = False
        if ahead < -_TOLERANCE:
            self._clock = _Clock.BEHIND
        elif ahead > self._step and self._believes:
            self._clock = _Clock.AHEAD
        else:
            # After a start with a clock that is behind, the first jump is believed: the clock was set.
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
    The wall clock, whatever time the store has recorded.

    :ivar written_ms: the latest time that the store has recorded.
    """

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = since_boot) -> None:
        super().__init__(wall, monotonic)
        self.written_ms = 0

    def not_before(self, ms: int) -> None:
        """Record the time in `written_ms`, and do not advance."""
        self.written_ms = max(self.written_ms, ms)
