"""Timers that do not depend on the wall clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from kvtwist.model import OperatorError


def run_timers_on_monotonic_time(reactor: Any, monotonic: Callable[[], float] = time.monotonic) -> None:
    """
    Give a reactor a monotonic clock.

    Twisted's reactors use wall time: when the clock is set back by an hour, no timer fires for an hour. They read the
    time from their public attribute `seconds`, which is replaced here. The new clock starts at the time of the old one,
    so timers that are set already fire when they should.

    :raises OperatorError: the reactor does not use that attribute.
    """
    shown, now = reactor.seconds(), monotonic()
    reactor.seconds = lambda: 0.0
    probe = reactor.callLater(1, _nothing)
    is_heeded = probe.getTime() == 1.0
    probe.cancel()
    offset = shown - now
    reactor.seconds = lambda: monotonic() + offset
    if not is_heeded:
        raise OperatorError(f"{type(reactor).__name__} cannot use a monotonic clock; choose another reactor")


def _nothing() -> None:
    """Never called."""
