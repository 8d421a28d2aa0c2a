"""
The server's own HTTP front: llhttp on the Twisted reactor, Klein's endpoints called directly.

One request after the other is read, answered, and only then the next one looked at, whatever has arrived meanwhile: so
answers keep their order, a client that pipelines waits for itself alone, and what it has sent ahead is bounded by not
reading more. A head is looked for as a whole and then read by `heads`; a body is counted off, or read by `chunks`. A
request that has come in one piece, and is like others before it, is read in one go. Whatever is not HTTP/1.1 to the
letter is answered 400, and the connection closed.

What makes it fast, and what each of it is worth, is in docs/benchmarks.md: turns of a poller of its own, routes in
tables, handlers that need no Deferred unless they wait, headers that have been read before, heads of responses that
have been written before, and bytes that go to the socket at once when no others wait.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocolNegotiationFactory, IReactorTime
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from zope.interface import implementer

from kvtwist.web import transports
from kvtwist.web.connection import FrontConnection
from kvtwist.web.dispatch import Dispatcher
from kvtwist.web.heads import HeadReader
from kvtwist.web.limits import WebLimits
from kvtwist.web.poller import Poller, can_poll
from kvtwist.web.refusal import Refusal, Refused
from kvtwist.web.replies import Replies
from kvtwist.web.request_memory import RequestMemory

log = Logger(namespace="kvtwist.web")

_TICK_SECONDS = 1.0


@implementer(IProtocolNegotiationFactory)
class FrontSite(Factory):
    """
    :ivar dispatcher: answers every request.
    :ivar memory: what all requests take together.
    :ivar now: the clock's time as it was a moment ago.
    :ivar heads: reads those of requests.
    :ivar replies: writes those of responses.
    :ivar poller: watches the connections; None: the reactor does.
    :param wall: the time, in seconds since the epoch.
    """

    noisy = False

    def __init__(
        self,
        dispatcher: Dispatcher,
        clock: IReactorTime,
        memory: RequestMemory,
        limits: WebLimits | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        transports.check()
        self.dispatcher = dispatcher
        self.clock = clock
        self.memory = memory
        self.limits = limits or WebLimits()
        self.wall = wall
        self.replies = Replies(wall)
        self.heads = HeadReader(dispatcher.router)
        self.now = clock.seconds()
        self._connections: set[FrontConnection] = set()
        self._drained: Deferred[None] | None = None
        self._tick: IDelayedCall | None = None
        self._outgoing: list[FrontConnection] = []
        self._unsure: list[FrontConnection] = []
        self.poller = Poller(clock, self._send) if can_poll(clock) else None

    def startFactory(self) -> None:
        """Called when it listens for the first time."""
        self._look_round()

    def stopFactory(self) -> None:
        """Called when it listens no more."""
        if not self._connections:
            self._rest()

    def acceptableProtocols(self) -> list[bytes]:
        """Called by TLS, which does not come about with a client that wants to know this and is told nothing."""
        return [b"http/1.1"]

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """Called with each new connection."""
        if len(self._connections) >= self.limits.connections:
            return Refusal(self.replies.refusal(503, self.now), self.clock, self._refused)
        return FrontConnection(self)

    def _refused(self, client: str) -> None:
        self.dispatcher.refused(Refused(client, 503, self.wall()), None)

    def opened(self, connection: FrontConnection) -> None:
        """Called by a connection once it is there."""
        self._connections.add(connection)
        if self._drained is not None:
            connection.finish_up()

    def send_soon(self, connection: FrontConnection) -> None:
        """Have a connection send what it has gathered: at the end of the turn, or in a moment."""
        assert self.poller is not None
        outgoing = self._outgoing
        if not outgoing and not self.poller.polling:
            self.clock.callLater(0, self._send)
        outgoing.append(connection)

    def _send(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        for connection in outgoing:
            try:
                connection.flush()
            except Exception:  # a piece of a response that is no bytes
                log.failure("an answer could not be sent")
                connection.abort()

    def look_soon(self, connection: FrontConnection) -> None:
        """Have a connection look in a moment whether a TLS layer has left anything unsent."""
        if not self._unsure:
            self.clock.callLater(0, self._look)
        self._unsure.append(connection)

    def _look(self) -> None:
        unsure, self._unsure = self._unsure, []
        for connection in unsure:
            connection.look()

    def closed(self, connection: FrontConnection) -> None:
        """Called by a connection once it is gone."""
        self._connections.discard(connection)
        if self._drained is not None and not self._connections:
            self._drained_now()

    def _look_round(self) -> None:
        """Hang up on those whose time is over. (A timer for each connection would cost more than its requests.)"""
        self.now = self.clock.seconds()
        late = [connection for connection in self._connections if connection.deadline <= self.now]
        for connection in late:
            connection.too_late()
        if self._drained is None or not self._drained.called:
            self._tick = self.clock.callLater(_TICK_SECONDS, self._look_round)

    def _rest(self) -> None:
        if self._tick is not None and self._tick.active():
            self._tick.cancel()
        if self.poller is not None:
            self.poller.close()

    def drain(self) -> Deferred[None]:
        """Close every connection once what is in flight on it has been answered; fires when all are."""
        self._drained = Deferred()
        if not self._connections:
            self._drained_now()
        for connection in list(self._connections):
            connection.finish_up()
        return self._drained

    def _drained_now(self) -> None:
        self._rest()
        if self._drained is not None and not self._drained.called:
            self._drained.callback(None)

    def abort_all(self) -> None:
        """Close every connection now."""
        for connection in list(self._connections):
            connection.abort()
