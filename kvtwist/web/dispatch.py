"""
Calls a dialect's Klein endpoint for each request, and writes what it returns.

Klein's own resource would bind werkzeug to the client's `Host`, decode the path before it is matched, and know one app.
This one does without, for handlers that return `klein.Response`, or None when they have written the response
themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from klein import Klein, Response
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import NO_BODY_CODES
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from kvtwist import __version__
from kvtwist.interfaces import IProfile
from kvtwist.model import Exchange
from kvtwist.web.routing import Route, Router, path_of

log = Logger(namespace="kvtwist.web")

_SERVER = f"kvtwist/{__version__}".encode()


Observer = Callable[[Exchange], None]


class Dispatcher(Resource):
    """:param observers: each is called with every exchange once it is over."""

    isLeaf = True

    def __init__(self, profiles: Sequence[IProfile], clock: IReactorTime, observers: Sequence[Observer] = ()) -> None:
        super().__init__()
        self.router = Router(profiles)
        self.in_flight = 0
        self._clock = clock
        self._observers = observers

    def render(self, request: Any) -> int:
        """Called by twisted.web with a request that has been read."""
        route = self.router.route(request.method.decode("latin-1"), path_of(request.uri))
        request.setHeader(b"Server", _SERVER)
        started = self._clock.seconds()
        self.in_flight += 1
        finished: Deferred[None] = request.notifyFinish()
        response = Deferred.fromCoroutine(self._respond(request, route))

        def over(result: object) -> None:
            self.in_flight -= 1
            left = isinstance(result, Failure)
            if left:
                response.cancel()
            if self._observers:
                self._tell(request, route, started, left)

        finished.addBoth(over)
        response.addErrback(_failed, request)
        return NOT_DONE_YET

    async def _respond(self, request: Any, route: Route) -> None:
        app = route.profile.app
        try:
            result = await _called(app, request, route)
        except Exception:
            if request._disconnected:
                return
            result = await _error_handled(app, request, Failure())
        if request._disconnected:
            return
        if isinstance(result, Response):
            _write(request, result)
        request.finish()

    def _tell(self, request: Any, route: Route, started: float, left: bool) -> None:
        address = request.getClientAddress()
        exchange = Exchange(
            profile=route.profile.name,
            route=route.rule,
            client=getattr(address, "host", None) or "-",
            method=request.method.decode("latin-1"),
            target=request.uri.decode("latin-1"),
            version=request.clientproto.decode("latin-1"),
            status=0 if left else request.code,
            seconds=self._clock.seconds() - started,
            size=request.sentLength,
        )
        for observer in self._observers:
            observer(exchange)


async def _called(app: Klein, request: Any, route: Route) -> Any:
    if request.overload is not None:
        raise request.overload
    if route.endpoint is None:
        assert route.error is not None
        raise route.error
    result = app.execute_endpoint(route.endpoint, request, **route.arguments)
    return await result if isinstance(result, Deferred) else result


async def _error_handled(app: Klein, request: Any, failure: Failure) -> Any:
    if request.startedWriting:
        failure.raiseException()  # the status is sent; there is nothing left but to hang up
    for kinds, handler in app._error_handlers:
        if failure.check(*kinds):
            result = app.execute_error_handler(handler, request, failure)
            return await result if isinstance(result, Deferred) else result
    failure.raiseException()


def _write(request: Any, response: Response) -> None:
    request.setResponseCode(response.code)
    for name, value in response.headers.items():
        request.setHeader(name, value)
    if response.code not in NO_BODY_CODES:
        request.setHeader(b"Content-Length", b"%d" % len(response.body))
    request.write(response.body)


def _failed(failure: Failure, request: Any) -> None:
    """Neither the handler nor the dialect's error handler came to an end: hang up."""
    if not request._disconnected:
        log.failure("a response could not be finished", failure)
        request.transport.abortConnection()
