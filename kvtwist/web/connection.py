"""
One connection of the front: it glues a reader of requests, a dispatcher and an outbox to one of Twisted's transports.

It is in one of these phases. Beside that it may be *blocked*: its client does not take what it is sent.

| what happens     | READING                       | ANSWERING                | CLOSING             |
|------------------|-------------------------------|--------------------------|---------------------|
| bytes arrive     | read on; a request that is whole is begun: ANSWERING | kept, up to 64 KiB | thrown away |
| a faulty request | its status: CLOSING           |                          |                     |
| answered         |                               | READING, or CLOSING if it was the last answer |   |
| client takes nothing (blocked) | no request is begun | the handler is told to wait | nothing          |
| client takes again | go on with what was kept    | the handler is told to go on | closed once all is sent |
| client has finished sending | closed once all is sent | the request is given up, closed once all is sent | likewise |
| its time is over | 408 or, between requests, nothing: CLOSING | (only if it is blocked) hung up on | hung up on |
| no room is left  | 503: CLOSING, or hung up on   | hung up on               | hung up on          |

After that it is GONE. Its time is: between requests `idle_seconds`; for a head `head_seconds` from its first byte; for
each 64 KiB of a body `body_seconds`; a client that takes nothing has `idle_seconds` to take something; while a request
is being answered there is no limit.
"""

from __future__ import annotations

from contextlib import suppress
from enum import Enum
from typing import Any, Protocol

from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer, IReactorTime
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, ServiceUnavailable
from zope.interface import implementer

from kvtwist.web import transports
from kvtwist.web.dispatch import Dispatcher
from kvtwist.web.heads import Head, HeadReader
from kvtwist.web.limits import WebLimits
from kvtwist.web.outbox import JOINED, Outbox
from kvtwist.web.poller import Poller
from kvtwist.web.reader import DONE, HEAD, IDLE, Fault, Reader
from kvtwist.web.refusal import Refused, client_of
from kvtwist.web.replies import Replies
from kvtwist.web.request import FrontRequest
from kvtwist.web.request_memory import REQUEST_COST, STALLED_SECONDS, RequestMemory

log = Logger(namespace="kvtwist.web")

LINGER_SECONDS = 2.0
_AHEAD = 64 * 1024
"""How many bytes are read ahead of the request that is being answered."""
_STEP = 64 * 1024
"""A client that has sent or taken so much has done something worth mentioning."""
_GATHERED = 64
_SMALL = 4 * 1024
"""So many pieces of answers to requests that have come together, and of that size, are sent together."""
_NEVER = float("inf")


class Phase(Enum):
    """See the table above."""

    READING = "reading"
    ANSWERING = "answering"
    CLOSING = "closing"
    GONE = "gone"


READING, ANSWERING, CLOSING, GONE = Phase


class Site(Protocol):
    """
    What all connections of a server share.

    :ivar now: the clock's time as it was a moment ago.
    :ivar poller: watches the connections; None: the reactor does.
    """

    clock: IReactorTime
    dispatcher: Dispatcher
    heads: HeadReader
    memory: RequestMemory
    limits: WebLimits
    now: float
    poller: Poller | None
    replies: Replies

    def opened(self, connection: FrontConnection) -> None:
        """Called by a connection once it is there."""

    def closed(self, connection: FrontConnection) -> None:
        """Called by a connection once it is gone."""

    def send_soon(self, connection: FrontConnection) -> None:
        """Have `flush` called: at the end of the turn, or in a moment."""

    def look_soon(self, connection: FrontConnection) -> None:
        """Have `look` called in a moment."""

    def wall(self) -> float:
        """The time, in seconds since the epoch."""


@implementer(IHalfCloseableProtocol)
class FrontConnection(TwistedProtocol):
    """
    One connection.

    :ivar deadline: when its time is over, in seconds of the site's clock.
    :ivar progressed: see `kvtwist.web.request_memory.Evictable`.
    """

    transport: Any

    def __init__(self, site: Site) -> None:
        self.deadline = _NEVER
        self.progressed = 0.0
        self._site = site
        self._phase = READING
        self._reader = Reader(site.heads, site.limits)
        self._request: FrontRequest | None = None
        """The one whose body is being read, or that is being answered."""
        self._begun = False
        """Whether the head that is being read has its time."""
        self._step = 0
        """Bytes of its body that have arrived since its client last got more time."""
        self._in_line = False
        """Whether it is among those that wait for their clients."""
        self._kept = 0
        """Bytes that the reader keeps, as they are counted."""
        self._received = 0
        """Bytes of the body that have come."""
        self._extra = 0
        """Bytes that are counted for what a handler holds for the rest of its answer."""
        self._paused = False
        """Whether the transport was told not to read."""
        self._advancing = False
        self._out: list[bytes] = []
        self._listed = False
        """Whether `_out` waits for the end of the turn."""
        self._gathers = False
        """Whether what is sent may wait for that."""
        self._producer: IPushProducer | None = None
        self._untaken = 0
        """What the client had still to take when that was last looked at."""
        self._patience = _NEVER
        """When a client is hung up on that takes nothing."""
        self._last = False
        """Whether the next answer is the last one."""
        self._unheard = False
        """Whether the client may still be sending when the connection is closed."""

    # --- its life -------------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Called by the transport."""
        transport, site = self.transport, self._site
        self._socket = transports.socket_of(transport)
        self._tls = self._socket is None and transports.is_tls(transport)
        self._outbox = Outbox(site.memory, transport, self._socket)
        if self._socket is not None and site.poller is not None:
            site.poller.adopt(transport)
            self._gathers = True
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
        self._give_up()
        self._let_go()

    def readConnectionLost(self) -> None:
        """
        Called by the transport when the client has finished sending. It is taken to have left, as most of those have,
        and so nothing more is done for it; but what has been answered is sent to its end.
        """
        self._give_up()
        if self._phase is CLOSING and not self._outbox.blocked:
            self.transport.loseConnection()
        elif self._phase is not GONE:
            self._close(unheard=False)

    def writeConnectionLost(self) -> None:
        """Called by the transport once all is sent that will be sent, if we go on reading."""

    @property
    def client(self) -> str:
        """Its client's address. (A proxy may tell it with the first bytes.)"""
        return client_of(self.transport)

    def finish_up(self) -> None:
        """Close the connection, once the request that is being answered, or read, has been answered."""
        self._last = True
        if self._phase is READING and self._reader.state is IDLE and not self._reader.kept:
            self._close(unheard=False)

    def abort(self) -> None:
        """Close the connection now."""
        self.evict()

    def evict(self) -> None:
        """See `kvtwist.web.request_memory.Evictable`."""
        self._phase = GONE
        self._give_up()  # now: what its handler holds would stay until the reactor's next turn, beside that of others
        self._let_go()
        self.transport.abortConnection()

    def _let_go(self) -> None:
        """Nothing is read or sent any more, and nothing is held."""
        self._phase = GONE
        self.deadline = _NEVER
        self._reader.stop()
        self._out.clear()
        self._outbox.clear()
        self._leave()
        self._site.memory.give_back(self._kept)
        self._kept = 0

    def _give_up(self) -> None:
        """Nobody waits for the request any more."""
        request, self._request = self._request, None
        if request is None:
            return
        self._release(request)
        request.left(is_complete=not self._out and not self._outbox.blocked)
        if self._producer is not None:
            self._producer.stopProducing()
        if request.suspended is not None:
            request.suspended.cancel()

    def _close(self, unheard: bool) -> None:
        """
        Close the connection once all is sent.

        :param unheard: whether its client may still be sending. Then it is closed for writing first, and for good once
            the client has finished or has had some seconds (RFC 9112, 9.6), since closing it at once would take the
            answer back.
        """
        self._phase = CLOSING
        self._unheard = unheard
        self._reader.stop()
        self.flush()
        if self._phase is CLOSING:
            self._settle()
            if not self._outbox.blocked:
                self._end()

    def _end(self) -> None:
        """All is sent, but for what a TLS layer still has."""
        transport, site = self.transport, self._site
        self._leave()
        self._untaken = transports.untaken(transport)
        self._patience = site.now + site.limits.idle_seconds
        self.deadline = site.now + LINGER_SECONDS
        transport.unregisterProducer()
        if self._unheard and not self._tls:
            transport.loseWriteConnection()
        else:  # TLS waits for its client by itself
            transport.loseConnection()
        self._paused = False
        transport.resumeProducing()

    def too_late(self) -> None:
        """Its deadline has passed."""
        if self._outbox.blocked or self._phase is CLOSING:
            self._hang_up_unless_it_reads()
        elif self._request is not None or self._reader.state is not IDLE:
            self._refuse(408)
        else:
            self._close(unheard=False)

    def _hang_up_unless_it_reads(self) -> None:
        now = self._site.now
        before, self._untaken = self._untaken, transports.untaken(self.transport)
        if self._untaken < before:
            self._patience = now + self._site.limits.idle_seconds
        lingers = self._phase is CLOSING and (self._unheard or self._tls)  # else it is closed at its next turn
        if now >= self._patience or (lingers and not self._untaken):
            self.abort()
        else:
            self.deadline = min(self._patience, now + LINGER_SECONDS)

    # --- what arrives ---------------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Called by the transport."""
        reader = self._reader
        if (  # all of a request that is like others before it, as most are: the short way of all that follows
            reader.state is IDLE
            and self._phase is READING
            and len(data) <= reader.short
            and not (reader.kept or self._outbox.blocked)
        ):
            whole = self._site.heads.read_request(data)
            if whole is not None and self._begin_whole(*whole):
                return
        reader.receive(data)
        self._advance()

    def _begin_whole(self, head: Head, body: bytes) -> bool:
        """Answer a request that has come as a whole, unless there is something special about it."""
        request = FrontRequest(self, head, body)
        held = REQUEST_COST + len(body)
        if len(body) > request.route.profile.max_body or not self._site.memory.take(held):
            return False
        request.held = held
        self._answer(request)
        return True

    def _advance(self) -> None:
        """Work through what has arrived, as far as there is enough of it, until a request has to be waited for."""
        self._advancing = True
        try:
            while self._phase is READING and not self._outbox.blocked:
                event = self._reader.next()
                if event is None:
                    break
                if isinstance(event, bytes):
                    self._add(event)
                elif isinstance(event, Fault):
                    self._refuse(event.code, event.start)
                else:
                    self._begin(event)
        except Exception:
            log.failure("a request could not be taken")
            self.abort()
        self._advancing = False
        self._settle()

    def _settle(self) -> None:
        """Bring in line what follows from what has been read and sent: what is counted, whether more is read."""
        if self._reader.state is HEAD and not self._begun and not self._outbox.blocked:
            self._begun = True
            self.deadline = self._site.now + self._site.limits.head_seconds
            self._wait()
        if self._count_kept():
            self._read_or_pause()
        if self._out and self._phase is not GONE:
            self._send_soon()

    def _count_kept(self) -> bool:
        kept = self._reader.kept
        more = kept - self._kept
        if more > 0 and not self._make_room(more, large=kept > _SMALL):
            if self._phase is READING and self._request is None:
                self._refuse(503)
            else:
                self.evict()
            return False
        if more < 0:
            self._site.memory.give_back(-more)
        self._kept = kept
        return True

    def _read_or_pause(self) -> None:
        """Read unless enough is kept of what cannot be looked at yet."""
        if self._phase is READING and not self._outbox.blocked:
            reads = True
        else:
            reads = self._phase is CLOSING or (self._phase is not GONE and self._kept < _AHEAD)
        if reads is self._paused:
            self._paused = not reads
            if reads:
                self.transport.resumeProducing()
            elif self._phase is not GONE:
                self.transport.pauseProducing()

    def _begin(self, head: Head) -> None:
        self._begun = False
        request = self._request = FrontRequest(self, head)
        length = head[2].length
        if length and length > request.route.profile.max_body:
            self._answer_unread(request, RequestEntityTooLarge())
        elif not self._admit(request, length or 0):
            self._answer_unread(request, _overloaded(request))
        elif length == 0:
            self._answer(request)
        else:
            self._step = self._received = 0
            self.deadline = self._site.now + self._site.limits.body_seconds
            self._wait()
            if head[2].expects and not self._reader.kept:
                self.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _admit(self, request: FrontRequest, length: int) -> bool:
        """
        Take what a request itself costs, if there is room for that and, as things are, for its body. The body is
        counted when it arrives: to announce one must not cost others anything.
        """
        memory = self._site.memory
        if request.route.is_urgent:
            if not memory.take_urgent(REQUEST_COST):
                return False
        elif not self._make_room(REQUEST_COST + length, large=length > _STEP):
            return False
        else:
            memory.give_back(length)
        request.held = REQUEST_COST
        return True

    def _add(self, piece: bytes) -> None:
        """A piece of the body has come."""
        request = self._request
        assert request is not None
        size = self._received = self._received + len(piece)
        if size + self._reader.promised > request.route.profile.max_body:
            self._answer_unread(request, RequestEntityTooLarge())
            return
        if not self._make_room(len(piece), large=size > _STEP):
            self._answer_unread(request, _overloaded(request))
            return
        request.held += len(piece)
        request.add(piece)
        if self._reader.state is DONE:
            self._answer(request)
            return
        self._step += len(piece)
        if self._step >= _STEP:
            self._step %= _STEP
            self.deadline = self._site.now + self._site.limits.body_seconds
            self._wait()

    def _wait(self) -> None:
        """Its client has just done something, and is waited for again."""
        self._in_line = True
        self._site.memory.add_evictable(self, self._site.now)

    def _leave(self) -> None:
        """Its client is not waited for."""
        self._in_line = False
        self._site.memory.remove_evictable(self)

    def _make_room(self, size: int, large: bool) -> bool:
        """Take so many bytes, at the cost of clients that have done nothing for a while."""
        return self._site.memory.take_evicting(size, self._site.now - STALLED_SECONDS, large)

    def hold(self, request: FrontRequest, size: int) -> None:
        """
        Count what a handler holds for the rest of its answer, in bytes.

        :raises ServiceUnavailable: there is no room for it.
        """
        more = size - self._extra
        if more > 0 and self._phase is not GONE and not self._make_room(more, large=True):
            raise _overloaded(request)
        if more < 0:
            self._site.memory.give_back(-more)
        self._extra = size
        request.held += more

    def _release(self, request: FrontRequest) -> None:
        self._site.memory.held -= request.held
        request.held = self._extra = 0

    def _answer(self, request: FrontRequest) -> None:
        self._request = request
        self._phase = ANSWERING
        self.deadline = _NEVER
        if self._in_line:
            self._leave()
        self._site.dispatcher.begin(request, request.route, request.key)

    def _answer_unread(self, request: FrontRequest, why: HTTPException) -> None:
        """Answer a request whose body is not read; the connection cannot go on after that."""
        request.refuse(why)
        self._answer(request)

    def _refuse(self, code: int, start: bytes = b"") -> None:
        """Answer what is no request, or is none in time, by a status; the connection cannot go on after that."""
        request, self._request = self._request, None
        site = self._site
        start = start or self._reader.start_of_head()
        if request is not None:
            self._release(request)
        refused = Refused(self.client, code, site.wall(), start, request)
        site.dispatcher.refused(refused, None if request is None else request.route)
        self._out.append(site.replies.refusal(code, site.now))
        self._close(unheard=True)

    # --- what is sent ---------------------------------------------------------------------------------------------

    def wall(self) -> float:
        """The time, in seconds since the epoch."""
        return self._site.wall()

    def send_head(self, request: FrontRequest, code: int, headers: Any, framing: bytes, body: bytes = b"") -> None:
        """Send the head of a response, and a body that is there already."""
        if not request.keep_alive or self._last:
            request.keep_alive = False
            framing += b"Connection: close\r\n"
        elif request.version == b"0":
            framing += b"Connection: keep-alive\r\n"
        site, out, size = self._site, self._out, len(body)
        head = site.replies.head(code, headers, site.now)
        if size <= JOINED:
            out.append(b"%b%b\r\n%b" % (head, framing, body))
        else:
            out.append(b"%b%b\r\n" % (head, framing))
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
        """Send what has been gathered: to the socket, if nothing waits there already; else the transport does."""
        self._listed = False
        out = self._out
        if not out or self._phase is GONE:
            return
        if len(out) == 1:
            data = out.pop()
        elif len(out[-1]) > JOINED:
            large = out.pop()
            self.flush()
            data = large
        else:
            data = b"".join(out)
            out.clear()
        sent = 0
        if self._socket is not None and not self._outbox.blocked:
            try:
                sent = self._socket.send(data)
            except OSError:  # whatever it is, the transport will meet it and knows what to do
                sent = 0
            if sent == len(data):
                return
        if self._phase is not GONE:
            self._keep(data, sent)

    def _keep(self, data: bytes, sent: int) -> None:
        """Send what the socket has not taken as soon as the client takes more."""
        outbox = self._outbox
        self._leave()  # what it keeps must not be at its own cost
        self._wait_if_blocked(outbox.keep(data, sent))
        if self._tls and not outbox.blocked:
            self._site.look_soon(self)

    def look(self) -> None:
        """See whether a TLS layer has left anything unsent."""
        if self._phase is GONE or self._outbox.blocked:
            return
        transports.pause_if_unsent(self.transport)
        if self._outbox.blocked:
            self._leave()
            self._wait_if_blocked(self._outbox.count())

    def _wait_if_blocked(self, is_room: bool) -> None:
        """:param is_room: whether there was room to keep what is unsent."""
        if not is_room:
            self.evict()
        elif self._outbox.blocked:
            self._wait()

    def answered(self, request: FrontRequest) -> None:
        """Called once all of a response has been sent, or is on its way."""
        if self._phase is not ANSWERING:
            return
        self._request = None
        site, reader = self._site, self._reader
        site.memory.held -= request.held
        self._extra = 0
        if not request.keep_alive or self._last:
            self._close(unheard=request.unread or bool(reader.kept))
            return
        self._phase = READING
        if not self._outbox.blocked:
            self.deadline = site.now + site.limits.idle_seconds
        if reader.state is DONE:
            reader.go_on()
        if not self._advancing and (reader.kept or self._paused):
            self._advance()

    def produce(self, producer: IPushProducer | None) -> None:
        """Tell a producer when to pause; None: nobody."""
        self._producer = producer
        if producer is not None and self._outbox.blocked:
            producer.pauseProducing()

    def pauseProducing(self) -> None:
        """Called by the transport when its client takes no more for now."""
        outbox, site = self._outbox, self._site
        if outbox.blocked or self._phase is GONE:
            return
        outbox.blocked = True
        self._untaken = transports.untaken(self.transport)
        self._patience = self.deadline = site.now + site.limits.idle_seconds
        if self._producer is not None:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        """Called by the transport when its client has taken all that was sent."""
        outbox = self._outbox
        if self._phase is GONE or not outbox.blocked:
            return
        outbox.blocked = False
        self._leave()
        self._wait_if_blocked(outbox.go_on())
        if outbox.blocked or self._phase is GONE:
            return
        if self._phase is CLOSING:
            self._end()
        elif self._phase is READING:
            self.deadline = self._site.now + self._time_to_read()
            if self._request is not None or self._reader.state is HEAD:
                self._wait()
            self._advance()
        else:
            self.deadline = _NEVER
            if self._producer is not None:
                self._producer.resumeProducing()

    def _time_to_read(self) -> float:
        """How long its client has for what it is to send next, in seconds."""
        limits = self._site.limits
        if self._request is not None:
            return limits.body_seconds
        return limits.idle_seconds if self._reader.state is IDLE else limits.head_seconds

    def stopProducing(self) -> None:
        """Called by the transport when it is gone; it says so otherwise, too."""


def _overloaded(request: FrontRequest) -> HTTPException:
    request.overload = ServiceUnavailable("the server has too much to do")
    return request.overload
