"""
The store's time: milliseconds that never run backwards, not even when somebody sets the clock back.

It follows the wall clock forwards, and the monotonic clock for as long as the wall clock is behind, so that what is to
expire in a minute does so in a minute. A restart goes on from the last time that was written down.
"""

from __future__ import annotations

from collections.abc import Callable


class Timeline:
    """
    :param wall: seconds since the epoch; may jump (`IReactorTime.seconds`).
    :param monotonic: seconds from anywhere; never jumps (`time.monotonic`).
    """

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._last = wall()
        self._last_monotonic = monotonic()

    def now_ms(self) -> int:
        """The present, in milliseconds since the epoch: never less than any answer before."""
        wall, monotonic = self._wall(), self._monotonic()
        now = self._last + (monotonic - self._last_monotonic)
        if wall > now:
            now = wall
        self._last = now
        self._last_monotonic = monotonic
        return int(now * 1000)

    def not_before(self, ms: int) -> None:
        """Go on from there if the clock is still behind it: the time of what a former process wrote."""
        # Half a millisecond more, so that the float, cut back to milliseconds, is not one less than was asked.
        self._last = max(self._last, (ms + 0.5) / 1000)
