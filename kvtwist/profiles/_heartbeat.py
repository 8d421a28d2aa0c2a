"""Ends waits that take long, of thousands of clients, with one timer for all of them."""

from __future__ import annotations

from typing import Any, TypeVar

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall

T = TypeVar("T")

SECONDS = 15.0
_LOOK_SECONDS = 0.5
_AT_ONCE = 100
"""How many waits are ended before the reactor goes on."""


class Heartbeat:
    """Every wait may take `SECONDS`; about half a second more may pass."""

    def __init__(self) -> None:
        self._waiting: dict[Deferred[Any], float] = {}
        """Until when each may take, the earliest first."""
        self._late: set[Deferred[Any]] = set()
        self._next: IDelayedCall | None = None

    async def wait(self, waiting: Deferred[T], late: T) -> T:
        """Return the result of a Deferred; if that takes too long, cancel it and return `late`."""
        if waiting.called:
            return await waiting
        self._waiting[waiting] = reactor.seconds() + SECONDS
        if self._next is None:
            self._next = reactor.callLater(min(_LOOK_SECONDS, SECONDS), self._look)
        try:
            return await waiting
        except CancelledError:
            if waiting not in self._late:
                raise
            return late
        finally:
            self._late.discard(waiting)
            self._waiting.pop(waiting, None)
            if not self._waiting and self._next is not None and self._next.active():
                self._next.cancel()
                self._next = None

    def _look(self) -> None:
        self._next = None
        now = reactor.seconds()
        late: list[Deferred[Any]] = []
        for waiting, until in self._waiting.items():
            if until > now or len(late) == _AT_ONCE:
                break
            late.append(waiting)
        for waiting in late:
            if waiting in self._waiting:
                self._late.add(waiting)
                waiting.cancel()
        if self._waiting and self._next is None:
            self._next = reactor.callLater(0 if len(late) == _AT_ONCE else min(_LOOK_SECONDS, SECONDS), self._look)
