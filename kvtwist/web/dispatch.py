"""
Calls a dialect's Klein endpoint for each request, and hands over what it returns.

Klein's own resource would bind werkzeug to the client's `Host`, decode the path before it is matched, and know one app.
Klein's own wrapper of an endpoint would make a Deferred of every coroutine; what it wraps is called here instead, and a
coroutine that does not wait for anything ends at once. Handlers return `klein.Response`, or None when they have written
the response themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from types import CoroutineType
from typing import Any, Protocol, cast

from klein import Response
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from werkzeug.exceptions import HTTPException

from kvtwist.interfaces import IProfile
from kvtwist.model import Exchange
from kvtwist.web.routing import Route, Router

log = Logger(namespace="kvtwist.web")

Observer = Callable[["Request", Route, float], object]
"""Is told of every request that is over, its route, and how long it took, in seconds."""


class Request(Protocol):
    """
    What either front hands over: beside this, what handlers use of twisted.web's requests.

    :ivar method: as it was sent.
    :ivar uri: the request target.
    :ivar overload: why it is refused without being looked at, if it is.
    :ivar gone: whether the client has left.
    :ivar started: whether the head of the response has been sent.
    :ivar turn: who is at work on it, while somebody is.
    :ivar began: when that was begun, in seconds.
    :ivar status: of the response.
    """

    method: bytes
    uri: bytes
    overload: HTTPException | None
    turn: Turn | None
    began: float

    @property
    def status(self) -> int: ...

    @property
    def gone(self) -> bool: ...

    @property
    def started(self) -> bool: ...

    def reply(self, response: Response, now: float) -> None:
        """
        Send a whole response.

        :param now: in seconds since the epoch.
        """

    def finish(self) -> None:
        """End a response that the handler has written."""

    def abort(self) -> None:
        """Hang up."""

    def exchange(self, route: Route, seconds: float) -> Exchange:
        """All that there is to tell of it, once it is over."""


class Dispatcher:
    """:param observers: each is told of every request that is over."""

    def __init__(self, profiles: Sequence[IProfile], clock: IReactorTime, observers: Sequence[Observer] = ()) -> None:
        self.router = Router(profiles)
        self.in_flight = 0
        self._seconds = clock.seconds
        self._observers = observers

    def begin(self, request: Request, route: Route, key: str | None) -> None:
        """Answer a request that has been read, as `Router.find` says it is to be answered."""
        self.in_flight += 1
        request.began = self._seconds()
        try:
            if request.overload is not None:
                raise request.overload
            result = route.called(request) if key is None else route.handler(route.profile, request, key)  # type: ignore[misc]
            if type(result) is CoroutineType:
                request.turn = Turn(self, request, route, result, result.send(None))
                return
            if isinstance(result, Deferred):
                coroutine = _awaited(result)
                request.turn = Turn(self, request, route, coroutine, coroutine.send(None))
                return
        except StopIteration as end:
            self.end(request, route, end.value)
        except Exception as error:
            self.fail(request, route, error)
        else:
            self.end(request, route, result)

    def end(self, request: Request, route: Route, result: object) -> None:
        """Send what a handler has returned."""
        request.turn = None
        now = self._seconds()
        if not request.gone:
            try:
                if isinstance(result, Response):
                    request.reply(result, now)
                else:
                    request.finish()
            except Exception:  # a response that is none, such as one whose body is text
                log.failure("a response could not be sent")
                request.abort()
        self._over(request, route, now)

    def fail(self, request: Request, route: Route, error: Exception) -> None:
        """Let the dialect answer what a handler has raised. What cannot be answered ends the connection."""
        request.turn = None
        now = self._seconds()
        if not request.gone:
            try:
                if request.started:
                    raise error  # the status is sent
                request.reply(_answered(request, route, error), now)
            except Exception:
                log.failure("a response could not be finished")
                request.abort()
        # It knows the Failure that knows it, and by its traceback all that the request has brought.
        error.__traceback__ = None
        self._over(request, route, now)

    def _over(self, request: Request, route: Route, now: float) -> None:
        self.in_flight -= 1
        for observer in self._observers:
            observer(request, route, now - request.began)


class Turn:
    """A handler that waits for something."""

    __slots__ = ("_coroutine", "_dispatcher", "_request", "_route", "_waiting")

    def __init__(
        self,
        dispatcher: Dispatcher,
        request: Request,
        route: Route,
        coroutine: Coroutine[Deferred[Any], Any, Any],
        waiting: Deferred[Any],
    ) -> None:
        self._dispatcher = dispatcher
        self._request = request
        self._route = route
        self._coroutine = coroutine
        self._waiting = waiting
        waiting.addCallbacks(self._resume, self._throw)

    def cancel(self) -> None:
        """Give it up: its client has left."""
        self._waiting.cancel()

    def _resume(self, value: object) -> None:
        self._step(self._coroutine.send, value)

    def _throw(self, failure: Failure) -> None:
        self._step(self._coroutine.throw, failure.value)

    def _step(self, step: Callable[[Any], Any], argument: object) -> None:
        try:
            waiting = step(argument)
        except StopIteration as end:
            self._dispatcher.end(self._request, self._route, end.value)
        except Exception as error:
            self._dispatcher.fail(self._request, self._route, error)
        else:
            self._waiting = waiting
            waiting.addCallbacks(self._resume, self._throw)


async def _awaited(deferred: Deferred[Any]) -> Any:
    return await deferred


def _answered(request: Request, route: Route, error: Exception) -> Response:
    app = route.profile.app
    failure = Failure(error)
    for kinds, handler in app._error_handlers:
        if failure.check(*kinds):
            answer = app.execute_error_handler(handler, cast(IRequest, request), failure)
            assert isinstance(answer, Response)
            return answer
    raise error
