"""Timers that do not care what somebody does to the wall clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from kvtwist.model import OperatorError


def run_timers_on_monotonic_time(reactor: Any, monotonic: Callable[[], float] = time.monotonic) -> None:
    """
    Give a reactor a clock that never jumps.

    Twisted's reactors count in wall time: after the clock was set back by an hour no timer of theirs fires for an hour.
    All of them ask `seconds` of themselves, which is a public attribute. The new clock goes on from what the old one
    shows now, so that timers that are set already fire when they should; from then on it is not wall time.

    :raises OperatorError: the reactor does not go by that attribute.
    """
    shown, now = reactor.seconds(), monotonic()
    reactor.seconds = lambda: 0.0
    probe = reactor.callLater(1, _nothing)
    is_heeded = probe.getTime() == 1.0
    probe.cancel()
    offset = shown - now
    reactor.seconds = lambda: monotonic() + offset
    if not is_heeded:
        raise OperatorError(f"{type(reactor).__name__} has a clock of its own, that may jump: use another reactor")


def _nothing() -> None:
    """Never called."""
