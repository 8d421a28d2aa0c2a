"""
One connection of the front: it glues a reader of requests, a dispatcher and an outbox to one of Twisted's transports.

It is in one of these phases. Besides, it may be *blocked*: its client does not take what it is sent.

| event               | READING                            | ANSWERING                      | CLOSING          |
|---------------------|------------------------------------|--------------------------------|------------------|
| bytes arrive        | read; a whole request: ANSWERING   | kept, 64 KiB at most           | discarded        |
| a faulty request    | its status is sent: CLOSING        | -                              | -                |
| the answer is whole | -                                  | READING; the last one: CLOSING | -                |
| blocked             | no request is begun                | the producer pauses            | -                |
| unblocked           | what was kept is read              | the producer resumes           | transport closes |
| client has finished | CLOSING                            | handler is cancelled: CLOSING  | transport closes |
| deadline, blocked   | GONE if stalled                    | GONE if stalled                | GONE if stalled  |
| deadline            | 408 unless nothing came: CLOSING   | -                              | GONE unless slow |
| the site drains     | CLOSING if nothing came            | the last answer; endless: ends | -                |
| no memory           | 503: CLOSING; in a body: ANSWERING | GONE                           | -                |
| aborted, evicted    | GONE                               | GONE                           | GONE             |

While a connection is READING, the state of its reader says what is read. `deadlines` says when deadlines pass, and
which client is stalled, which slow. A client that has finished sending, and is blocked, still gets what was answered.
"""

from __future__ import annotations

from contextlib import suppress
from enum import Enum
from typing import Any, Protocol

from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from zope.interface import implementer

from kvtwist.web import outbox, transports
from kvtwist.web.account import Account, overloaded
from kvtwist.web.deadlines import BODY_STEP, LINGER_SECONDS, NEVER, Stall, seconds_to_read
from kvtwist.web.dispatch import Dispatcher
from kvtwist.web.heads import Head, HeadReader
from kvtwist.web.limits import WebLimits
from kvtwist.web.outbox import Outbox
from kvtwist.web.poller import Poller
from kvtwist.web.reader import DONE, HEAD, IDLE, Fault, Reader
from kvtwist.web.refusal import Refused, client_of
from kvtwist.web.replies import Replies
from kvtwist.web.request import FrontRequest
from kvtwist.web.request_memory import LARGE, REQUEST_COST

log = Logger(namespace="kvtwist.web")

_AHEAD = 64 * 1024
"""How many bytes are kept beyond the current request before reading pauses."""


class Phase(Enum):
    """See the table above."""

    READING = "reading"
    ANSWERING = "answering"
    CLOSING = "closing"
    GONE = "gone"


READING, ANSWERING, CLOSING, GONE = Phase


class Site(outbox.Sender, Protocol):
    """
    What all connections of a server share.

    :ivar draining: whether every connection closes after the request that it is working on.
    :ivar poller: watches the connections; None: the reactor does.
    """

    dispatcher: Dispatcher
    draining: bool
    heads: HeadReader
    limits: WebLimits
    poller: Poller | None
    replies: Replies

    def opened(self, connection: FrontConnection) -> None:
        """Called by a connection that has been made."""

    def closed(self, connection: FrontConnection) -> None:
        """Called by a connection that is lost."""

    def wall(self) -> float:
        """The time, in seconds since the epoch."""


@implementer(IHalfCloseableProtocol)
class FrontConnection(TwistedProtocol):
    """
    One connection.

    :ivar deadline: see `deadlines`; in seconds of the site's clock.
    :ivar progressed: see `kvtwist.web.request_memory.Evictable`.
    """

    transport: Any
    progressed: float
    outbox: Outbox
    _stall: Stall
    """Set when the connection is blocked, and when its transport closes."""

    def __init__(self, site: Site) -> None:
        self.deadline = NEVER
        self._site = site
        self._phase = READING
        self._reader = Reader(site.heads, site.limits)
        self._request: FrontRequest | None = None
        """The one whose body is being read, or that is being answered."""
        self._producer: IPushProducer | None = None
        self._account = Account(site)
        self._paused = False
        """Whether the transport was told not to read."""
        self._lingers: bool
        """Whether a closing connection waits for its client to finish sending."""

    # --- its life -------------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Called by the transport."""
        transport, site = self.transport, self._site
        poller = None if transports.socket_of(transport) is None else site.poller
        if poller is not None:
            poller.adopt(transport)
        self.outbox = Outbox(site, self, transport, gathers=poller is not None)
        set_no_delay = getattr(transport, "setTcpNoDelay", None)
        if set_no_delay is not None:
            with suppress(OSError):
                set_no_delay(True)
        transport.registerProducer(self, True)
        self.deadline = site.now + site.limits.idle_seconds
        site.opened(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Called by the transport."""
        self._site.closed(self)
        self._abandon_request()
        self._release_all()

    def readConnectionLost(self) -> None:
        """
        Called by the transport when the client has finished sending. Most such clients have left, so the current
        request is given up; what has been answered is sent to its end.
        """
        self._abandon_request()
        if self._phase is not GONE:
            self._close(lingers=False)

    def writeConnectionLost(self) -> None:
        """Called by the transport once it is closed for writing."""

    @property
    def client(self) -> str:
        """The client's address. (A proxy may send it in the first bytes, so it is not known from the start.)"""
        return client_of(self.transport)

    def finish_up(self) -> None:
        """
        Close the connection unless there is anything of a request, and end an endless one; called when the site drains.
        """
        request = self._request
        if self._phase is READING and self._reader.state is IDLE and not self._reader.kept:
            self._close(lingers=False)
        elif request is not None and request.endless and request.suspended is not None:
            request.suspended.cancel()

    def abort(self) -> None:
        """Close the connection now."""
        self.evict()

    def evict(self) -> None:
        """See `kvtwist.web.request_memory.Evictable`."""
        self._phase = GONE
        self._abandon_request()  # or its handler would hold memory until the transport calls connectionLost
        self._release_all()
        self.transport.abortConnection()

    def _release_all(self) -> None:
        """Read and send nothing more, and hold nothing."""
        self._phase = GONE
        self.deadline = NEVER
        self._reader.stop()
        self.outbox.close()
        self._site.memory.remove_evictable(self)
        self._account.keep(0)

    def _abandon_request(self) -> None:
        """Cancel the handler of the current request: the client has left."""
        request, self._request = self._request, None
        if request is None:
            return
        self._account.release(request)
        request.left(is_complete=self.outbox.is_sent)
        if self._producer is not None:
            self._producer.stopProducing()
        if request.suspended is not None:
            request.suspended.cancel()

    def _close(self, lingers: bool) -> None:
        """
        Close the connection once all is sent.

        :param lingers: whether the client may still be sending. Then the connection is closed for writing first, and
            for good once the client has finished or some seconds have passed (RFC 9112, 9.6): closing it at once would
            make the client's system discard the answer.
        """
        self._phase = CLOSING
        self._lingers = lingers
        self._reader.stop()
        self.outbox.flush()
        if self._phase is CLOSING:
            self._settle()
            if not self.outbox.blocked:
                self._close_transport()

    def _close_transport(self) -> None:
        """Close the transport: all is sent, except for what a TLS layer still holds."""
        transport, site = self.transport, self._site
        site.memory.remove_evictable(self)
        self._stall = Stall(transport, site.now, site.limits.idle_seconds)
        self.deadline = site.now + LINGER_SECONDS
        transport.unregisterProducer()
        if self._lingers and not self.outbox.is_tls:
            transport.loseWriteConnection()
        else:  # TLS itself waits until its client has closed
            transport.loseConnection()
        self._paused = False
        transport.resumeProducing()

    def pass_deadline(self) -> None:
        """Called once the deadline has passed."""
        if self.outbox.blocked or self._phase is CLOSING:
            self._abort_if_stalled()
        elif self._phase is not GONE:
            if self._reader.state is IDLE:
                self._close(lingers=False)
            else:
                self._refuse(408)

    def _abort_if_stalled(self) -> None:
        stall, now = self._stall, self._site.now
        stall.check(now)
        waits_for_end = self._phase is CLOSING and (self._lingers or self.outbox.is_tls)
        if now >= stall.until or (waits_for_end and not stall.untaken):
            self.abort()
        else:
            self.deadline = min(stall.until, now + LINGER_SECONDS)

    # --- what arrives ---------------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Called by the transport."""
        reader = self._reader
        # A shortcut for most requests: they come whole, and their headers are known. `_advance` does the same in steps.
        # The reader keeps nothing here: between requests, only a blocked connection does.
        if reader.state is IDLE and self._phase is READING and len(data) <= reader.short and not self.outbox.blocked:
            whole = self._site.heads.read_request(data)
            if whole is not None and self._begin_whole(*whole):
                return
        reader.receive(data)
        self._advance()

    def _begin_whole(self, head: Head, body: bytes) -> bool:
        """Answer a whole request; False if that is left to `_begin`, which may refuse it or evict others for it."""
        request = FrontRequest(self, head, body)
        held = REQUEST_COST + len(body)
        if len(body) > request.route.profile.max_body or not self._site.memory.take(held):
            return False
        request.held = held
        self._answer(request)
        return True

    def _advance(self) -> None:
        """Read and answer requests until more bytes have to arrive, a handler is suspended, or the client blocks."""
        self.outbox.corked = True
        try:
            self._read_requests()
        except Exception:
            log.failure("a request could not be read")
            self.abort()
        self.outbox.uncork()
        self._settle()

    def _read_requests(self) -> None:
        reader, outbox = self._reader, self.outbox
        while self._phase is READING and not outbox.blocked:
            before = reader.state
            event = reader.next()
            if event is None:
                if before is IDLE and reader.state is HEAD:
                    self._wait_for_client(self._site.limits.head_seconds)
                return
            if isinstance(event, bytes):
                self._add(event)
            elif isinstance(event, Fault):
                self._refuse(event.code, event.start)
            else:
                self._begin(event)

    def _settle(self) -> None:
        """Count what the reader keeps, and pause or resume reading accordingly."""
        kept = self._reader.kept
        if not self._account.keep(kept):
            if self._phase is READING and self._request is None:
                self._refuse(503)
            else:
                self.evict()
            return
        is_busy = self._phase is ANSWERING or (self._phase is READING and self.outbox.blocked)
        pauses = is_busy and kept >= _AHEAD
        if self._phase is not GONE and pauses is not self._paused:
            self._paused = pauses
            if pauses:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()

    def _begin(self, head: Head) -> None:
        request = self._request = FrontRequest(self, head)
        length = head[2].length
        if length and length > request.route.profile.max_body:
            self._answer_unread(request, RequestEntityTooLarge())
        elif not self._account.admit(request, length or 0):
            self._answer_unread(request, overloaded(request))
        elif length == 0:
            self._site.memory.remove_evictable(self)
            self._answer(request)
        else:
            self._wait_for_client(self._site.limits.body_seconds)
            if head[2].expects and not self._reader.kept:
                self.outbox.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _add(self, piece: bytes) -> None:
        """Add a piece of the body; answer if that was the last one."""
        request = self._request
        assert request is not None
        before = request.held - REQUEST_COST
        size = before + len(piece)
        if size + self._reader.promised > request.route.profile.max_body:
            self._answer_unread(request, RequestEntityTooLarge())
            return
        if not self._account.add_body(request, len(piece)):
            self._answer_unread(request, overloaded(request))
            return
        request.add(piece)
        if self._reader.state is DONE:
            self._site.memory.remove_evictable(self)
            self._answer(request)
        elif size // BODY_STEP > before // BODY_STEP:
            self._wait_for_client(self._site.limits.body_seconds)

    def _wait_for_client(self, seconds: float) -> None:
        """Wait for the client to send more, for so many seconds; the connection can be evicted meanwhile."""
        site = self._site
        self.deadline = site.now + seconds
        site.memory.add_evictable(self, site.now)

    def hold(self, request: FrontRequest, size: int) -> None:
        """See `Account.hold`."""
        if self._phase is not GONE:
            self._account.hold(request, size)

    def _answer(self, request: FrontRequest) -> None:
        self._request = request
        self._phase = ANSWERING
        self.deadline = NEVER
        self._site.dispatcher.begin(request, request.route, request.key)

    def _answer_unread(self, request: FrontRequest, why: HTTPException) -> None:
        """Answer a request without reading its body; the connection closes after that."""
        request.refuse(why)
        self._site.memory.remove_evictable(self)
        self._answer(request)

    def _refuse(self, code: int, start: bytes = b"") -> None:
        """Answer a malformed, late or unaffordable request by a bare status; the connection closes after that."""
        request, self._request = self._request, None
        site = self._site
        start = start or self._reader.start_of_head()
        if request is not None:
            self._account.release(request)
        refused = Refused(self.client, code, site.wall(), start, request)
        site.dispatcher.refused(refused, None if request is None else request.route)
        self.outbox.send(site.replies.refusal(code, site.now))
        self._close(lingers=True)

    # --- what is sent ---------------------------------------------------------------------------------------------

    def wall(self) -> float:
        """The time, in seconds since the epoch."""
        return self._site.wall()

    def send_head(self, request: FrontRequest, code: int, headers: Any, framing: bytes, body: bytes = b"") -> None:
        """Send the head of a response, and a body that is there already."""
        site = self._site
        if not request.keep_alive or site.draining:
            request.keep_alive = False
            framing += b"Connection: close\r\n"
        elif request.version == b"0":
            framing += b"Connection: keep-alive\r\n"
        if request.sender is not None:
            framing += request.sender.lines
        head = site.replies.head(code, headers, site.now)
        if len(body) <= LARGE:
            self.outbox.send(b"%b%b\r\n%b" % (head, framing, body))
        else:
            self.outbox.send(b"%b%b\r\n" % (head, framing))
            self.outbox.send(body)

    def answered(self, request: FrontRequest) -> None:
        """Called once all of a response is in the outbox."""
        if self._phase is not ANSWERING:
            return
        self._request = None
        site, reader = self._site, self._reader
        site.memory.held -= request.held
        if not request.keep_alive or site.draining:
            self._close(lingers=request.unread or bool(reader.kept))
            return
        self._phase = READING
        if not self.outbox.blocked:
            self.deadline = site.now + site.limits.idle_seconds
        if reader.state is DONE:
            reader.go_on()
        if (self._account.kept or self._paused) and not self.outbox.corked:
            self._advance()

    def produce(self, producer: IPushProducer | None) -> None:
        """Pause and resume a producer as the client takes what it is sent; None: no producer any more."""
        self._producer = producer
        if producer is not None and self.outbox.blocked:
            producer.pauseProducing()

    def pauseProducing(self) -> None:
        """Called by the transport when it has bytes that the client does not take for now."""
        site = self._site
        if self.outbox.blocked or self._phase is GONE:
            return
        self.outbox.blocked = True
        self._stall = Stall(self.transport, site.now, site.limits.idle_seconds)
        self.deadline = self._stall.until
        if self._producer is not None:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """Called by the transport when it has sent all that it had."""
        outbox = self.outbox
        if self._phase is GONE or not outbox.blocked:
            return
        outbox.resume()
        if outbox.blocked or self._phase is GONE:
            return
        if self._phase is CLOSING:
            self._close_transport()
        elif self._phase is READING:
            state = self._reader.state
            seconds = seconds_to_read(state, self._site.limits)
            if state is IDLE:
                self.deadline = self._site.now + seconds
            else:
                self._wait_for_client(seconds)
            self._advance()
        else:
            self.deadline = NEVER
            if self._producer is not None:
                self._producer.resumeProducing()

    def stopProducing(self) -> None:
        """Called by the transport when the connection is lost; `connectionLost` is called as well."""
