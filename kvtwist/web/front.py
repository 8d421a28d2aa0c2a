"""
The server's own HTTP front: llhttp on the Twisted reactor, Klein's endpoints called directly.

One request after the other is read, answered, and only then the next one looked at, whatever has arrived meanwhile: so
answers keep their order, a client that pipelines waits for itself alone, and what it has sent ahead is bounded by not
reading more. A head is looked for as a whole and then read by `heads`; a body is counted off, or read by `chunks`.
Whatever is not HTTP/1.1 to the letter is answered 400, and the connection closed.

What makes it fast, and what each of it is worth, is in docs/benchmarks.md: routes in tables, coroutines that need no
Deferred, heads of responses that have been written before, and bytes that go to the socket at once when no others wait.

`stock` does the same with twisted.web, at its pace. It is what this one is tested against.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from klein import Response
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IHandshakeListener, IPushProducer, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, ServiceUnavailable
from zope.interface import implementer

from kvtwist.model import Exchange
from kvtwist.web.chunks import BadChunk, ChunkedBody
from kvtwist.web.dispatch import Dispatcher, Turn
from kvtwist.web.heads import BadHead, Head, check_unfinished
from kvtwist.web.inflight import REQUEST_COST, InFlight
from kvtwist.web.limits import WebLimits
from kvtwist.web.replies import Replies
from kvtwist.web.routing import Route

LINGER_SECONDS = 2.0
_AHEAD = 64 * 1024
"""How many bytes are read ahead of the request that is being answered."""
_BODY_STEP = 64 * 1024
_JOINED = 64 * 1024
"""Bodies up to this size are copied behind their heads; larger ones are sent on their own."""
_TICK_SECONDS = 1.0
_NO_BODY = frozenset({204, 304})
_NEVER = float("inf")


class FrontRequest:
    """One request and its response; for handlers, what they use of twisted.web's."""

    turn: Turn | None = None
    overload: HTTPException | None = None
    gone = False
    started = False
    unread = False
    """Whether its body is not read, and may still be coming."""
    chunked = False
    began = 0.0
    held = 0
    status = 0
    sent = 0
    _refusal: HTTPException | None = None
    _headers: dict[str | bytes, str | bytes] | None = None
    _body: bytes | list[bytes] = b""

    def __init__(self, connection: FrontConnection, head: Head) -> None:
        self._connection = connection
        self.method = head.method
        self.uri = head.target
        self.version = head.version
        self.keep_alive = head.keep_alive()

    # --- its body, for handlers -----------------------------------------------------------------------------------

    @property
    def content(self) -> FrontRequest:
        """The body: something to be read."""
        return self

    def read(self) -> bytes:
        """The whole body; raises why it was not read."""
        if self._refusal is not None:
            raise self._refusal
        body = self._body
        return body if isinstance(body, bytes) else b"".join(body)

    def add(self, piece: bytes) -> None:
        """A piece of the body has come."""
        if not self._body:
            self._body = piece
        elif isinstance(self._body, bytes):
            self._body = [self._body, piece]
        else:
            self._body.append(piece)

    def refuse(self, reason: HTTPException) -> None:
        """Read no body, and let whoever asks for it hear why."""
        self._refusal = reason
        self._body = b""
        self.unread = True
        self.keep_alive = False

    # --- its response, for handlers -------------------------------------------------------------------------------

    def setHeader(self, name: str | bytes, value: str | bytes) -> None:
        """Set a header of a response that is to be written piece by piece."""
        if self._headers is None:
            self._headers = {}
        self._headers[name] = value

    def write(self, data: bytes) -> None:
        """Write a piece of the response."""
        if not self.started:
            self._start()
        if self.gone or not data or self.method == b"HEAD":
            return
        self.sent += len(data)
        self._connection.send(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        """Have somebody told when the client takes no more for now, and when it does again."""
        self._connection.produce(producer)

    def unregisterProducer(self) -> None:
        """Nobody is to be told any more."""
        self._connection.produce(None)

    def _start(self) -> None:
        self.started = True
        self.status = 200
        headers = self._headers or {}
        if not any(_is_length(name) for name in headers):
            self.chunked = self.version == b"1" and self.method != b"HEAD"
            if self.version == b"0":
                self.keep_alive = False
        framing = b"Transfer-Encoding: chunked\r\n" if self.chunked else b""
        self._connection.send_head(self, 200, headers, framing)

    # --- what the dispatcher does ---------------------------------------------------------------------------------

    def reply(self, response: Response) -> None:
        """See `Request.reply`."""
        self.started = True
        code = response.code
        body = response.body or b""  # Klein's default is text
        self.status = code
        framing = b"" if code in _NO_BODY else b"Content-Length: %d\r\n" % len(body)
        if self.method == b"HEAD" or code in _NO_BODY:
            body = b""
        self.sent = len(body)
        self._connection.send_head(self, code, response.headers, framing, body)
        self._connection.answered(self)

    def finish(self) -> None:
        """See `Request.finish`."""
        if not self.started:
            self._start()
        if self.chunked and not self.gone:
            self._connection.send(b"0\r\n\r\n")
        self._connection.answered(self)

    def abort(self) -> None:
        """See `Request.abort`."""
        self._connection.abort()

    def exchange(self, route: Route, seconds: float) -> Exchange:
        """See `Request.exchange`."""
        status = 0 if self.gone else self.status
        client = self._connection.client
        version = b"HTTP/1." + self.version
        return Exchange(
            route.profile.name, route.rule, client, self.method, self.uri, version, status, seconds, self.sent
        )


def _is_length(name: str | bytes) -> bool:
    return name.lower() in ("content-length", b"content-length")


@implementer(IHandshakeListener)
class FrontConnection(Protocol):
    """One connection."""

    transport: Any
    client = "-"

    def __init__(self, site: FrontSite) -> None:
        self.deadline = _NEVER
        """When it is hung up on, in seconds of the site's clock."""
        self._site = site
        self._head = Head()
        self._buffer = b""
        self._request: FrontRequest | None = None
        """The one whose body is being read, or that is being answered."""
        self._answering = False
        self._left = 0
        """Bytes of the body that are still to come."""
        self._step = 0
        self._chunks: ChunkedBody | None = None
        self._reading = True
        self._advancing = False
        self._out: list[bytes] = []
        self._producer: IPushProducer | None = None
        self._blocked = False
        """Whether the client takes no more for now."""
        self._closing = False
        self._lingering = False
        self._hang_up: IDelayedCall | None = None
        self._socket: Any = None

    # --- its life -------------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Called by the transport."""
        transport = self.transport
        peer = transport.getPeer()
        self.client = getattr(peer, "host", None) or "-"
        if isinstance(transport, Connection):
            self._socket = transport.socket
        set_no_delay = getattr(transport, "setTcpNoDelay", None)
        if set_no_delay is not None:
            with suppress(OSError):
                set_no_delay(True)
        transport.registerProducer(self, True)
        self.deadline = self._site.now + self._site.limits.idle_seconds
        self._site.opened(self)

    def handshakeCompleted(self) -> None:
        """Called by a TLS transport."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Called by the transport."""
        self._site.closed(self)
        self._closing = True
        self._buffer = b""
        self._socket = None
        if self._hang_up is not None and self._hang_up.active():
            self._hang_up.cancel()
        request, self._request = self._request, None
        if request is not None:
            self._release(request)
            request.gone = True
            if self._producer is not None:
                self._producer.stopProducing()
            if request.turn is not None:
                request.turn.cancel()

    def finish_up(self) -> None:
        """Close the connection, once the request that is being answered, or read, has been answered."""
        self._closing = True
        if self._request is None and not self._buffer:
            self._close()

    def abort(self) -> None:
        """Close the connection now."""
        self.transport.abortConnection()

    def _close(self) -> None:
        self._flush()
        self._closing = True
        self.deadline = self._site.now + self._site.limits.idle_seconds
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def _close_unread(self) -> None:
        """
        Close the connection while its client may still be sending: for writing first, and for good once the client has
        finished or has had some seconds (RFC 9112, 9.6), since closing it at once would take the answer back.
        """
        self._closing = True
        self._buffer = b""
        close_for_writing = getattr(self.transport, "loseWriteConnection", None)
        if close_for_writing is None:  # TLS has no such thing
            self._close()
        elif not self._lingering:
            self._lingering = True
            self._flush()
            self._site_deadline_off()
            self.transport.unregisterProducer()
            close_for_writing()
            self.transport.resumeProducing()
            self._hang_up = self._site.clock.callLater(LINGER_SECONDS, self.transport.abortConnection)

    def _site_deadline_off(self) -> None:
        self.deadline = _NEVER

    # --- what arrives ---------------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Called by the transport."""
        if self._lingering:
            return
        if self._buffer:
            data = self._buffer + data
        if self._answering or self._blocked:
            self._buffer = data
            if len(data) >= _AHEAD and self._reading:
                self._reading = False
                self.transport.pauseProducing()
            return
        self._advance(data)

    def _advance(self, data: bytes) -> None:
        """Work through what has arrived, as far as there is enough of it, until a request has to be waited for."""
        at, end = 0, len(data)
        self._advancing = True
        while at < end and not self._answering and not self._lingering:
            before = at
            if self._request is None:
                if self._closing:
                    at = end
                    break
                at = self._take_head(data, at)
            elif self._chunks is not None:
                at = self._take_chunks(data, at)
            else:
                at = self._take_body(data, at)
            if at == before and not self._answering:
                break
        self._advancing = False
        self._buffer = data[at:] if not self._lingering else b""
        if self._out:
            self._flush()
        if self._closing and self._request is None and not self._lingering and self.transport.connected:
            self._close()

    def _take_head(self, data: bytes, at: int) -> int:
        if data.startswith(b"\r\n", at):
            return at + 2  # RFC 9112, 2.2
        end = data.find(b"\r\n\r\n", at)
        limits = self._site.limits
        if end < 0 or end - at > limits.head:
            self._wait_for_head(data[at:])
            return at
        end += 4
        head = self._head
        try:
            head.read(data if at == 0 and end == len(data) else data[at:end])
        except BadHead:
            self._bad_request(400)
            return end
        if len(head.target) > limits.target:
            self._bad_request(414)
            return end
        request = self._request = FrontRequest(self, head)
        length = head.length
        held = REQUEST_COST + (length or 0)
        in_flight = self._site.in_flight
        if length and length > self._site.max_body(head.target):
            request.refuse(RequestEntityTooLarge())
            self._answer(request)
        elif in_flight.held + held > in_flight.limit:
            self._overload(request)
        else:
            in_flight.held += held
            request.held = held
            if length == 0:
                self._answer(request)
            else:
                self._expect_body(head, request, len(data) - end)
        return end

    def _wait_for_head(self, data: bytes) -> None:
        limits = self._site.limits
        target_end = data.find(b" ", data.find(b" ") + 1)
        if len(data) > limits.target and (target_end < 0 or target_end > limits.target) and b" " in data[:64]:
            self._bad_request(414)
        elif len(data) > limits.head:
            self._bad_request(431)
        else:
            try:
                check_unfinished(data)
            except BadHead:
                self._bad_request(400)
                return
            if not self._buffer or self._head_began == _NEVER:
                self._head_began = self._site.now
                self.deadline = self._site.now + limits.head_seconds

    _head_began = _NEVER

    def _expect_body(self, head: Head, request: FrontRequest, there: int) -> None:
        self._head_began = _NEVER
        self.deadline = self._site.now + self._site.limits.body_seconds
        self._step = 0
        if head.length is None:
            self._chunks = ChunkedBody()
        else:
            self._left = head.length
        if head.expects and not there:
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _take_body(self, data: bytes, at: int) -> int:
        request = self._request
        assert request is not None
        piece = data[at : at + self._left]
        request.add(piece)
        self._left -= len(piece)
        if self._left == 0:
            self._answer(request)
        else:
            self._progress(len(piece))
        return at + len(piece)

    def _take_chunks(self, data: bytes, at: int) -> int:
        request, chunks = self._request, self._chunks
        assert request is not None and chunks is not None
        try:
            pieces, at = chunks.take(data, at)
        except BadChunk:
            self._request = self._chunks = None
            self._release(request)
            self._bad_request(400)
            return len(data)
        size = sum(map(len, pieces))
        for piece in pieces:
            request.add(piece)
        self._left += size
        if self._left + chunks.promised > self._site.max_body(request.uri):
            request.refuse(RequestEntityTooLarge())
        elif not self._hold(request, REQUEST_COST + self._left):
            request.refuse(_overloaded(request))
        if chunks.finished and not request.unread:
            self._answer(request)
        elif request.unread:
            self._answer(request)
            return len(data)
        else:
            self._progress(size)
        return at

    def _progress(self, size: int) -> None:
        self._step += size
        if self._step >= _BODY_STEP:
            self._step = 0
            self.deadline = self._site.now + self._site.limits.body_seconds

    def _hold(self, request: FrontRequest, size: int) -> bool:
        more = size - request.held
        if more > 0:
            if not self._site.in_flight.take(more):
                return False
            request.held = size
        return True

    def _release(self, request: FrontRequest) -> None:
        self._site.in_flight.held -= request.held
        request.held = 0

    def _overload(self, request: FrontRequest) -> None:
        request.refuse(_overloaded(request))
        self._answer(request)

    def _answer(self, request: FrontRequest) -> None:
        self._chunks = None
        self._left = 0
        self._answering = True
        self.deadline = _NEVER
        self._site.dispatcher.begin(request)

    def _bad_request(self, code: int) -> None:
        self._out.append(self._site.replies.head(code, {}, self._site.clock.seconds()))
        self._out.append(b"Content-Length: 0\r\nConnection: close\r\n\r\n")
        self._close_unread()

    # --- what is sent ---------------------------------------------------------------------------------------------

    def send_head(self, request: FrontRequest, code: int, headers: Any, framing: bytes, body: bytes = b"") -> None:
        """Send the head of a response, and a body that is there already."""
        site = self._site
        out = self._out
        connection = b"\r\n"
        if not request.keep_alive or self._closing:
            request.keep_alive = False
            connection = b"Connection: close\r\n\r\n"
        elif request.version == b"0":
            connection = b"Connection: keep-alive\r\n\r\n"
        head = site.replies.head(code, headers, site.clock.seconds()) + framing + connection
        if len(body) <= _JOINED:
            out.append(head + body)
        else:
            out.append(head)
            out.append(body)
        if not self._advancing:
            self._flush()

    def send(self, data: bytes) -> None:
        """Send bytes of a response."""
        self._out.append(data)
        if not self._advancing:
            self._flush()

    def _flush(self) -> None:
        out = self._out
        if not out:
            return
        self._out = []
        if len(out) == 1:
            self._send_now(out[0])
        elif len(out[-1]) > _JOINED:
            self._send_now(b"".join(out[:-1]))
            self._send_now(out[-1])
        else:
            self._send_now(b"".join(out))

    def _send_now(self, data: bytes) -> None:
        """To the socket at once, if nothing waits to be sent; else, and what it does not take, with the reactor."""
        transport = self.transport
        socket = self._socket
        if socket is not None and not transport.dataBuffer and not transport._tempDataBuffer:
            try:
                sent = socket.send(data)
            except OSError:
                sent = 0  # whatever it is, the transport will meet it and knows what to do
            if sent == len(data):
                return
            data = data[sent:]
        transport.write(data)

    def answered(self, request: FrontRequest) -> None:
        """Called once all of a response has been sent, or is on its way."""
        self._answering = False
        self._request = None
        self._release(request)
        site = self._site
        self._head_began = _NEVER
        self.deadline = site.now + site.limits.idle_seconds
        if request.unread:
            self._close_unread()
        elif not request.keep_alive:
            self._close_after()
        elif not self._advancing and (self._buffer or self._closing):
            self._go_on()

    def _close_after(self) -> None:
        """Close behind an answer. Who has pipelined more than that has not been heard, and may still be sending."""
        if self._advancing:
            self._closing = True
        else:
            self._close()

    def _go_on(self) -> None:
        """Go on with what has arrived while a request was being answered."""
        if self._blocked:
            return
        data, self._buffer = self._buffer, b""
        if data:
            self._advance(data)
        elif self._closing and self._request is None:
            self._close()
            return
        if not self._reading and not self._answering and len(self._buffer) < _AHEAD and not self._closing:
            self._reading = True
            self.transport.resumeProducing()

    def produce(self, producer: IPushProducer | None) -> None:
        """Tell a producer when to pause; None: nobody."""
        self._producer = producer
        if producer is not None and self._blocked:
            producer.pauseProducing()

    def pauseProducing(self) -> None:
        """Called by the transport when its client takes no more for now."""
        self._blocked = True
        self.deadline = self._site.now + self._site.limits.idle_seconds
        if self._producer is not None:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """Called by the transport when its client takes more again."""
        self._blocked = False
        self.deadline = _NEVER if self._answering else self._site.now + self._site.limits.idle_seconds
        if self._producer is not None:
            self._producer.resumeProducing()
        elif not self._answering:
            self._go_on()

    def stopProducing(self) -> None:
        """Called by the transport when it is gone; it says so otherwise, too."""

    def too_late(self) -> None:
        """Its deadline has passed."""
        if self._request is not None and not self._answering:
            self._release(self._request)
            self._request = self._chunks = None
            self._bad_request(408)
        elif self._buffer and not self._answering and not self._blocked and not self._lingering:
            self._bad_request(408)
        elif self._blocked or self._closing:
            self.abort()
        else:
            self._close()


def _overloaded(request: FrontRequest) -> HTTPException:
    request.overload = ServiceUnavailable("the server has too much to do")
    return request.overload


class FrontSite(Factory):
    """
    :ivar dispatcher: answers every request.
    :ivar in_flight: what all requests take together.
    :ivar now: the clock's time as it was a moment ago.
    """

    noisy = False

    def __init__(
        self, dispatcher: Dispatcher, clock: IReactorTime, in_flight: InFlight, limits: WebLimits | None = None
    ) -> None:
        self.dispatcher = dispatcher
        self.clock = clock
        self.in_flight = in_flight
        self.limits = limits or WebLimits()
        self.replies = Replies()
        self.max_body = dispatcher.router.max_body
        self.now = 0.0
        self._connections: set[FrontConnection] = set()
        self._drained: Deferred[None] | None = None
        self._tick: IDelayedCall | None = None

    def startFactory(self) -> None:
        """Called when it listens for the first time."""
        self._look_round()

    def stopFactory(self) -> None:
        """Called when it listens no more."""
        if not self._connections and self._tick is not None and self._tick.active():
            self._tick.cancel()

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """Called with each new connection."""
        if len(self._connections) >= self.limits.connections:
            return _Refusal(self.replies.head(503, {}, self.clock.seconds()))
        return FrontConnection(self)

    def opened(self, connection: FrontConnection) -> None:
        """Called by a connection once it is there."""
        self._connections.add(connection)
        if self._drained is not None:
            connection.finish_up()

    def closed(self, connection: FrontConnection) -> None:
        """Called by a connection once it is gone."""
        self._connections.discard(connection)
        if self._drained is not None and not self._connections:
            self._drained.callback(None)

    def _look_round(self) -> None:
        """Hang up on those whose time is over. (A timer for each connection would cost more than its requests.)"""
        self.now = self.clock.seconds()
        late = [connection for connection in self._connections if connection.deadline <= self.now]
        for connection in late:
            connection.too_late()
        if self._drained is None or self._connections:
            self._tick = self.clock.callLater(_TICK_SECONDS, self._look_round)

    def drained(self) -> Deferred[None]:
        """Close every connection once what is in flight on it has been answered; fires when all are."""
        self._drained = Deferred()
        self._drained.addBoth(self._rest)
        if not self._connections:
            self._drained.callback(None)
        for connection in list(self._connections):
            connection.finish_up()
        return self._drained

    def _rest(self, result: None) -> None:
        if self._tick is not None and self._tick.active():
            self._tick.cancel()

    def hang_up(self) -> None:
        """Close every connection now."""
        for connection in list(self._connections):
            connection.abort()


class _Refusal(Protocol):
    """One connection too many."""

    transport: Any

    def __init__(self, start: bytes) -> None:
        self._answer = start + b"Retry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

    def connectionMade(self) -> None:
        """Called by the transport."""
        self.transport.write(self._answer)
        self.transport.loseConnection()
