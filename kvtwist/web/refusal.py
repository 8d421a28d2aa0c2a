"""What is answered by a bare status: what is no request, what comes too late, and one connection too many."""

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
    For those who log and count: what there is to tell of it.

    :param start: the beginning of what was sent, as far as that was to be a request.
    :param request: the request, where its head could be read.
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
    One connection too many: it hears 503, and when to come back, before it has asked for anything.

    :param answer: what it is sent.
    :param refused: called with its client's address.
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
        else:  # closing it at once would take the answer back from a client that has asked meanwhile
            transport.loseWriteConnection()
        self._abort = self._clock.callLater(LINGER_SECONDS, transport.abortConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Called by the transport."""
        if self._abort is not None and self._abort.active():
            self._abort.cancel()


def client_of(transport: Any) -> str:
    """The address of the client at the other end, `-` where it has none."""
    return getattr(transport.getPeer(), "host", None) or "-"
