"""
Private attributes of Klein: the functions that were decorated, and the error handlers.

The front calls handlers without Klein's wrapper, which would make a Deferred of every coroutine, and passes their
errors to the app's error handlers; a profile can extend the app of another. When a release of Klein moves one of these
attributes, `check` fails at the start of a server, and not in the middle of a request.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

from klein import Klein, Response
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest


def check() -> None:
    """:raises RuntimeError: this release of Klein has moved an attribute."""
    app = Klein()

    def handler(request: IRequest) -> None: ...

    def answer(request: IRequest, failure: Failure) -> Any:
        return Response(500)

    app.route("/")(handler)
    app.handle_errors(ValueError)(answer)
    try:
        [rule] = app.url_map.iter_rules()
        found = handler_of(app, rule.endpoint)
        answered = error_response(app, None, ValueError())
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise RuntimeError("this release of Klein is not supported: its apps have changed") from error
    if found is not handler or answered.code != 500:
        raise RuntimeError("this release of Klein is not supported: it wraps handlers differently")


def handler_of(app: Klein, endpoint: str) -> Callable[..., Any]:
    """The function that was decorated with a route, without Klein's wrapper."""
    handler: Callable[..., Any] = inspect.unwrap(app.endpoints[endpoint])
    return handler


def error_response(app: Klein, request: object, error: Exception) -> Response:
    """
    The response of the app's first error handler for the type of an error.

    :raises Exception: the error itself, if there is no such handler.
    """
    failure = Failure(error)
    for types, handler in app._error_handlers:
        if failure.check(*types):
            response = app.execute_error_handler(handler, cast(IRequest, request), failure)
            assert isinstance(response, Response)
            return response
    raise error


def copy_routes(source: Klein, target: Klein) -> None:
    """Give an app all routes and error handlers of another."""
    for rule in source.url_map.iter_rules():
        target.url_map.add(rule.empty())
    target.endpoints.update(source.endpoints)
    target._error_handlers.extend(source._error_handlers)
