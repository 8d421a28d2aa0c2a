"""
Calls a profile's Klein endpoint for each request, and hands over what it returns.

Klein's own resource would bind werkzeug to the client's `Host`, decode the path before it is matched, and know one app.
Klein's own wrapper of an endpoint would make a Deferred of every coroutine; what it wraps is called here instead, by
workers that each answer one request after the other. Who does not wait for anything is done at once. Handlers return
`klein.Response`, or None when they have written the response themselves.
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
    A request that is over, or what was none and got a status.

    :ivar method: as it was sent.
    :ivar status: of the response; `LEFT` when the client left before it had all of it.
    """

    method: bytes

    @property
    def status(self) -> int: ...

    def exchange(self, route: Route, seconds: float) -> Exchange:
        """All that there is to tell of it."""


Observer = Callable[[Ended, Route, float], object]
"""Is told of every request that is over, its route, and how long it took, in seconds."""


class Request(Ended, Protocol):
    """
    What a front hands over: beside this, what handlers use of twisted.web's requests.

    :ivar uri: the request target.
    :ivar overload: why it is refused without being looked at, if it is.
    :ivar gone: whether the client has left.
    :ivar started: whether the head of the response has been sent.
    :ivar suspended: who is at work on it, while somebody is.
    :ivar began: when that was begun, in seconds.
    """

    uri: bytes
    overload: HTTPException | None
    suspended: SuspendedHandler | None
    began: float

    @property
    def gone(self) -> bool: ...

    @property
    def started(self) -> bool: ...

    def reply(self, response: Response) -> None:
        """Send a whole response."""

    def finish(self) -> None:
        """End a response that the handler has written."""

    def abort(self) -> None:
        """Hang up."""


Runner = Generator[Any, Any, None]
"""Is sent a request and its route; yields what the handler waits for, and None when it has nothing more to do."""


_UNFINISHED: Final = object()
"""In place of a response that cannot be given."""
_MOST_IDLE = 256
"""So many are kept for the next ones that have to wait."""


class Dispatcher:
    """:param observers: each is told of every request that is over."""

    def __init__(self, profiles: Sequence[IProfile], clock: IReactorTime, observers: Sequence[Observer] = ()) -> None:
        self.router = Router(profiles)
        self.active_requests = 0
        self._seconds = clock.seconds
        self._observers = observers
        self._idle: list[Runner] = []

    def begin(self, request: Request, route: Route, key: str | None) -> None:
        """Answer a request that has been read, as `Router.find` says it is to be answered."""
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

    @coroutine  # or it could not go on with a handler's own
    def _run(self) -> Runner:
        """
        Answers one request after the other, each with its handler: a coroutine for each of them would take twice as
        long to begin and to end.
        """
        while True:
            request, route, key = yield None
            try:
                if request.overload is not None:
                    raise request.overload
                result = route.called(request) if key is None else route.handler(route.profile, request, key)
                if type(result) is CoroutineType or isinstance(result, Deferred):
                    result = yield from result  # type: ignore[misc]
            except Exception as error:
                result = self.failed(request, route, error)
            self.end(request, route, result)
            request = result = None  # whose bodies would stay here until the next one

    def failed(self, request: Request, route: Route, error: Exception) -> object:
        """What the profile has to say to what a handler has raised. What cannot be answered ends the connection."""
        try:
            if request.gone:
                return None
            if request.started:
                raise error  # the status is sent
            return error_response(route.profile.app, request, error)
        except Exception:
            log.failure("a response could not be finished")
            return _UNFINISHED
        finally:
            # It knows the Failure that knows it, and by its traceback all that the request has brought.
            error.__traceback__ = None

    def end(self, request: Request, route: Route, result: object) -> None:
        """Send what a handler has returned."""
        request.suspended = None
        if not request.gone:
            try:
                if isinstance(result, Response):
                    request.reply(result)
                elif result is _UNFINISHED:
                    request.abort()
                else:
                    request.finish()
            except Exception:  # a response that is none, such as one whose body is text
                log.failure("a response could not be sent")
                request.abort()
        self.active_requests -= 1
        seconds = self._seconds() - request.began
        for observer in self._observers:
            observer(request, route, seconds)

    def refused(self, refused: Ended, route: Route | None) -> None:
        """Tell of what was no request that can be answered, and got a status instead."""
        for observer in self._observers:
            observer(refused, route or NO_ROUTE, 0.0)


class SuspendedHandler:
    """A handler that waits for something."""

    __slots__ = ("_idle", "_runner", "_waiting")

    def __init__(self, idle: list[Runner], runner: Runner, waiting: Deferred[Any]) -> None:
        self._idle = idle
        self._runner = runner
        self._wait(waiting)

    def cancel(self) -> None:
        """Give it up: its client has left."""
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
