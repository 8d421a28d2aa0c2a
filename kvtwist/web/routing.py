"""
Which dialect answers a path, and with which of its routes.

The path is matched as it was sent, percent-encoded, so that a `%2F` is part of a key and never a separator. Of several
dialects the first whose routes know the path answers, whatever the method; a path that none knows is the last one's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import Factory, frozen
from klein import Klein
from werkzeug.exceptions import HTTPException, NotFound

from kvtwist.interfaces import IProfile


@frozen
class Route:
    """
    :ivar endpoint: what Klein calls the handler; None where `error` says why there is none.
    :ivar rule: the route as the dialect wrote it, such as `/kv/<key>`, for metrics; empty where there is none.
    """

    profile: IProfile
    rule: str = ""
    endpoint: str | None = None
    arguments: dict[str, Any] = Factory(dict)
    error: HTTPException | None = None


class Router:
    """Looks through the dialects in order."""

    def __init__(self, profiles: Sequence[IProfile]) -> None:
        self.profiles = profiles
        self._adapters = [(profile, _adapter(profile.app)) for profile in profiles]

    def route(self, method: str, path: str) -> Route:
        """The route of a request."""
        if not method.isupper():  # werkzeug would take `get` for `GET`, which RFC 9110 does not (9.1)
            method = "unknown"
        profile, adapter = self._adapters[-1]
        for profile, adapter in self._adapters:
            # werkzeug drops all leading slashes but one, and `//key` is not `/key`.
            if not path.startswith("/") or path.startswith("//"):
                continue
            try:
                rule, arguments = adapter.match(path, method, return_rule=True)
            except NotFound:
                continue
            except HTTPException as error:
                return Route(profile, error=error)
            return Route(profile, rule.rule, rule.endpoint, dict(arguments))
        return Route(profile, error=NotFound())

    def max_body(self, path: str) -> int:
        """The largest body that whoever answers a path takes."""
        return self.route("GET", path).profile.max_body


def _adapter(app: Klein) -> Any:
    # No route depends on the host: the client's `Host` never reaches werkzeug, which raises on a strange one.
    return app.url_map.bind("kvtwist")


def path_of(target: bytes) -> str:
    """The path of a request target, which may be absolute (RFC 9112, 3.2.2), without the query."""
    text = target.partition(b"?")[0].decode("latin-1")
    if text.startswith("/") or "://" not in text:
        return text
    _, _, rest = text.partition("://")
    return "/" + rest.partition("/")[2]
