"""One request and its response. Handlers use it like a request of twisted.web, of which it has what they need."""

from __future__ import annotations

from typing import Any, Protocol

from klein import Response
from twisted.internet.interfaces import IPushProducer
from werkzeug.exceptions import HTTPException

from kvtwist.model import LEFT, Exchange
from kvtwist.web.dispatch import SuspendedHandler
from kvtwist.web.heads import Head
from kvtwist.web.outbox import Outbox
from kvtwist.web.routing import Route

_NO_BODY = frozenset({204, 304})
_COPIED = 64 * 1024
"""Pieces of a response up to this size are copied into their chunk; larger ones are sent without a copy."""
_PIECE = 16 * 1024
"""Smaller pieces of a body are joined: as objects of their own they would take many times their size in memory."""


class Channel(Protocol):
    """
    The connection, as a request uses it.

    :ivar client: the client's address.
    :ivar outbox: sends the bytes of responses.
    """

    outbox: Outbox

    @property
    def client(self) -> str: ...

    def wall(self) -> float:
        """The time, in seconds since the epoch."""

    def send_head(self, request: FrontRequest, code: int, headers: Any, framing: bytes, body: bytes = b"") -> None:
        """Send the head of a response, and a body that is there already."""

    def answered(self, request: FrontRequest) -> None:
        """Called once all of a response is in the outbox."""

    def hold(self, request: FrontRequest, size: int) -> None:
        """See `FrontRequest.hold`."""

    def produce(self, producer: IPushProducer | None) -> None:
        """Pause and resume a producer as the client takes what it is sent; None: no producer any more."""

    def abort(self) -> None:
        """Close the connection now."""


class FrontRequest:
    """
    One request on a connection.

    :ivar conditional: whether it has a precondition (RFC 9110, 13.1).
    :ivar error: see `kvtwist.web.dispatch.Request`.
    :ivar endless: whether its handler waits for events that may never come. When the server stops, it is cancelled, and
        ends the response.
    :ivar held: bytes that request memory counts for it.
    :ivar extra: those of them that its handler holds for the rest of its response.
    :ivar sender: the web page that made a browser send it; None for other clients.
    :ivar unread: whether its body is not read, and may still arrive.
    """

    # Without slots, CPython lays instances out after the first ones. If those still lacked attributes, as they do while
    # they are being answered, each later instance needs a dictionary as well.
    __slots__ = (
        "_body",
        "_connection",
        "_fields",
        "_headers",
        "_refusal",
        "began",
        "chunked",
        "conditional",
        "endless",
        "error",
        "extra",
        "gone",
        "held",
        "keep_alive",
        "key",
        "method",
        "route",
        "sender",
        "sent",
        "started",
        "status",
        "suspended",
        "unread",
        "uri",
        "version",
    )

    def __init__(self, connection: Channel, head: Head, body: bytes = b"") -> None:
        self._connection = connection
        self._body: bytes | list[bytes] = body
        self._refusal: HTTPException | None = None
        self._headers: dict[str | bytes, str | bytes] | None = None
        self.method, self.uri, fields, (self.route, self.key) = head
        self._fields = fields
        self.conditional = fields.conditional
        self.version = fields.version
        self.keep_alive = fields.keep_alive
        self.suspended: SuspendedHandler | None = None
        sender = self.sender = fields.sender
        self.error: HTTPException | None = None if sender is None else sender.refuse(self.method)
        self.gone = self.started = self.chunked = self.unread = self.endless = False
        self.held = self.extra = self.status = self.sent = 0
        self.began = 0.0

    # --- its head and its body, for handlers ----------------------------------------------------------------------

    def getHeader(self, name: bytes) -> bytes | None:
        """A header, one of `kvtwist.web.heads.FOR_HANDLERS`; None if it is not there."""
        return self._fields.headers.get(name)

    @property
    def content(self) -> FrontRequest:
        """The body as a file: it has `read`."""
        return self

    def read(self) -> bytes:
        """The whole body, which is freed; raises the reason if it was refused unread."""
        if self._refusal is not None:
            raise self._refusal
        body, self._body = self._body, b""
        return body if isinstance(body, bytes) else b"".join(body)

    def add(self, piece: bytes) -> None:
        """Append a piece of the body."""
        body = self._body
        if not body:
            self._body = piece
        elif isinstance(body, bytes):
            self._body = [body, piece]
        elif len(body[-1]) < _PIECE:
            body[-1] += piece
        else:
            body.append(piece)

    def refuse(self, reason: HTTPException) -> None:
        """Refuse the body: `read` raises the reason, and the connection closes after the response."""
        self._refusal = reason
        self._body = b""
        self.unread = True
        self.keep_alive = False

    # --- its response, for handlers -------------------------------------------------------------------------------

    def setHeader(self, name: str | bytes, value: str | bytes) -> None:
        """Set a header of a response that is written piece by piece."""
        if self._headers is None:
            self._headers = {}
        self._headers[name] = value

    def write(self, data: bytes) -> None:
        """Write a piece of the response."""
        if self.gone:
            return
        if not self.started:
            self._start()
        if not data or self.method == b"HEAD":
            return
        size = len(data)
        self.sent += size
        outbox = self._connection.outbox
        if not self.chunked:
            outbox.send(data)
        elif size <= _COPIED:
            outbox.send(b"%x\r\n%b\r\n" % (size, data))
        else:
            outbox.send(b"%x\r\n" % size)
            outbox.send(data)
            outbox.send(b"\r\n")

    def hold(self, size: int) -> None:
        """
        Count the bytes that the handler holds for the rest of its response; replaces the count before.

        :raises ServiceUnavailable: there is no request memory for them.
        """
        self._connection.hold(self, size)

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        """Pause the producer while the client takes no more."""
        self._connection.produce(producer)

    def unregisterProducer(self) -> None:
        """Pause no producer any more."""
        self._connection.produce(None)

    def _start(self) -> None:
        self.started = True
        self.status = 200
        headers = self._headers or {}
        if self._length() is None:
            self.chunked = self.version == b"1" and self.method != b"HEAD"
            if self.version == b"0":
                self.keep_alive = False
        framing = b"Transfer-Encoding: chunked\r\n" if self.chunked else b""
        self._connection.send_head(self, 200, headers, framing)

    # --- what the dispatcher does ---------------------------------------------------------------------------------

    def reply(self, response: Response) -> None:
        """See `Request.reply`."""
        code = self.status = response.code
        body = response.body or b""  # Klein's default is text
        framing = b"" if code in _NO_BODY else b"Content-Length: %d\r\n" % len(body)
        if self.method == b"HEAD" or not framing:
            body = b""
        self.sent = len(body)
        connection = self._connection
        connection.send_head(self, code, response.headers, framing, body)
        connection.answered(self)

    def finish(self) -> None:
        """See `Request.finish`."""
        if not self.started:
            self._start()
        if self.chunked and not self.gone:
            self._connection.outbox.send(b"0\r\n\r\n")
        self._connection.answered(self)

    def abort(self) -> None:
        """See `Request.abort`."""
        self._connection.abort()

    def left(self, is_complete: bool) -> None:
        """
        The client is gone. Its response counts as complete if it has got as many bytes as the head promised, although
        the handler has not returned.

        :param is_complete: whether all that was written has been sent.
        """
        self.gone = True
        if not (is_complete and self.started and self.sent == self._length()):
            self.status = LEFT

    def _length(self) -> int | None:
        """The `Content-Length` that the handler has set, if it has."""
        lengths = [int(value) for name, value in (self._headers or {}).items() if _is_length(name)]
        return lengths[0] if lengths else None

    def exchange(self, route: Route, seconds: float) -> Exchange:
        """See `kvtwist.web.dispatch.Ended`."""
        return Exchange(
            route.profile.name,
            route.rule,
            self._connection.client,
            self.method,
            self.uri,
            b"HTTP/1.1" if self.version == b"1" else b"HTTP/1.0",
            self.status,
            seconds,
            self.sent,
            self._connection.wall(),
        )


def _is_length(name: str | bytes) -> bool:
    return name.lower() in ("content-length", b"content-length")
