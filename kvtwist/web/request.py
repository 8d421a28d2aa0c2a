"""One request and its response; for handlers, what they use of twisted.web's."""

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
"""Pieces of an answer up to this size are copied into their chunk; larger objects are sent as they are."""
_PIECE = 16 * 1024
"""Pieces of a body that are smaller are put together: who sends it byte by byte shall not take many times its size."""


class Channel(Protocol):
    """
    What a request asks of its connection.

    :ivar client: its client's address.
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
        """Called once all of a response has been sent, or is on its way."""

    def hold(self, request: FrontRequest, size: int) -> None:
        """See `FrontRequest.hold`."""

    def produce(self, producer: IPushProducer | None) -> None:
        """Tell a producer when to pause; None: nobody."""

    def abort(self) -> None:
        """Hang up."""


class FrontRequest:
    """
    One of them, on a connection.

    :ivar held: bytes that request memory counts for it.
    :ivar extra: those of them that its handler holds for the rest of its answer.
    :ivar unread: whether its body is not read, and may still be coming.
    """

    # Without slots, CPython gives instances room for the attributes that the first ones had when the next were made: if
    # those were still being answered, every later request needs a dictionary as well.
    __slots__ = (
        "_body",
        "_connection",
        "_headers",
        "_refusal",
        "began",
        "chunked",
        "extra",
        "gone",
        "held",
        "keep_alive",
        "key",
        "method",
        "overload",
        "route",
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
        self.version = fields.version
        self.keep_alive = fields.keep_alive
        self.suspended: SuspendedHandler | None = None
        self.overload: HTTPException | None = None
        self.gone = self.started = self.chunked = self.unread = False
        self.held = self.extra = self.status = self.sent = 0
        self.began = 0.0

    # --- its body, for handlers -----------------------------------------------------------------------------------

    @property
    def content(self) -> FrontRequest:
        """The body: something to be read."""
        return self

    def read(self) -> bytes:
        """The whole body, which is not kept after that; raises why it was not read."""
        if self._refusal is not None:
            raise self._refusal
        body, self._body = self._body, b""
        return body if isinstance(body, bytes) else b"".join(body)

    def add(self, piece: bytes) -> None:
        """A piece of the body has come."""
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
        """Read no body, and let whoever asks for it hear why."""
        self._refusal = reason
        self._body = b""  # nor is what has come of it kept
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
        Say how many bytes the handler holds for the rest of the answer, in place of what it has said before.

        :raises ServiceUnavailable: there is no room for that.
        """
        self._connection.hold(self, size)

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
        if self._length() is None:
            self.chunked = self.version == b"1" and self.method != b"HEAD"
            if self.version == b"0":
                self.keep_alive = False
        framing = b"Transfer-Encoding: chunked\r\n" if self.chunked else b""
        self._connection.send_head(self, 200, headers, framing)

    # --- what the dispatcher does ---------------------------------------------------------------------------------

    def reply(self, response: Response) -> None:
        """See `Request.reply`."""
        self.started = True
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
        Its client is gone.

        :param is_complete: whether it has been sent all that was written. If that is all that was promised, it has got
            its answer, although the handler may still have something to do.
        """
        self.gone = True
        if not (is_complete and self.started and self.sent == self._length()):
            self.status = LEFT

    def _length(self) -> int | None:
        """How long a response is that is written piece by piece, where its handler has said so."""
        lengths = [int(value) for name, value in (self._headers or {}).items() if _is_length(name)]
        return lengths[0] if lengths else None

    def exchange(self, route: Route, seconds: float) -> Exchange:
        """See `Request.exchange`."""
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
