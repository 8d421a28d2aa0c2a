"""
How long the reactor is held: a timer that is due every millisecond, and how late it fires.

Any other request would have waited as long, be it for work in the reactor thread, for a thread that holds the
interpreter's lock, or for the processor. epoll rounds timers up by as much as a millisecond.
"""

from __future__ import annotations

import time
from array import array
from statistics import quantiles
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall

PERIOD: Final = 0.001


class Heartbeat:
    """Starts at once."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._late = array("d")
        self._due = time.perf_counter() + PERIOD
        self._next: IDelayedCall = reactor.callLater(PERIOD, self._beat)

    def _beat(self) -> None:
        now = time.perf_counter()
        self._late.append(max(now - self._due, 0.0))
        self._due = now + PERIOD
        self._next = self._reactor.callLater(PERIOD, self._beat)

    def stop(self) -> dict[str, float]:
        """Seconds of the longest hold (`held`) and of one in a hundred (`held_p99`)."""
        self._next.cancel()
        self._late.append(max(time.perf_counter() - self._due, 0.0))
        return {"held": max(self._late), "held_p99": percentile(self._late, 99)}


def percentile(values: Any, percent: int) -> float:
    """The value that so many per cent do not exceed."""
    return quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else float(values[0])
