"""Time that a test moves, for servers and clients whose requests go on as always."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock

BEGINNING = 1_700_000_000.0


class ManualTime(Clock):
    """
    A clock that stands still until `advance` is called.

    What is to happen at once is done by the reactor, in its next iteration: a test awaits answers as usual.
    """

    def __init__(self, reactor: Any = None) -> None:
        """:param reactor: Twisted's, if it is not given."""
        super().__init__()
        if reactor is None:
            from twisted.internet import reactor
        self.rightNow = BEGINNING
        self._reactor = reactor

    def callLater(self, delay: float, callable: Callable[..., object], *args: object, **kw: object) -> IDelayedCall:
        """See `IReactorTime`."""
        call = self._reactor.callLater if delay <= 0 else super().callLater
        later: IDelayedCall = call(delay, callable, *args, **kw)
        return later
