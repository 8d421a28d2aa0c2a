"""
What kvtwist needs of Klein's apps and of werkzeug's maps beyond their documented interfaces.

Klein calls handlers through a wrapper that makes a Deferred of every coroutine, and through a resource that knows one
app. The front calls the handlers themselves, and gives their errors to the app's own error handlers; a profile may also
extend the app of another. When a release of Klein moves what is used here, `check` fails at the start of a server, and
not in the middle of a request.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

from klein import Klein, Response
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest


def check() -> None:
    """:raises RuntimeError: this release of Klein keeps handlers elsewhere."""
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
    What the app's error handlers answer for an error; the first one for its type does.

    :raises Exception: the error itself, for which there is none.
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
