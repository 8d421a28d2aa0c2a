"""
twisted.web, made strict where a store on the open network needs it:

- what twisted.web lets pass and RFC 9112 does not (no `Host`, several codings, a relative target) is refused;
- a body is kept in memory, never in a temporary file, and never grows beyond what its dialect takes;
- a body that is too large is refused before it is read, and without `100 Continue`; so is one for which there is no
  room beside all others;
- who is refused gets to read why: the connection is closed for writing first, and for good only once the client has
  finished or has had some seconds (RFC 9112, 9.6), since closing it at once would take the answer back.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from klein import Response
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.web.http import NO_BODY_CODES, HTTPChannel, _MalformedChunkedDataError
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, ServiceUnavailable

from kvtwist.model import Exchange
from kvtwist.web.chunks import BadChunk, ChunkedBody
from kvtwist.web.dispatch import Dispatcher, Turn
from kvtwist.web.heads import is_host, is_target
from kvtwist.web.inflight import REQUEST_COST, InFlight
from kvtwist.web.limits import WebLimits
from kvtwist.web.refusal import Refusal
from kvtwist.web.replies import SERVER, Replies
from kvtwist.web.routing import Route

LINGER_SECONDS = 2.0
_REFUSED = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class _RefusedBody:
    """In place of a body that is not read: whoever reads it hears why."""

    def __init__(self, reason: HTTPException) -> None:
        self._reason = reason

    def read(self, size: int = -1) -> bytes:
        raise self._reason

    def tell(self) -> int:
        return 0

    def seek(self, offset: int, whence: int = 0) -> int:
        return 0

    def close(self) -> None:
        pass


class StoreRequest(Request):
    """
    :ivar max_body: the largest body, in bytes, that will be read.
    :ivar in_flight: what all requests take together.
    :ivar overload: set when there was no room for the request.
    :ivar refused: whether the body is not read.
    """

    defaultContentType = None
    max_body = 0
    in_flight: InFlight
    turn: Turn | None = None
    began = 0.0
    overload: HTTPException | None = None
    refused = False
    _held = 0

    def gotLength(self, length: int | None) -> None:
        """Called once the head is read. None: the body comes in chunks, of a length not known yet."""
        self.content: Any = BytesIO()
        if length is not None and length > self.max_body:
            self._refuse(RequestEntityTooLarge())
        else:
            self._hold(REQUEST_COST + (length or 0))

    def handleContentChunk(self, data: bytes) -> None:
        """Called with each piece of the body."""
        if self.refused:
            return
        size = self.content.tell() + len(data)
        if size > self.max_body:
            self._refuse(RequestEntityTooLarge())
        elif self._hold(REQUEST_COST + size):
            self.content.write(data)

    def connectionLost(self, reason: Failure) -> None:
        """Called when the client is gone before the request was answered."""
        self._release()
        super().connectionLost(reason)
        if self.turn is not None:
            self.turn.cancel()

    def finish(self) -> None:
        """See `Request.finish`."""
        self._release()
        super().finish()

    @property
    def gone(self) -> bool:
        """Whether the client has left."""
        return bool(self._disconnected)

    @property
    def started(self) -> bool:
        """Whether the head of the response has been sent."""
        return bool(self.startedWriting)

    @property
    def status(self) -> int:
        """Of the response."""
        return self.code

    def reply(self, response: Response) -> None:
        """See `Request.reply`."""
        self.setResponseCode(response.code)
        for name, value in response.headers.items():
            self.setHeader(name, value)
        if response.code not in NO_BODY_CODES:
            self.setHeader(b"Content-Length", b"%d" % len(response.body))
        self.write(response.body)
        self.finish()

    def abort(self) -> None:
        """See `Request.abort`."""
        transport: Any = self.transport
        transport.abortConnection()

    def exchange(self, route: Route, seconds: float) -> Exchange:
        """See `Request.exchange`."""
        status = 0 if self.gone else self.code
        client = getattr(self.getClientAddress(), "host", None) or "-"
        return Exchange(
            route.profile.name,
            route.rule,
            client,
            self.method,
            self.uri,
            self.clientproto,
            status,
            seconds,
            self.sentLength,
            self.began + seconds,
        )

    def _handleStar(self) -> None:
        """Called for the target `*`, which is a path like any other here: unknown."""
        assert self.site is not None
        self.render(self.site.resource)

    def _hold(self, size: int) -> bool:
        """Hold so many bytes all in all, if there is room."""
        if size <= self._held:
            return True
        if self.in_flight.take(size - self._held):
            self._held = size
            return True
        self.overload = ServiceUnavailable("the server has too much to do")
        self._refuse(self.overload)
        return False

    def _release(self) -> None:
        held, self._held = self._held, 0
        if held:
            self.in_flight.give(held)

    def _refuse(self, reason: HTTPException) -> None:
        """Read no body."""
        self.refused = True
        self.content = _RefusedBody(reason)
        self.requestHeaders.removeHeader(b"Expect")


class _Root(Resource):
    """Hands every request to the dispatcher."""

    isLeaf = True

    def __init__(self, dispatcher: Dispatcher) -> None:
        super().__init__()
        self._dispatcher = dispatcher

    def render(self, request: Any) -> int:
        request.setHeader(b"Server", SERVER)
        self._dispatcher.begin(request, request.route, request.key)
        return NOT_DONE_YET


class _Chunks:
    """In place of twisted.web's decoder of chunked bodies, which lets extensions pass."""

    def __init__(self, channel: StoreChannel) -> None:
        self._channel = channel
        self._body = ChunkedBody()
        self._buffer = b""

    def dataReceived(self, data: bytes) -> None:
        """Take bytes of the body, and give back what is behind it."""
        data = self._buffer + data
        try:
            pieces, at = self._body.take(data, 0)
        except BadChunk as error:
            raise _MalformedChunkedDataError(str(error)) from error
        for piece in pieces:
            self._channel.requests[-1].handleContentChunk(piece)
        self._buffer = data[at:]
        if self._body.finished:
            self._channel._finishRequestBody(self._buffer)

    def noMoreData(self) -> None:
        """Called when the client is gone."""


class StoreChannel(HTTPChannel):
    """One connection."""

    site: StoreSite
    transport: Any
    _networkProducer: Any
    _unread = False
    """Whether the client may still be sending what nobody will read."""
    _lingering = False
    _hang_up: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Called by the transport."""
        super().connectionMade()
        self.site.opened(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Called by the transport."""
        self.site.closed(self)
        if self._hang_up is not None and self._hang_up.active():
            self._hang_up.cancel()
        super().connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        """Called by the transport."""
        if not self._lingering:
            super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        """Called with each line of a head."""
        if not self._lingering:
            super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Called with what is too long for a line."""
        self._respondToBadRequestAndDisconnect()

    def allHeadersReceived(self) -> None:
        """Called once the head of a request is read."""
        request = self.requests[-1]
        if not _is_well_formed(self._path, self._version, request.requestHeaders):
            self._respondToBadRequestAndDisconnect()
            return
        request.in_flight = self.site.in_flight
        request.route, request.key = self.site.dispatcher.router.find(self._command, self._path.decode("latin-1"))
        request.max_body = request.route.profile.max_body
        if self._transferDecoder is not None and self.length is None:
            self._transferDecoder = _Chunks(self)
        super().allHeadersReceived()
        if request.refused:
            self._answer_unread()
            self.length = 0  # which lets it be answered now, as if there were no body

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        """Whether the connection stays open after a request. (twisted.web's own does not split at commas.)"""
        fields = request.requestHeaders.getRawHeaders(b"Connection", [])
        if any(token.strip().lower() == b"close" for field in fields for token in field.split(b",")):
            request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
            return False
        return version == b"HTTP/1.1"

    def allContentReceived(self) -> None:
        """Called once a request is read."""
        if not self._lingering:
            super().allContentReceived()

    def rawDataReceived(self, data: bytes) -> None:
        """Called with what is not a head."""
        if self._lingering:
            return
        super().rawDataReceived(data)
        if self.requests and self.requests[-1].refused and not self._handlingRequest and not self._lingering:
            self._answer_unread()
            self.allContentReceived()

    def finish_up(self) -> None:
        """Close the connection, once the request that is being answered, or read, has been answered."""
        self.persistent = False
        if not self.requests:
            self.loseConnection()

    def loseConnection(self) -> None:
        """Close the connection. If the client may still be sending, let it finish first."""
        if not self._unread or isinstance(self.transport, TLSMemoryBIOProtocol):  # which waits for its client by itself
            super().loseConnection()
        elif not self._lingering:
            self._lingering = True
            self._networkProducer.unregisterProducer()
            self.transport.loseWriteConnection()
            self._networkProducer.resumeProducing()
            self._hang_up = self.callLater(LINGER_SECONDS, self.transport.abortConnection)

    def _answer_unread(self) -> None:
        self._unread = True
        self.persistent = False
        self.requests[-1].responseHeaders.setRawHeaders(b"Connection", [b"close"])

    def _respondToBadRequestAndDisconnect(self) -> None:
        if not self._lingering:
            self._unread = True
            self.transport.write(_REFUSED)
            self.loseConnection()


def _is_well_formed(target: bytes, version: bytes, headers: Headers) -> bool:
    """Whether a head is what RFC 9112 asks for in sections 3.2 (target, Host) and 6.1 (transfer coding)."""
    codings = headers.getRawHeaders(b"Transfer-Encoding", [])
    if codings and [coding.lower() for coding in codings] != [b"chunked"]:
        return False
    hosts = headers.getRawHeaders(b"Host", [])
    if len(hosts) > 1 or (version == b"HTTP/1.1" and not hosts) or not all(map(is_host, hosts)):
        return False
    return is_target(target)


class StoreSite(Site):
    """
    :ivar dispatcher: answers every request.
    :ivar in_flight: what all requests take together.
    :param limits: of which it keeps those on connections and on the time that one may be idle.
    """

    protocol = StoreChannel  # type: ignore[assignment] # twisted.web would wrap it in what speaks HTTP/2
    requestFactory = StoreRequest
    noisy = False

    def __init__(
        self, dispatcher: Dispatcher, clock: IReactorTime, in_flight: InFlight, limits: WebLimits | None = None
    ) -> None:
        self._limits = limits or WebLimits()
        self._clock = clock
        super().__init__(
            _Root(dispatcher), timeout=self._limits.idle_seconds, reactor=clock, parsePOSTFormSubmission=False
        )
        self.dispatcher = dispatcher
        self.in_flight = in_flight
        self._channels: set[StoreChannel] = set()
        self._drained: Deferred[None] | None = None

    def log(self, request: object) -> None:
        """The dispatcher tells its observers of every exchange; twisted.web's own log stays off."""

    def acceptableProtocols(self) -> list[bytes]:
        """Called by TLS. (twisted.web would offer HTTP/2 where it is installed.)"""
        return [b"http/1.1"]

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Called with each new connection."""
        if len(self._channels) >= self._limits.connections:
            return Refusal(Replies(self._clock.seconds).refusal(503, 0.0), self._clock, lambda client: None)
        return super().buildProtocol(addr)

    def opened(self, channel: StoreChannel) -> None:
        """Called by a channel once it is connected."""
        self._channels.add(channel)
        if self._drained is not None:
            channel.finish_up()

    def closed(self, channel: StoreChannel) -> None:
        """Called by a channel once it is not connected any more."""
        self._channels.discard(channel)
        if self._drained is not None and not self._drained.called and not self._channels:
            self._drained.callback(None)

    def drained(self) -> Deferred[None]:
        """Close every connection once what is in flight on it has been answered; fires when all are."""
        self._drained = Deferred()
        if not self._channels:
            self._drained.callback(None)
        for channel in list(self._channels):
            channel.finish_up()
        return self._drained

    def hang_up(self) -> None:
        """Close every connection now."""
        for channel in list(self._channels):
            channel.transport.abortConnection()
