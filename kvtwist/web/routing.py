"""
Finds the profile and the route for a request target.

Paths are matched percent-encoded, as they were sent, so that `%2F` is part of a key and never a separator. If there are
several profiles, the first that has a route for the path answers, whatever the method; the first of all answers paths
that none has a route for.

Matching by werkzeug takes longer than all the rest of a short request. So its results for the usual shapes of routes,
`/fixed` and `/fixed/<key>`, are kept in tables; all other paths are matched by werkzeug.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, cast

from attrs import Factory, frozen
from klein import Klein, Response
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from werkzeug.exceptions import HTTPException, NotFound

from kvtwist.interfaces import IProfile
from kvtwist.klein_apps import handler_of
from kvtwist.web.origins import answer_preflight


@frozen(eq=False)
class Route:
    """
    :ivar endpoint: Klein's name of the handler; None if there is none, and then `error` says why.
    :ivar rule: the route as the profile wrote it, such as `/kv/<key>`, for metrics; empty if none matches.
    :ivar handler: the decorated function; called with the profile, the request, and the arguments.
    :ivar is_urgent: whether it is answered even beyond the limit of request memory, as a health check is.
    """

    profile: IProfile
    rule: str = ""
    endpoint: str | None = None
    arguments: dict[str, Any] = Factory(dict)
    error: HTTPException | None = None
    handler: Callable[..., Any] | None = None
    is_urgent: bool = False

    def called(self, request: object) -> Any:
        """Call the handler and return its result; raises `error` if there is no handler."""
        if self.error is not None:
            raise self.error
        assert self.handler is not None
        return self.handler(self.profile, request, **self.arguments)


class _NoProfile:
    """The profile of requests that are refused before one is found."""

    name = "none"
    app = Klein()
    max_body = 0


@_NoProfile.app.handle_errors(HTTPException)
def _answer_error(self: object, request: IRequest, failure: Failure) -> Any:
    error = failure.value
    assert isinstance(error, HTTPException)
    return Response(error.code or 500)


NO_ROUTE = Route(cast(IProfile, _NoProfile()))
"""The route of requests that are refused before one is found."""


def preflight_route(arguments: dict[str, Any]) -> Route:
    """The route of a request in which a browser asks what a web page may send."""
    return Route(cast(IProfile, _NoProfile()), arguments=arguments, handler=answer_preflight)


_SAMPLE = "a-key-that-is-no-route"
Found = tuple[Route, str | None]
"""The route of a request, and the key in its path if the route is of the shape `/fixed/<key>`; else None."""


class Router:
    """Finds routes in the profiles, in their order."""

    def __init__(self, profiles: Sequence[IProfile]) -> None:
        self.profiles = profiles
        self._adapters = [(profile, _adapter(profile.app)) for profile in profiles]
        self._fixed: dict[str, dict[bytes, Route]] = {}
        """By path and method."""
        self._keyed: dict[str, dict[bytes, Route]] = {}
        """By the path up to its last slash, and method."""
        for profile in profiles:
            for rule in profile.app.url_map.iter_rules():
                self._keep(rule)

    def find(self, method: bytes, target: str) -> Found:
        """The route of a request and its key; see `Found`."""
        path = target.partition("?")[0] if "?" in target else target
        routes = self._fixed.get(path)
        if routes is not None:
            route = routes.get(method)
            if route is not None:
                return route, None
        else:
            start, slash, key = path.rpartition("/")
            routes = self._keyed.get(start)
            if routes is not None and slash and key:
                route = routes.get(method)
                if route is not None:
                    return route, key
        return self.route(method.decode("latin-1"), path_of(target)), None

    def route(self, method: str, path: str) -> Route:
        """The route of a request, as werkzeug matches it."""
        if not method.isupper():  # werkzeug ignores the case of methods, RFC 9110 (9.1) does not
            method = "unknown"
        for profile, adapter in self._adapters:
            # werkzeug drops all leading slashes but one, but `//key` is not `/key`.
            if not path.startswith("/") or path.startswith("//"):
                continue
            try:
                rule, arguments = adapter.match(path, method, return_rule=True)
            except NotFound:
                continue
            except HTTPException as error:
                return Route(profile, error=error)
            handler = handler_of(profile.app, rule.endpoint)
            is_urgent = rule.rule in profile.urgent
            return Route(profile, rule.rule, rule.endpoint, dict(arguments), handler=handler, is_urgent=is_urgent)
        return Route(self.profiles[0], error=NotFound())

    def _keep(self, rule: Any) -> None:
        """Keep the routes of a rule in the tables, if it is of a usual shape."""
        start, _, last = rule.rule.rpartition("/")
        if "<" in start:
            return
        variable = last.removeprefix("<path:").removeprefix("<")  # a path may be one segment
        is_keyed = last.startswith("<") and last.endswith(">") and ":" not in variable
        if not is_keyed and "<" in last:
            return
        kept = self._keyed if is_keyed else self._fixed
        path = f"{start}/{_SAMPLE}" if is_keyed else rule.rule
        routes = kept.setdefault(start if is_keyed else path, {})
        for method in rule.methods or ():
            route = self.route(method, path)
            if route.error is None and len(route.arguments) == is_keyed and _takes_key_third(route, is_keyed):
                routes[method.encode()] = route


def _takes_key_third(route: Route, is_keyed: bool) -> bool:
    assert route.handler is not None
    return not is_keyed or list(inspect.signature(route.handler).parameters)[2:] == list(route.arguments)


def _adapter(app: Klein) -> Any:
    # No route depends on the host. werkzeug never sees the client's `Host`: it raises on unusual ones.
    return app.url_map.bind("kvtwist")


def path_of(target: str) -> str:
    """The path of a request target, which may be absolute (RFC 9112, 3.2.2), without the query."""
    text = target.partition("?")[0]
    if text.startswith("/") or "://" not in text:
        return text
    _, _, rest = text.partition("://")
    return "/" + rest.partition("/")[2]
