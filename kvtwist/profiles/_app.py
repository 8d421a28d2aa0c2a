"""The Klein apps of profiles: routes that are matched exactly, errors in the profile's own format."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import update_wrapper
from inspect import signature
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote_to_bytes

from klein import Klein, Response
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from werkzeug.exceptions import BadRequest, HTTPException, MethodNotAllowed, RequestedRangeNotSatisfiable
from werkzeug.http import HTTP_STATUS_CODES

from kvtwist.klein_apps import copy_routes
from kvtwist.model import NoRoom, StoreDamaged, StoreUnavailable, TooMuchToRead
from kvtwist.validators import Headers

log = Logger(namespace="kvtwist.profiles")

ErrorBody = Callable[[int, str], bytes]
"""Makes the body of an error of its status and its message."""
Handler = TypeVar("Handler", bound=Callable[..., object])
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_is_number = re.compile(r"[0-9]{1,18}").fullmatch
_MESSAGES = {413: "value too large"}
RETRY_AFTER_SECONDS = "1"
_READS = frozenset({b"GET", b"HEAD"})


class ProfileApp(Klein):
    """A Klein app that never redirects: it neither merges slashes nor adds a trailing one."""

    def __init__(self) -> None:
        super().__init__()
        self.url_map.merge_slashes = False
        self.url_map.redirect_defaults = False

    def route(  # type: ignore[override]
        self, url: str, methods: Sequence[str], query: Sequence[str] = (), conditional: bool = False
    ) -> Callable[[Handler], Handler]:
        """
        Add a route. (The type of Klein's own method does not allow handlers that return `klein.Response`.)

        :param query: the query parameters that it knows. Others are 400; GET and HEAD ignore them.
        :param conditional: whether it honours preconditions. Other routes answer 400 to them.
        """
        add = super().route(url, methods=methods)

        def decorate(handler: Handler) -> Handler:
            reads_only = _READS.issuperset(method.encode() for method in methods)
            is_checked = not (reads_only and conditional)
            add(_strict(handler, frozenset(query), conditional) if is_checked else handler)  # type: ignore[type-var]
            return handler

        return decorate

    def extended(self) -> ProfileApp:
        """A new app with the routes and error handlers of this one."""
        app = ProfileApp()
        copy_routes(self, app)
        return app


def answer_errors(
    app: Klein, media_type: str, body: ErrorBody, status: Callable[[object], int | None] = lambda error: None
) -> None:
    """
    Answer the errors that an app's handlers raise.

    :param body: makes the profile's error body.
    :param status: the profile's own status for an error; None for the usual one.
    """

    @app.handle_errors(Exception)
    def answer(self: object, request: IRequest, failure: Failure) -> Any:
        code, message, headers = _explain(failure)
        code = status(failure.value) or code
        return Response(code, {**headers, "Content-Type": media_type}, body(code, message))


def _explain(failure: Failure) -> tuple[int, str, Headers]:
    error = failure.value
    if isinstance(error, MethodNotAllowed):
        return 405, "method not allowed", {"Allow": ", ".join(sorted(error.valid_methods or ()))}
    if isinstance(error, RequestedRangeNotSatisfiable):
        return 416, "the value has no such range", {"Content-Range": f"bytes */{error.length}"}
    if isinstance(error, HTTPException) and error.code is not None:
        said = error.description
        if said is None or said == type(error).description:  # werkzeug's descriptions are for browsers
            said = _MESSAGES.get(error.code) or HTTP_STATUS_CODES[error.code].lower()
        return error.code, said, {"Retry-After": RETRY_AFTER_SECONDS} if error.code == 503 else {}
    if isinstance(error, StoreUnavailable):
        return 503, str(error), {"Retry-After": RETRY_AFTER_SECONDS}
    if isinstance(error, NoRoom):
        return 507, str(error), {}
    if isinstance(error, TooMuchToRead):
        return 413, f"{error}; read less in one request", {}
    if isinstance(error, StoreDamaged):  # a damaged store is not a bug: log no traceback
        log.error("a request failed: {error}", error=error)
        return 503, "the stored data cannot be read", {}
    log.failure("a request failed", failure)
    return 500, "internal server error", {}


# --- paths and queries ------------------------------------------------------------------------------------------------


def decoded(segment: str) -> str:
    """
    Decode the percent-encoding of a path segment or query value.

    :raises BadRequest: the percent-encoding is broken, or its bytes are not UTF-8.
    """
    if "%" not in segment and segment.isascii():
        return segment
    if _BROKEN_ESCAPE.search(segment):
        raise BadRequest("broken percent-encoding")
    try:
        return unquote_to_bytes(segment.encode("latin-1")).decode()
    except UnicodeDecodeError:
        raise BadRequest("not UTF-8") from None


def query(request: Any, *names: str) -> list[str | None]:
    """
    The values of some query parameters; None for a missing one.

    :raises BadRequest: the percent-encoding is broken, its bytes are not UTF-8, or a parameter is given twice.
    """
    found: dict[str, str] = {}
    for name, value in _parameters(request.uri):
        if name in names:
            if name in found:
                raise BadRequest(f"{name} is given twice")
            found[name] = decoded(value)
    return [found.get(name) for name in names]


def whole_number(name: str, text: str, largest: int) -> int:
    """
    The value of a parameter.

    :raises BadRequest: it is not a whole number from 1 to `largest`.
    """
    if not _is_number(text) or not 1 <= int(text) <= largest:
        raise BadRequest(f"{name} is a whole number from 1 to {largest}")
    return int(text)


def _parameters(uri: bytes) -> Iterator[tuple[str | None, str]]:
    """Name and value of each query parameter, the value percent-encoded; a name that cannot be decoded is None."""
    _, _, text = uri.decode("latin-1").partition("?")
    for name, value in parse_qsl(text.replace("%", "%25"), keep_blank_values=True, encoding="latin-1"):
        try:
            yield decoded(name), value
        except BadRequest:
            yield None, value


def _strict(handler: Callable[..., object], known: frozenset[str], conditional: bool) -> Callable[..., object]:
    """
    Make a handler refuse what it would ignore: unknown query parameters, which could change what a write does, and
    preconditions, unless it honours them.
    """

    def checked(profile: object, request: Any, *arguments: Any, **named: Any) -> object:
        if request.conditional and not conditional:
            raise BadRequest("this resource takes no preconditions")
        if b"?" in request.uri and request.method not in _READS:
            for name, _ in _parameters(request.uri):
                if name is None:
                    raise BadRequest("a query parameter has a broken name")
                if name not in known:
                    raise BadRequest(f"unknown query parameter {name[:60]!a}")
        return handler(profile, request, *arguments, **named)

    update_wrapper(checked, handler)
    del checked.__wrapped__  # type: ignore[attr-defined] # or the router would unwrap it, and call the handler itself
    checked.__signature__ = signature(handler)  # type: ignore[attr-defined]
    return checked
