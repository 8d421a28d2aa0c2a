"""What the dialects' Klein apps have in common: routes that mean what they say, errors in the dialect's own format."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote_to_bytes

from klein import Klein, Response
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from werkzeug.exceptions import BadRequest, HTTPException, MethodNotAllowed
from werkzeug.http import HTTP_STATUS_CODES

from kvtwist.model import NoRoom, StoreDamaged, StoreUnavailable

log = Logger(namespace="kvtwist.profiles")

Headers = Mapping[str | bytes, str | bytes | Sequence[str | bytes]]
"""As `klein.Response` wants them. Those of a `MappingProxyType` never change, and so need to be encoded just once."""
ErrorBody = Callable[[str], bytes]
Handler = TypeVar("Handler", bound=Callable[..., object])
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_MESSAGES = {413: "value too large"}
RETRY_AFTER_SECONDS = "1"


class DialectApp(Klein):
    """A Klein app that never redirects: `//` and a trailing `/` are what they are."""

    def __init__(self) -> None:
        super().__init__()
        self.url_map.merge_slashes = False
        self.url_map.redirect_defaults = False

    def route(self, url: str, methods: Sequence[str]) -> Callable[[Handler], Handler]:  # type: ignore[override]
        """Add a route. (Klein's own signature does not know that handlers may return `klein.Response`.)"""
        return super().route(url, methods=methods)  # type: ignore[return-value]

    def extended(self) -> DialectApp:
        """A new app with all that this one has."""
        app = DialectApp()
        for rule in self.url_map.iter_rules():
            app.url_map.add(rule.empty())
        app.endpoints.update(self.endpoints)
        app._error_handlers.extend(self._error_handlers)
        return app


def answer_errors(
    app: Klein, media_type: str, body: ErrorBody, status: Callable[[object], int | None] = lambda error: None
) -> None:
    """
    Let an app answer whatever its handlers raise.

    :param body: makes a dialect's error body of a message.
    :param status: a dialect's own status for an error, where it differs.
    """

    @app.handle_errors(Exception)
    def answer(self: object, request: IRequest, failure: Failure) -> Any:
        code, message, headers = _explain(failure)
        return Response(status(failure.value) or code, {**headers, "Content-Type": media_type}, body(message))


def _explain(failure: Failure) -> tuple[int, str, Headers]:
    error = failure.value
    if isinstance(error, MethodNotAllowed):
        return 405, "method not allowed", {"Allow": ", ".join(sorted(error.valid_methods or ()))}
    if isinstance(error, HTTPException) and error.code is not None:
        said = error.description
        if said is None or said == type(error).description:  # werkzeug's own words are for people in browsers
            said = _MESSAGES.get(error.code) or HTTP_STATUS_CODES[error.code].lower()
        return error.code, said, {"Retry-After": RETRY_AFTER_SECONDS} if error.code == 503 else {}
    if isinstance(error, StoreUnavailable):
        return 503, str(error), {"Retry-After": RETRY_AFTER_SECONDS}
    if isinstance(error, NoRoom):
        return 507, str(error), {}
    if isinstance(error, StoreDamaged):  # an operator's concern, not a fault of ours: no traceback
        log.error("a request failed: {error}", error=error)
        return 503, "what is stored cannot be read", {}
    log.failure("a request failed", failure)
    return 500, "internal server error", {}


# --- what a request line says -----------------------------------------------------------------------------------------


def decoded(segment: str) -> str:
    """
    A path segment or query value, percent-decoded.

    :raises BadRequest: broken percent-encoding, or not UTF-8.
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
    The values of some query parameters; None for one that is not there. Others are ignored.

    :raises BadRequest: broken percent-encoding, not UTF-8, or one of them is there twice.
    """
    _, _, text = request.uri.decode("latin-1").partition("?")
    found: dict[str, str] = {}
    for name, value in parse_qsl(text.replace("%", "%25"), keep_blank_values=True, encoding="latin-1"):
        if name in names:
            if name in found:
                raise BadRequest(f"{name} is given twice")
            found[name] = decoded(value)
    return [found.get(name) for name in names]
