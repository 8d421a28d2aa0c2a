"""One connection too many: it hears 503, and when to come back, before it has asked for anything."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure

LINGER_SECONDS = 2.0


class Refusal(Protocol):
    """:param answer: what it is sent."""

    transport: Any

    def __init__(self, answer: bytes, clock: IReactorTime) -> None:
        self._answer = answer
        self._clock = clock
        self._hang_up: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Called by the transport."""
        transport = self.transport
        transport.write(self._answer)
        if isinstance(transport, TLSMemoryBIOProtocol):
            transport.loseConnection()
        else:  # closing it at once would take the answer back from who has asked meanwhile
            transport.loseWriteConnection()
        self._hang_up = self._clock.callLater(LINGER_SECONDS, transport.abortConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Called by the transport."""
        if self._hang_up is not None and self._hang_up.active():
            self._hang_up.cancel()
