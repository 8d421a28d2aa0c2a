"""
One connection of the server's own front: what is read from it, and what is sent.

It is in one of these states, and its deadline is that of the state:

- idle: it waits for the next request, for `idle_seconds`, and is closed;
- a head has begun: `head_seconds` from its first byte, then 408;
- a body has begun: `body_seconds` for each 64 KiB, then 408;
- a request is being answered: as long as that takes. What arrives meanwhile is kept, 64 KiB of it, and then no more
  is read;
- its client does not read: nothing is read either, and no request begun, until it does. Who has read nothing for
  `idle_seconds` is hung up on;
- the last answer has been sent: what is still unsent has its time as above; what still arrives is thrown away.
"""

from __future__ import annotations

import fcntl
import sys
import termios
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, ServiceUnavailable
from zope.interface import implementer

from kvtwist.web.chunks import BadChunk, ChunkedBody
from kvtwist.web.heads import BadHead, Fields, fault_in
from kvtwist.web.inflight import REQUEST_COST
from kvtwist.web.request import FrontRequest

if TYPE_CHECKING:
    from kvtwist.web.front import FrontSite

log = Logger(namespace="kvtwist.web")

LINGER_SECONDS = 2.0
_AHEAD = 64 * 1024
"""How many bytes are read ahead of the request that is being answered."""
_BODY_STEP = 64 * 1024
_JOINED = 64 * 1024
"""Bodies up to this size are copied behind their heads; larger ones are sent on their own."""
_GATHERED = 64
_SMALL = 4 * 1024
"""So many pieces of answers to requests that have come together, and of that size, are sent together."""
_NEVER = float("inf")


@implementer(IHalfCloseableProtocol)
class FrontConnection(Protocol):
    """One connection."""

    transport: Any
    client = "-"

    def __init__(self, site: FrontSite) -> None:
        self.deadline = _NEVER
        """When it is hung up on, in seconds of the site's clock."""
        self._site = site
        self._buffer = b""
        self._begun = False
        """Whether a head has begun, and waits for its end."""
        self._seen = 0
        """How much of it need not be searched for that again."""
        self._request: FrontRequest | None = None
        """The one whose body is being read, or that is being answered."""
        self._answering = False
        self._left = 0
        """Bytes of the body that are still to come; of one in chunks, those that have come."""
        self._step = 0
        self._chunks: ChunkedBody | None = None
        self._reading = True
        self._advancing = False
        self._out: list[bytes] = []
        self._producer: IPushProducer | None = None
        self._blocked = False
        """Whether the client takes no more for now."""
        self._unsent = 0
        """What the client had still to take when that was last looked at."""
        self._patience = _NEVER
        """When it is hung up on if it takes nothing."""
        self._last = False
        """Whether the next answer is the last one."""
        self._done = False
        """Whether the last answer is given."""
        self._closed = False
        self._socket: Any = None
        self._gathers = False
        """Whether what is sent waits for the end of the turn."""
        self._listed = False
        """Whether it does so now."""

    # --- its life -------------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Called by the transport."""
        transport = self.transport
        peer = transport.getPeer()
        self.client = getattr(peer, "host", None) or "-"
        if isinstance(transport, Connection):
            self._socket = transport.socket
            if self._site.poller is not None:
                self._site.poller.adopt(transport)
                self._gathers = True
        set_no_delay = getattr(transport, "setTcpNoDelay", None)
        if set_no_delay is not None:
            with suppress(OSError):
                set_no_delay(True)
        transport.registerProducer(self, True)
        self.deadline = self._site.now + self._site.limits.idle_seconds
        self._site.opened(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Called by the transport."""
        self._site.closed(self)
        self._done = self._closed = True
        self._buffer = b""
        self._socket = None
        self._give_up()

    def readConnectionLost(self) -> None:
        """
        Called by the transport when the client has finished sending. It is taken to have left, as most of those have,
        and so nothing more is done for it; but what has been answered is sent to its end.
        """
        self._give_up()
        if self._closed:
            self.transport.loseConnection()
        else:
            self._close()

    def writeConnectionLost(self) -> None:
        """Called by the transport once all is sent that will be sent, if we go on reading."""

    def _give_up(self) -> None:
        """Nobody waits for the request any more."""
        request, self._request = self._request, None
        if request is not None:
            self._answering = False
            self._release(request)
            request.gone = True
            if self._producer is not None:
                self._producer.stopProducing()
            if request.turn is not None:
                request.turn.cancel()

    def finish_up(self) -> None:
        """Close the connection, once the request that is being answered, or read, has been answered."""
        self._last = True
        if self._request is None and not self._buffer and not self._closed:
            self._close()

    def abort(self) -> None:
        """Close the connection now."""
        self.transport.abortConnection()

    def _close(self, unheard: bool = False) -> None:
        """
        Close the connection once all is sent.

        :param unheard: whether its client may still be sending. Then it is closed for writing first, and for good once
            the client has finished or has had some seconds (RFC 9112, 9.6), since closing it at once would take the
            answer back.
        """
        transport = self.transport
        self._done = self._closed = True
        self._buffer = b""
        self.flush()
        self._unsent = self._count_unsent()
        self._patience = self._site.now + self._site.limits.idle_seconds
        self.deadline = self._site.now + LINGER_SECONDS
        transport.unregisterProducer()
        if unheard and not any(isinstance(layer, TLSMemoryBIOProtocol) for layer in self._layers()):
            transport.loseWriteConnection()
        else:  # TLS waits for its client by itself
            transport.loseConnection()
        transport.resumeProducing()

    def too_late(self) -> None:
        """Its deadline has passed."""
        if self._blocked or self._closed:
            self._hang_up_unless_it_reads()
        elif self._request is not None:
            self._drop_request()
            self._bad_request(408)
        elif self._buffer:
            self._bad_request(408)
        else:
            self._close()

    def _hang_up_unless_it_reads(self) -> None:
        now = self._site.now
        before, self._unsent = self._unsent, self._count_unsent()
        if self._unsent < before:
            self._patience = now + self._site.limits.idle_seconds
        if now >= self._patience or (self._closed and not self._unsent):
            self.abort()
        else:
            self.deadline = min(self._patience, now + LINGER_SECONDS)

    def _layers(self) -> list[Any]:
        """The transport, and what it is made of."""
        layers = [self.transport]
        while isinstance(layers[-1], ProtocolWrapper):
            layers.append(layers[-1].transport)
        return layers

    def _count_unsent(self) -> int:
        """How many bytes the client has not taken, of what was sent: here, and in the kernel."""
        transport = self._layers()[-1]
        unsent: int = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
        with suppress(OSError, ValueError, AttributeError):  # it may be gone
            in_kernel = fcntl.ioctl(transport.socket.fileno(), termios.TIOCOUTQ, bytes(4))
            unsent += int.from_bytes(in_kernel, sys.byteorder)
        return unsent

    # --- what arrives ---------------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Called by the transport."""
        if self._buffer:
            data = self._buffer + data
        elif self._request is None and not (self._blocked or self._done) and self._take_request(data):
            return
        if self._answering or self._blocked or self._done:
            self._keep(data)
        else:
            self._advance(data)

    def _keep(self, data: bytes) -> None:
        """Keep what cannot be looked at yet; there is an end to that, too."""
        if self._closed:
            return
        self._buffer = data
        if len(data) >= _AHEAD and self._reading:
            self._reading = False
            self.transport.pauseProducing()

    def _advance(self, data: bytes) -> None:
        """Work through what has arrived, as far as there is enough of it, until a request has to be waited for."""
        at, end = 0, len(data)
        self._advancing = True
        try:
            while at < end and not (self._answering or self._blocked or self._done):
                before = at
                if self._request is None:
                    at = self._take_head(data, at)
                elif self._chunks is not None:
                    at = self._take_chunks(data, at)
                else:
                    at = self._take_body(data, at)
                if at == before:
                    break
        except Exception:
            log.failure("a request could not be taken")
            self.abort()
        self._advancing = False
        if not self._done:
            self._buffer = data[at:]
            if self._out:
                self._send_soon()
        elif not self._closed:
            self._close(unheard=at < end)

    def _take_request(self, data: bytes) -> bool:
        """Answer a request that has come as a whole, if nothing is special about it: the short way of `_advance`."""
        site = self._site
        if len(data) > site.short_head:
            return False
        whole = site.heads.read_request(data)
        if whole is None:
            return False
        head, body = whole
        request = FrontRequest(self, head, body)
        held = REQUEST_COST + len(body)
        if len(body) > request.route.profile.max_body or not site.in_flight.take(held):
            return False
        request.held = held
        self._request = request
        self._answer(request)
        return True

    def _take_head(self, data: bytes, at: int) -> int:
        if data.startswith(b"\r\n", at):
            return at + 2  # RFC 9112, 2.2
        site = self._site
        end = data.find(b"\r\n\r\n", at + self._seen)
        if end < 0 or end - at > site.short_head:
            fault = fault_in(data, at, end, self._seen, site.limits)
            if fault:
                self._bad_request(fault)
                return len(data)
            if end < 0:
                self._wait_for_head(len(data) - at)
                return at
        if self._begun:
            self._begun = False
            self._seen = 0
        end += 4
        try:
            head = site.heads.read(data if at == 0 and end == len(data) else data[at:end])
        except BadHead:
            self._bad_request(400)
            return end
        request = self._request = FrontRequest(self, head)
        fields = head[2]
        length = fields.length
        if length and length > request.route.profile.max_body:
            request.refuse(RequestEntityTooLarge())
            self._answer(request)
        elif not self._hold(request, REQUEST_COST + (length or 0)):
            request.refuse(_overloaded(request))
            self._answer(request)
        elif length == 0:
            self._answer(request)
        else:
            self._expect_body(fields, len(data) - end)
        return end

    def _wait_for_head(self, size: int) -> None:
        self._seen = max(size - 3, 0)
        if not self._begun:
            self._begun = True
            self.deadline = self._site.now + self._site.limits.head_seconds

    def _expect_body(self, fields: Fields, there: int) -> None:
        self.deadline = self._site.now + self._site.limits.body_seconds
        self._step = 0
        if fields.length is None:
            self._chunks = ChunkedBody()
            self._left = 0
        else:
            self._left = fields.length
        if fields.expects and not there:
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
            self._drop_request()
            self._bad_request(400)
            return len(data)
        piece = b"".join(pieces)
        self._left += len(piece)
        if self._left + chunks.promised > request.route.profile.max_body:
            request.refuse(RequestEntityTooLarge())
        elif not self._hold(request, REQUEST_COST + self._left):
            request.refuse(_overloaded(request))
        else:
            request.add(piece)
            if not chunks.finished:
                self._progress(len(piece))
                return at
        self._chunks = None
        self._answer(request)
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

    def _drop_request(self) -> None:
        """Forget the request whose body was being read."""
        if self._request is not None:
            self._release(self._request)
            self._request = self._chunks = None

    def _answer(self, request: FrontRequest) -> None:
        self._answering = True
        self.deadline = _NEVER
        self._site.dispatcher.begin(request, request.route, request.key)

    def _bad_request(self, code: int) -> None:
        self._out.append(self._site.replies.refusal(code, self._site.clock.seconds()))
        self._close(unheard=True)

    # --- what is sent ---------------------------------------------------------------------------------------------

    def seconds(self) -> float:
        """The time, in seconds since the epoch."""
        return self._site.clock.seconds()

    def send_head(
        self, request: FrontRequest, code: int, headers: Any, framing: bytes, now: float, body: bytes = b""
    ) -> None:
        """Send the head of a response, and a body that is there already."""
        if not request.keep_alive or self._last:
            request.keep_alive = False
            framing += b"Connection: close\r\n"
        elif request.version == b"0":
            framing += b"Connection: keep-alive\r\n"
        size = len(body)
        out = self._out
        if size <= _JOINED:
            out.append(b"%b%b\r\n%b" % (self._site.replies.head(code, headers, now), framing, body))
        else:
            out.append(b"%b%b\r\n" % (self._site.replies.head(code, headers, now), framing))
            out.append(body)
        if size > _SMALL or len(out) >= _GATHERED:
            self.flush()
        elif not self._advancing:
            self._send_soon()

    def send(self, data: bytes) -> None:
        """Send bytes of a response."""
        out = self._out
        out.append(data)
        if len(data) > _SMALL or len(out) >= _GATHERED:
            self.flush()
        elif not self._advancing:
            self._send_soon()

    def _send_soon(self) -> None:
        if not self._gathers:
            self.flush()
        elif not self._listed:
            self._listed = True
            self._site.send_soon(self)

    def flush(self) -> None:
        """Send what has been gathered: to the socket, if nothing waits there already; else the reactor does."""
        self._listed = False
        out = self._out
        if not out:
            return
        if len(out) == 1:
            data = out.pop()
        elif len(out[-1]) > _JOINED:
            large = out.pop()
            self.flush()
            data = large
        else:
            data = b"".join(out)
            out.clear()
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
        if self._blocked:  # TLS says so in the middle of what it is given
            self._unsent = self._count_unsent()

    def answered(self, request: FrontRequest) -> None:
        """Called once all of a response has been sent, or is on its way."""
        self._answering = False
        self._request = None
        site = self._site
        site.in_flight.held -= request.held
        request.held = 0
        if request.keep_alive and not self._last:
            self.deadline = site.now + site.limits.idle_seconds
            if self._buffer and not self._advancing:
                self._go_on()
        elif request.unread:
            self._close(unheard=True)
        else:
            self._done = True
            if not self._advancing:
                self._close(unheard=bool(self._buffer))

    def _go_on(self) -> None:
        """Go on with what has arrived while a request was being answered, or while the client did not read."""
        if self._blocked:
            return
        data, self._buffer = self._buffer, b""
        self._advance(data)
        if not (self._reading or self._answering or self._blocked or self._done):
            self._reading = True
            self.transport.resumeProducing()

    def produce(self, producer: IPushProducer | None) -> None:
        """Tell a producer when to pause; None: nobody."""
        self._producer = producer
        if producer is not None and self._blocked:
            producer.pauseProducing()

    def pauseProducing(self) -> None:
        """Called by the transport when its client takes no more for now."""
        if self._blocked:
            return
        self._blocked = True
        self._unsent = self._count_unsent()
        self._patience = self.deadline = self._site.now + self._site.limits.idle_seconds
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


def _overloaded(request: FrontRequest) -> HTTPException:
    request.overload = ServiceUnavailable("the server has too much to do")
    return request.overload
