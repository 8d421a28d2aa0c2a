"""
The HTTP front: llhttp on the Twisted reactor, and handlers called without Klein's wrappers.

A connection answers one request after the other, and reads the next one only after that. So responses keep their order,
and reading stops when a client has sent enough ahead. A request that comes in one piece with known headers is parsed at
once, others by a `Reader`. Bytes that are not HTTP/1.1 to the letter are answered 400, and the connection closes.

It is fast because it polls connections itself, keeps routes in tables, needs no Deferred for handlers that do not wait,
caches parsed headers and written heads, and sends straight to the socket.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocolNegotiationFactory, IReactorTime
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from zope.interface import implementer

from kvtwist import klein_apps
from kvtwist.web import transports
from kvtwist.web.connection import FrontConnection
from kvtwist.web.dispatch import Dispatcher
from kvtwist.web.heads import HeadReader
from kvtwist.web.limits import WebLimits
from kvtwist.web.origins import Origins
from kvtwist.web.outbox import Outbox
from kvtwist.web.poller import Poller, can_poll
from kvtwist.web.refusal import Refusal, Refused
from kvtwist.web.replies import Replies
from kvtwist.web.request_memory import RequestMemory

log = Logger(namespace="kvtwist.web")

_CHECK_SECONDS = 1.0


@implementer(IProtocolNegotiationFactory)
class FrontSite(Factory):
    """
    Twisted's factory of the connections; what they share.

    :ivar dispatcher: answers the requests.
    :ivar draining: whether every connection closes after its current request.
    :ivar heads: reads the heads of requests.
    :ivar memory: the memory of requests and responses.
    :ivar now: the clock's time at the last check of deadlines, in seconds.
    :ivar origins: tells which web pages may change something.
    :ivar poller: watches the connections; None: the reactor does.
    :ivar replies: writes the heads of responses.
    :param wall: returns the time, in seconds since the epoch.
    """

    noisy = False

    def __init__(
        self,
        dispatcher: Dispatcher,
        clock: IReactorTime,
        memory: RequestMemory,
        limits: WebLimits | None = None,
        wall: Callable[[], float] = time.time,
        origins: Origins | None = None,
    ) -> None:
        transports.check()
        klein_apps.check()
        self.dispatcher = dispatcher
        self.clock = clock
        self.memory = memory
        self.limits = limits or WebLimits()
        self.wall = wall
        self.replies = Replies(wall)
        self.origins = origins or Origins()
        self.heads = HeadReader(dispatcher.router, self.origins)
        self.now = clock.seconds()
        self._connections: set[FrontConnection] = set()
        self.draining = False
        self._drained: Deferred[None] = Deferred()
        self._next_check: IDelayedCall | None = None
        self._to_flush: list[Outbox] = []
        self._to_look: list[Outbox] = []
        self.poller = Poller(clock, self._flush) if can_poll(clock) else None

    def startFactory(self) -> None:
        """Called when the first port listens."""
        self._check_deadlines()

    def stopFactory(self) -> None:
        """Called when no port listens any more."""
        if not self._connections:
            self._stop_watching()

    def acceptableProtocols(self) -> list[bytes]:
        """Called by TLS. Without this, TLS negotiation fails when a client offers ALPN."""
        return [b"http/1.1"]

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """Called for each new connection."""
        if len(self._connections) >= self.limits.connections:
            return Refusal(self.replies.refusal(503, self.now), self.clock, self._refused)
        return FrontConnection(self)

    def _refused(self, client: str) -> None:
        self.dispatcher.refused(Refused(client, 503, self.wall()), None)

    def opened(self, connection: FrontConnection) -> None:
        """Called by a connection that has been made."""
        self._connections.add(connection)
        if self.draining:
            connection.finish_up()

    def closed(self, connection: FrontConnection) -> None:
        """Called by a connection that is lost."""
        self._connections.discard(connection)
        self._end_if_drained()

    def send_soon(self, outbox: Outbox) -> None:
        """Flush an outbox at the end of the poll; outside of polls, in the reactor's next iteration."""
        assert self.poller is not None
        to_flush = self._to_flush
        if not to_flush and not self.poller.polling:
            self.clock.callLater(0, self._flush)
        to_flush.append(outbox)

    def _flush(self) -> None:
        to_flush, self._to_flush = self._to_flush, []
        for outbox in to_flush:
            try:
                outbox.flush()
            except Exception:  # a piece of a response that is not bytes
                log.failure("a response could not be sent")
                outbox.abort()

    def look_soon(self, outbox: Outbox) -> None:
        """Have an outbox look, in the reactor's next iteration, whether its TLS layer has left anything unsent."""
        if not self._to_look:
            self.clock.callLater(0, self._look)
        self._to_look.append(outbox)

    def _look(self) -> None:
        to_look, self._to_look = self._to_look, []
        for outbox in to_look:
            outbox.look()

    def _check_deadlines(self) -> None:
        self.now = self.clock.seconds()
        late = [connection for connection in self._connections if connection.deadline <= self.now]
        for connection in late:
            connection.pass_deadline()
        if not self._drained.called:
            self._next_check = self.clock.callLater(_CHECK_SECONDS, self._check_deadlines)

    def drain(self) -> Deferred[None]:
        """Close every connection after its current request; fires when all are lost."""
        self.draining = True
        for connection in list(self._connections):
            connection.finish_up()
        self._end_if_drained()
        return self._drained

    def _end_if_drained(self) -> None:
        if self.draining and not self._connections:
            self._stop_watching()
            if not self._drained.called:
                self._drained.callback(None)

    def _stop_watching(self) -> None:
        if self._next_check is not None and self._next_check.active():
            self._next_check.cancel()
        if self.poller is not None:
            self.poller.close()

    def abort_all(self) -> None:
        """Close every connection now."""
        for connection in list(self._connections):
            connection.abort()
