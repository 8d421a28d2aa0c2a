"""Answers of a bare status: to a malformed request, a request that takes too long, and one connection too many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from kvtwist.model import Exchange
from kvtwist.web.deadlines import LINGER_SECONDS
from kvtwist.web.request import FrontRequest
from kvtwist.web.routing import Route


class Refused:
    """
    A refused request as observers see it.

    :param ended: the time, in seconds since the epoch.
    :param start: its first bytes.
    :param request: the request itself, if its head could be read.
    """

    def __init__(
        self, client: str, status: int, ended: float, start: bytes = b"", request: FrontRequest | None = None
    ) -> None:
        self.status = status
        self._client = client
        self._ended = ended
        if request is not None:
            self.method, self._target, self._version = request.method, request.uri, b"HTTP/1." + request.version
        else:
            line = start.partition(b"\r\n")[0].split(b" ", 2)
            self.method, self._target, self._version = [*line, b"", b""][:3]

    def exchange(self, route: Route, seconds: float) -> Exchange:
        """See `kvtwist.web.dispatch.Ended`."""
        return Exchange(
            route.profile.name,
            route.rule,
            self._client,
            self.method,
            self._target,
            self._version,
            self.status,
            seconds,
            0,
            self._ended,
        )


class Refusal(Protocol):
    """
    One connection too many. It is sent 503 with `Retry-After` before it has requested anything.

    :param answer: the response.
    :param refused: called with the client's address.
    """

    transport: Any

    def __init__(self, answer: bytes, clock: IReactorTime, refused: Callable[[str], object]) -> None:
        self._answer = answer
        self._clock = clock
        self._refused = refused
        self._abort: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Called by the transport."""
        transport = self.transport
        self._refused(client_of(transport))
        transport.write(self._answer)
        if isinstance(transport, TLSMemoryBIOProtocol):
            transport.loseConnection()
        else:  # closing at once would discard the answer if the client has sent a request meanwhile
            transport.loseWriteConnection()
        self._abort = self._clock.callLater(LINGER_SECONDS, transport.abortConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Called by the transport."""
        if self._abort is not None and self._abort.active():
            self._abort.cancel()


def client_of(transport: Any) -> str:
    """The address of a transport's client; `-` if it has none."""
    return getattr(transport.getPeer(), "host", None) or "-"
