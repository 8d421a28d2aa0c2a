"""
`twistd kvstore` with something changed, to see what that is worth: `python -m bench.serving.variant NAME,... OPTIONS`.

Each of the front's tricks can be taken away here, and nowhere else: what is put in its place is the plain way, which
does the same. Two more stand beside them: no metrics at all, and Klein's own resource in place of the front.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from klein import Klein
from prometheus_client import CollectorRegistry, Counter, Histogram
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.scripts.twistd import run
from twisted.web.server import Site

from kvtwist import tap
from kvtwist.ops.metrics import BUCKETS, LEFT, Metrics
from kvtwist.web.connection import FrontConnection
from kvtwist.web.dispatch import Dispatcher
from kvtwist.web.front import FrontSite
from kvtwist.web.heads import HeadReader
from kvtwist.web.replies import Replies
from kvtwist.web.routing import Router, path_of


def _replace(owner: type, name: str, replacement: Any) -> Any:
    """Returns what was there. A name that is there no more would change nothing, and measure that."""
    if name not in vars(owner):
        sys.exit(f"there is no {owner.__name__}.{name} any more: bench/serving/variant.py is behind")
    original = vars(owner)[name]
    setattr(owner, name, replacement)
    return original


def routes() -> None:
    """Ask werkzeug for the route of every request."""

    def find(self: Any, method: bytes, target: bytes) -> tuple[Any, None]:
        return self.route(method.decode("latin-1"), path_of(target)), None

    _replace(Router, "find", find)


def deferreds() -> None:
    """Call what Klein makes of a handler: a Deferred of every coroutine, whether it waits or not."""

    def begin(self: Any, request: Any, route: Any, key: str | None) -> None:
        self.in_flight += 1
        request.began = self._seconds()

        def called() -> Any:
            error = request.overload or route.error
            if error is not None:
                raise error
            arguments = route.arguments if key is None else dict.fromkeys(route.arguments, key)
            return route.profile.app.execute_endpoint(route.endpoint, request, **arguments)

        answer = maybeDeferred(called)
        request.turn = answer
        answer.addCallbacks(
            lambda result: self.end(request, route, result), lambda failure: self.fail(request, route, failure.value)
        )

    _replace(Dispatcher, "begin", begin)


def transport() -> None:
    """Leave it to the reactor to send, when the socket can be written."""
    _replace(FrontConnection, "_send_now", lambda self, sent: self.transport.write(sent))


class _Forgetful(dict[Any, Any]):
    def __setitem__(self, key: object, value: object) -> None:
        pass


def heads() -> None:
    """Write the head of every response anew, but for its date."""

    def init(self: Any) -> None:
        original(self)
        if not isinstance(self._kept, dict):
            sys.exit("Replies keeps its heads otherwise: bench/serving/variant.py is behind")
        self._kept = _Forgetful()

    original = _replace(Replies, "__init__", init)


def metrics() -> None:
    """Count with prometheus_client's own Counter and Histogram."""
    registry = CollectorRegistry()
    names = ["profile", "route", "method"]
    requests = Counter("requests", "All.", [*names, "status"], registry=registry)
    times = Histogram("request_seconds", "All.", names, registry=registry, buckets=BUCKETS)

    def count(self: object, request: Any, route: Any, seconds: float) -> None:
        labels = (route.profile.name, route.rule or "none", request.method.decode("latin-1"))
        requests.labels(*labels, str(LEFT if request.gone else request.status)).inc()
        times.labels(*labels).observe(seconds)

    _replace(Metrics, "__call__", count)


def parser() -> None:
    """Let llhttp read the headers of every request."""

    def init(self: Any) -> None:
        original(self)
        if not isinstance(self._known, dict):
            sys.exit("HeadReader keeps what it knows otherwise: bench/serving/variant.py is behind")
        self._known = _Forgetful()

    original = _replace(HeadReader, "__init__", init)


def poller() -> None:
    """Let the reactor watch every connection. Then there are no turns, either: what is answered is sent."""

    def init(self: Any, *arguments: Any) -> None:
        original(self, *arguments)
        self.poller = None

    original = _replace(FrontSite, "__init__", init)


def turns() -> None:
    """Send every answer at once, and not at the end of a turn."""
    _replace(FrontConnection, "_send_soon", lambda self: self.flush())


def unobserved() -> None:
    """Count nothing."""

    def init(self: Any, profiles: Any, clock: Any, observers: object = ()) -> None:
        original(self, profiles, clock)

    original = _replace(Dispatcher, "__init__", init)


class _KleinSite(Site):
    """What `app.run()` would serve with, and what `HTTPService` asks of a site."""

    noisy = False

    def __init__(self, dispatcher: Dispatcher, *_: object) -> None:
        app = dispatcher.router.profiles[0].app
        assert isinstance(app, Klein)
        super().__init__(app.resource())

    def log(self, request: object) -> None:
        """Nothing: neither do the others."""

    def drained(self) -> Deferred[None]:
        """It does not wait for anybody."""
        done: Deferred[None] = Deferred()
        done.callback(None)
        return done

    def hang_up(self) -> None:
        """It does not know its connections."""


def klein() -> None:
    """Serve the same handlers over the same store with Klein's resource on twisted.web: no front, no metrics."""
    tap.SITES["own"] = _KleinSite  # type: ignore


TRICKS: Final[dict[str, Callable[[], None]]] = {
    "routes": routes,
    "deferreds": deferreds,
    "transport": transport,
    "heads": heads,
    "metrics": metrics,
    "parser": parser,
    "poller": poller,
    "turns": turns,
}

_ALL: Final = {**TRICKS, "unobserved": unobserved, "klein": klein}


def main(arguments: Sequence[str]) -> None:
    """Become twistd."""
    names, *rest = arguments
    for name in names.split(","):
        _ALL[name]()
    sys.argv = ["twistd", *rest]
    run()


if __name__ == "__main__":
    main(sys.argv[1:])
