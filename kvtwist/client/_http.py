"""
One request and its response over treq, and what a failure says about whether the server has seen the request.

A body is read as it is needed: the connection pauses while its reader has more than it has taken.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Coroutine, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from attrs import Factory, frozen
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionClosed, DNSLookupError
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web._newclient import RequestNotSent
from twisted.web.client import (
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer, IResponse
from zope.interface import implementer

from kvtwist.client._deferred import within

T = TypeVar("T")
_AHEAD = 64 * 1024
"""How many bytes of a body may wait for its reader."""
_open: set[Body] = set()
"""
All that have not ended. The reactor refers only to connections that it reads from. Without this set, one that pauses
could become garbage, and its socket be closed without the reactor knowing.
"""


class Unsent(Exception):
    """The server has not seen the request."""


class _NotConnected(CancelledError):
    """The request was given up before there was a connection."""


class Cut(Exception):
    """The server may have seen the request; there is no whole response."""


@frozen
class Request:
    """
    :ivar path: percent-encoded, relative to the base URL.
    :ivar params: of the query.
    """

    method: str
    path: str
    params: Mapping[str, str] = Factory(dict)
    headers: Mapping[str, str] = Factory(dict)
    body: bytes | None = None


@frozen
class Answer:
    """A whole response."""

    status: int
    headers: Headers
    body: bytes

    def header(self, name: str) -> str | None:
        """The first header of that name."""
        values = self.headers.getRawHeaders(name)
        return values[0] if values else None


class Body(Protocol):
    """The body of a response."""

    transport: Any

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._reader: Deferred[None] | None = None
        self._end: Failure | None = None

    def connectionMade(self) -> None:
        """Called by the connection."""
        _open.add(self)

    def dataReceived(self, data: bytes) -> None:
        """Called by the connection."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= _AHEAD:
            self.transport.pauseProducing()
        self._wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Called by the connection at the end of the body, and when it is lost before that."""
        self._end = reason
        _open.discard(self)
        self._wake()

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.callback(None)

    async def read(self) -> bytes:
        """
        What has arrived since the last call, once there is anything; nothing at the end.

        :raises Cut: the connection was lost before the end.
        """
        while not self._pieces and self._end is None:
            self._reader = Deferred()
            await self._reader
        if self._pieces:
            data = b"".join(self._pieces)
            self._pieces.clear()
            paused, self._size = self._size >= _AHEAD, 0
            if paused and self._end is None:
                self.transport.resumeProducing()
            return data
        assert self._end is not None
        if self._end.check(ResponseDone):
            return b""
        raise Cut(reason_of(self._end))

    def close(self) -> None:
        """Close the connection, unless all of the body has arrived."""
        if self._end is None:
            self.transport.loseConnection()


@implementer(IBodyProducer)
class WholeBody:
    """Sends the body of a request at once. (Twisted's and treq's own read a file, little by little.)"""

    def __init__(self, body: bytes) -> None:
        self.length = len(body)
        self._body = body

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Called when the head has been sent."""
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Do nothing: all has been sent."""

    def resumeProducing(self) -> None:
        """Do nothing."""

    def stopProducing(self) -> None:
        """Do nothing."""


@frozen
class Sender:
    """
    Sends requests to one server.

    :ivar base: its URL, without a slash at the end.
    """

    base: str
    _treq: HTTPClient
    _clock: IReactorTime

    async def whole(self, request: Request, seconds: float) -> Answer:
        """
        Send a request, and receive all of the response, within so many seconds.

        :raises Unsent: the server has not seen the request.
        :raises Cut: there is no whole response.
        """
        return await self._within(seconds, self._whole(request))

    async def begin(self, request: Request, seconds: float) -> tuple[IResponse, Body]:
        """Send a request, and receive the head of the response within so many seconds. The body must be closed."""
        return await self._within(seconds, self._begin(request))

    async def rest(self, response: IResponse, body: Body, seconds: float) -> Answer:
        """
        Receive the rest of a response within so many seconds.

        :raises Cut: there is no whole response.
        """
        return await self._within(seconds, _rest(response, body))

    async def _within(self, seconds: float, work: Coroutine[Deferred[Any], Any, T]) -> T:
        def late(failure: Failure) -> Exception:
            if failure.check(_NotConnected):
                return Unsent(f"no connection within {seconds:g} s")
            return Cut(f"no answer within {seconds:g} s")

        return await within(seconds, self._clock, work, late)

    async def _whole(self, request: Request) -> Answer:
        return await _rest(*await self._begin(request))

    async def _begin(self, request: Request) -> tuple[IResponse, Body]:
        query = f"?{urlencode(request.params, quote_via=quote, safe='')}" if request.params else ""
        try:
            response = await self._treq.request(
                request.method,
                self.base + request.path + query,
                headers=Headers({name: [value] for name, value in request.headers.items()}),
                data=request.body,
                allow_redirects=False,
                unbuffered=True,
            )
        except ConnectingCancelledError as error:
            raise _NotConnected from error
        except (ConnectError, DNSLookupError, RequestNotSent) as error:
            raise Unsent(str(error) or type(error).__name__) from error
        except (RequestGenerationFailed, RequestTransmissionFailed, ResponseFailed, ConnectionClosed) as error:
            raise Cut(reason_of(Failure(error))) from error
        body = Body()
        response.deliverBody(body)
        return response, body


async def _rest(response: IResponse, body: Body) -> Answer:
    pieces = []
    try:
        while piece := await body.read():
            pieces.append(piece)
    finally:
        body.close()
    return Answer(response.code, response.headers, b"".join(pieces))


def reason_of(failure: Failure) -> str:
    """
    Why a connection failed, in words.

    :raises CancelledError: because the caller has given the request up.
    """
    reasons = getattr(failure.value, "reasons", None)
    while reasons:
        failure = reasons[0]
        reasons = getattr(failure.value, "reasons", None)
    if failure.check(CancelledError):
        raise CancelledError
    return str(failure.value) or type(failure.value).__name__


def seconds_of(retry_after: str | None, now: float) -> float | None:
    """The seconds in a `Retry-After` header; :param now: the time, in seconds since the epoch."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except ValueError:
        return None
