"""
twisted.web in front of a profile: what the server's own front is compared with.

It parses and frames as twisted.web does; the same router finds the handler, which is called without our dispatcher.
Two things differ from twisted.web: it refuses what RFC 9112 says to refuse (no `Host`, several codings, a relative
target), and answers a body that is too large before it is read. It has no limits and no time: it is for tests alone.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, NoReturn

from klein import Response
from twisted.internet.defer import Deferred
from twisted.web.http import NO_BODY_CODES, HTTPChannel
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from werkzeug.exceptions import RequestEntityTooLarge

from kvtwist.klein_apps import error_response
from kvtwist.web.heads import PRECONDITIONS, is_host, is_target
from kvtwist.web.replies import SERVER
from kvtwist.web.routing import Route, Router
from tests.support.fronts import memory_store, profiles_over
from tests.support.net import Net, Peer

_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Stock:
    """
    A site of twisted.web over a store in memory and a `Net`.

    :ivar methods: those of all requests that were answered, in their order.
    """

    def __init__(self, profile: str) -> None:
        self.net = Net()
        self.store = memory_store(self.net)
        self.methods: list[bytes] = []
        self._site = _Site(Router(profiles_over(self.store, [profile])), self.net, self.methods)

    def connect(self) -> Peer:
        """A new connection."""
        return self.net.connect(self._site)


class _UnreadBody(BytesIO):
    """In place of a body that is too large."""

    def read(self, size: int | None = -1, /) -> NoReturn:
        raise RequestEntityTooLarge


class _Request(Request):
    defaultContentType = None
    route: Route
    key: str | None
    refused = False

    def gotLength(self, length: int | None) -> None:
        self.content: Any = BytesIO()
        if length is not None and length > self.route.profile.max_body:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        if not self.refused:
            self.content.write(data)
            if self.content.tell() > self.route.profile.max_body:
                self._refuse()

    def _refuse(self) -> None:
        self.refused = True
        self.content = _UnreadBody()
        self.requestHeaders.removeHeader(b"Expect")

    @property
    def conditional(self) -> bool:
        """See `FrontRequest.conditional`."""
        return any(map(self.requestHeaders.hasHeader, PRECONDITIONS))

    def getHeader(self, name: bytes) -> bytes | None:
        """See `FrontRequest.getHeader`."""
        values = self.requestHeaders.getRawHeaders(name)
        return None if values is None else b", ".join(values)

    def hold(self, size: int) -> None:
        """Do nothing: twisted.web has no request memory."""

    def _handleStar(self) -> None:
        """Called for the target `*`, which is an unknown path here."""
        assert self.site is not None
        self.render(self.site.resource)


class _Root(Resource):
    isLeaf = True

    def __init__(self, methods: list[bytes]) -> None:
        super().__init__()
        self._methods = methods

    def render(self, request: Any) -> int:
        self._methods.append(request.method)
        request.setHeader(b"Server", SERVER)
        Deferred.fromCoroutine(_answer(request))
        return NOT_DONE_YET


async def _answer(request: Any) -> None:
    route, key = request.route, request.key
    try:
        answer = route.called(request) if key is None else route.handler(route.profile, request, key)
        if not isinstance(answer, Response):
            answer = await answer
    except Exception as error:
        answer = error_response(request.route.profile.app, request, error)
    if request._disconnected:
        return
    if answer is not None:
        request.setResponseCode(answer.code)
        for name, value in answer.headers.items():
            request.setHeader(name, value)
        if answer.code not in NO_BODY_CODES:
            request.setHeader(b"Content-Length", b"%d" % len(answer.body))
        request.write(answer.body)
    request.finish()


class _Channel(HTTPChannel):
    site: _Site
    transport: Any

    def allHeadersReceived(self) -> None:
        request = self.requests[-1]
        if not _is_well_formed(self._path, self._version, request.requestHeaders):
            self._respondToBadRequestAndDisconnect()
            return
        request.route, request.key = self.site.router.find(self._command, self._path.decode("latin-1"))
        super().allHeadersReceived()
        if request.refused:
            self.persistent = False
            self.length = 0  # which lets it be answered now, as if there were no body

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        """Whether the connection stays open after a request. (twisted.web's own does not split at commas.)"""
        fields = request.requestHeaders.getRawHeaders(b"Connection", [])
        if any(token.strip().lower() == b"close" for field in fields for token in field.split(b",")):
            return False
        return version == b"HTTP/1.1"

    def rawDataReceived(self, data: bytes) -> None:
        super().rawDataReceived(data)
        if self.requests and self.requests[-1].refused and not self._handlingRequest:
            self.persistent = False
            self.allContentReceived()

    def allContentReceived(self) -> None:
        if not self.transport.disconnecting:  # it has been refused
            super().allContentReceived()

    def _respondToBadRequestAndDisconnect(self) -> None:
        """With a length, which twisted.web's own answer has not."""
        self.transport.write(_BAD_REQUEST)
        self.loseConnection()


def _is_well_formed(target: bytes, version: bytes, headers: Headers) -> bool:
    """Whether a head follows sections 3.2 (target, Host) and 6.1 (transfer coding) of RFC 9112."""
    codings = headers.getRawHeaders(b"Transfer-Encoding", [])
    if codings and [coding.lower() for coding in codings] != [b"chunked"]:
        return False
    hosts = headers.getRawHeaders(b"Host", [])
    if len(hosts) > 1 or (version == b"HTTP/1.1" and not hosts) or not all(map(is_host, hosts)):
        return False
    return is_target(target)


class _Site(Site):
    protocol = _Channel  # type: ignore[assignment] # twisted.web would wrap it in a protocol for HTTP/2
    requestFactory = _Request
    noisy = False

    def __init__(self, router: Router, net: Net, methods: list[bytes]) -> None:
        super().__init__(_Root(methods), timeout=None, reactor=net, parsePOSTFormSubmission=False)
        self.router = router

    def log(self, request: object) -> None:
        """Nothing."""
