"""
How long the reactor thread is held: a timer that wants to fire every millisecond, and how late it does.

Lateness is what any other request would have waited. It holds all that keeps the thread: its own work, other threads
that hold the interpreter's lock, and a machine that is busy elsewhere. epoll's own timers add up to a millisecond.
"""

from __future__ import annotations

import time
from array import array
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall

BEAT: Final = 0.001
LONG: Final = 0.020
"""What counts as a long hold."""


class Heartbeat:
    """Begins at once; `stop` says what it saw."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._late = array("d")
        self._last = time.perf_counter()
        self._next: IDelayedCall = reactor.callLater(BEAT, self._beat)

    def _beat(self) -> None:
        now = time.perf_counter()
        self._late.append(max(now - self._last - BEAT, 0.0))
        self._last = now
        self._next = self._reactor.callLater(BEAT, self._beat)

    def stop(self) -> dict[str, float]:
        """Seconds at some percentiles, and which share of the time was spent in long holds."""
        self._next.cancel()
        self._late.append(max(time.perf_counter() - self._last - BEAT, 0.0))
        late = sorted(self._late)
        total = sum(late) + BEAT * len(late)
        return {
            "hold_p50": percentile(late, 0.50),
            "hold_p99": percentile(late, 0.99),
            "hold_p999": percentile(late, 0.999),
            "hold_max": late[-1],
            "hold_long_share": sum(one for one in late if one > LONG) / total,
            "hold_beats": float(len(late)),
        }


def percentile(ascending: list[float], share: float) -> float:
    """The smallest of the values that so many are not above."""
    return ascending[min(int(len(ascending) * share), len(ascending) - 1)]
