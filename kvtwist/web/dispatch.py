"""
Calls the handler of a profile for each request, and sends the response that it returns.

Klein's own resource would bind werkzeug to the client's `Host`, decode the path before matching it, and know one app;
its wrapper of a handler would make a Deferred of every coroutine. So handlers are called here without either. A handler
that waits for nothing has answered when `begin` returns; one that waits for a Deferred is *suspended* meanwhile.
Handlers return `klein.Response`, or None if they have written the response themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from types import CoroutineType, coroutine
from typing import Any, Final, Protocol

from klein import Response
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from werkzeug.exceptions import HTTPException

from kvtwist.interfaces import IProfile
from kvtwist.klein_apps import error_response
from kvtwist.model import Exchange
from kvtwist.web.routing import NO_ROUTE, Route, Router

log = Logger(namespace="kvtwist.web")


class Ended(Protocol):
    """
    A request that was answered or refused.

    :ivar method: as it was sent.
    :ivar status: of the response; `LEFT` if the client left before it had all of it.
    """

    method: bytes

    @property
    def status(self) -> int: ...

    def exchange(self, route: Route, seconds: float) -> Exchange:
        """The request and its response, for the access log."""


Observer = Callable[[Ended, Route, float], object]
"""Called after every request with the request, its route, and how long it took, in seconds."""


class Request(Ended, Protocol):
    """
    A request to be answered, which also has the methods that handlers use.

    :ivar uri: the request target.
    :ivar error: to answer with instead of calling the handler; None for most requests.
    :ivar gone: whether the client has left.
    :ivar started: whether the handler has begun to write the response itself, so that its head has been sent.
    :ivar suspended: its handler, while that waits for something.
    :ivar began: when its handler was called, in seconds.
    """

    uri: bytes
    error: HTTPException | None
    suspended: SuspendedHandler | None
    began: float

    @property
    def gone(self) -> bool: ...

    @property
    def started(self) -> bool: ...

    def reply(self, response: Response) -> None:
        """Send a whole response."""

    def finish(self) -> None:
        """End a response that the handler has written piece by piece."""

    def abort(self) -> None:
        """Close the connection now."""


Runner = Generator[Any, Any, None]
"""Is sent a request, its route and key; yields what the handler waits for, and None once the request is answered."""


_UNFINISHED: Final = object()
"""The result of a handler whose response cannot be finished."""
_MOST_IDLE = 256
"""How many idle runners are kept for later requests."""


class Dispatcher:
    """
    :param observers: each is called after every request.
    :ivar active_requests: how many requests are being answered.
    """

    def __init__(self, profiles: Sequence[IProfile], clock: IReactorTime, observers: Sequence[Observer] = ()) -> None:
        self.router = Router(profiles)
        self.active_requests = 0
        self._seconds = clock.seconds
        self._observers = observers
        self._idle: list[Runner] = []

    def begin(self, request: Request, route: Route, key: str | None) -> None:
        """Answer a request with the route and key that `Router.find` returned for it."""
        self.active_requests += 1
        request.began = self._seconds()
        idle = self._idle
        runner = idle.pop() if idle else self._new_runner()
        waiting = runner.send((request, route, key))
        if waiting is None:
            idle.append(runner)
        else:
            request.suspended = SuspendedHandler(idle, runner, waiting)

    def _new_runner(self) -> Runner:
        runner = self._run()
        runner.send(None)
        return runner

    @coroutine  # makes `yield from` a handler's coroutine possible in a generator
    def _run(self) -> Runner:
        """
        Answer one request after the other. A new coroutine for each request would take twice as long to begin and to
        end.
        """
        while True:
            request, route, key = yield None
            try:
                if request.error is not None:
                    raise request.error
                result = route.called(request) if key is None else route.handler(route.profile, request, key)
                if type(result) is CoroutineType or isinstance(result, Deferred):
                    result = yield from result  # type: ignore[misc]
            except Exception as error:
                result = self.failed(request, route, error)
            self.end(request, route, result)
            request = result = None  # frees their bodies, which would stay until the next request

    def failed(self, request: Request, route: Route, error: Exception) -> object:
        """The profile's response to an error; if there can be none, the connection will be closed."""
        try:
            if request.gone:
                return None
            if request.started:
                raise error  # the status has been sent already
            return error_response(route.profile.app, request, error)
        except Exception:
            log.failure("a response could not be finished")
            return _UNFINISHED
        finally:
            # Error and Failure refer to each other, and the traceback to all that the request holds: free that now.
            error.__traceback__ = None

    def end(self, request: Request, route: Route, result: object) -> None:
        """Send the response that a handler has returned."""
        request.suspended = None
        if not request.gone:
            try:
                if isinstance(result, Response):
                    request.reply(result)
                elif result is _UNFINISHED:
                    request.abort()
                else:
                    request.finish()
            except Exception:  # an invalid response, such as one whose body is text
                log.failure("a response could not be sent")
                request.abort()
        self.active_requests -= 1
        seconds = self._seconds() - request.began
        for observer in self._observers:
            observer(request, route, seconds)

    def refused(self, refused: Ended, route: Route | None) -> None:
        """Call the observers for a request that was refused with a bare status."""
        for observer in self._observers:
            observer(refused, route or NO_ROUTE, 0.0)


class SuspendedHandler:
    """A handler that waits for a Deferred, and the runner that it suspends."""

    __slots__ = ("_idle", "_runner", "_waiting")

    def __init__(self, idle: list[Runner], runner: Runner, waiting: Deferred[Any]) -> None:
        self._idle = idle
        self._runner = runner
        self._wait(waiting)

    def cancel(self) -> None:
        """Cancel the Deferred: the client has left."""
        self._waiting.cancel()

    def _wait(self, waiting: Deferred[Any]) -> None:
        self._waiting = waiting
        waiting.addCallbacks(self._resume, self._throw)

    def _resume(self, value: object) -> None:
        self._continue(self._runner.send(value))

    def _throw(self, failure: Failure) -> None:
        assert failure.value is not None
        self._continue(self._runner.throw(failure.value))

    def _continue(self, waiting: Deferred[Any] | None) -> None:
        if waiting is not None:
            self._wait(waiting)
        elif len(self._idle) < _MOST_IDLE:
            self._idle.append(self._runner)
