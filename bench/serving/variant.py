"""
`twistd kvstore` with something changed, to see what that is worth: `python -m bench.serving.variant NAME,... OPTIONS`.

Each trick can be taken away here, and nowhere else: what is put in its place is the plain way, which does the same. Two
more stand beside them: no metrics at all, and Klein's own resource in place of the front. And two do less than they
should, to show what would be left if HTTP cost next to nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from klein import Klein, Response
from prometheus_client import CollectorRegistry, Counter, Histogram
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool
from twisted.scripts.twistd import run
from twisted.web.server import Site

from kvtwist import tap
from kvtwist.engine.record_cache import RecordCache
from kvtwist.ops.metrics import BUCKETS, LEFT, Metrics
from kvtwist.web.connection import FrontConnection
from kvtwist.web.dispatch import Dispatcher
from kvtwist.web.front import FrontSite
from kvtwist.web.heads import HeadReader
from kvtwist.web.replies import Replies
from kvtwist.web.routing import Router, path_of


def _replace(owner: Any, name: str, replacement: Any) -> Any:
    """Returns what was there. A name that is there no more would change nothing, and measure that."""
    if name not in vars(owner):
        sys.exit(f"there is no {owner.__name__}.{name} any more: bench/serving/variant.py is behind")
    original = vars(owner)[name]
    setattr(owner, name, replacement)
    return original


def routes() -> None:
    """Ask werkzeug for the route of every request."""

    def find(self: Any, method: bytes, target: str) -> tuple[Any, None]:
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
            lambda result: self.end(request, route, result),
            lambda failure: self.end(request, route, self.failed(request, route, failure.value)),
        )

    _replace(Dispatcher, "begin", begin)


def transport() -> None:
    """Leave it to the reactor to send, when the socket can be written."""

    def flush(self: Any) -> None:
        self._listed = False
        out, self._out = self._out, []
        self.transport.writeSequence(out)

    _replace(FrontConnection, "flush", flush)


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

    def init(self: Any, router: Router) -> None:
        original(self, router)
        if not isinstance(self._known, dict):
            sys.exit("HeadReader keeps what it knows otherwise: bench/serving/variant.py is behind")
        self._known = _Forgetful()

    original = _replace(HeadReader, "__init__", init)


def steps() -> None:
    """Read every request in steps, the ones that have come as a whole as well."""
    _replace(FrontConnection, "_take_request", lambda self, data: False)


def poller() -> None:
    """Let the reactor watch every connection. Then there are no turns, either: what is answered is sent."""

    def init(self: Any, *arguments: Any) -> None:
        original(self, *arguments)
        self.poller = None

    original = _replace(FrontSite, "__init__", init)


def turns() -> None:
    """Send every answer at once, and not at the end of a turn."""
    _replace(FrontConnection, "_send_soon", lambda self: self.flush())


def records() -> None:
    """Look for every record in its page."""
    _replace(RecordCache, "put", lambda self, key, record: None)


class _PooledWorker:
    """Gives its jobs to a thread as Twisted does."""

    def __init__(self, reactor: Any, name: str) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(minthreads=1, maxthreads=1, name=name)
        self.start = self._pool.start
        self.stop = self._pool.stop

    def run(self, job: Any, /, *args: Any, **kwargs: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._pool, job, *args, **kwargs)


def threads() -> None:
    """Hand over jobs to threads by twisted.internet.threads."""
    _replace(tap, "ThreadWorker", _PooledWorker)


def collector() -> None:
    """Let all that there is be searched for garbage, again and again."""
    _replace(tap, "spare_collector", lambda: None)


def unobserved() -> None:
    """Count nothing."""

    def init(self: Any, profiles: Any, clock: Any, observers: object = ()) -> None:
        original(self, profiles, clock)

    original = _replace(Dispatcher, "__init__", init)


class _Bare:
    """In place of a request: what the dispatcher and a handler of lsfr look at."""

    turn = overload = None
    gone = started = False
    status = 200

    def __init__(self, connection: Any, method: bytes, body: bytes) -> None:
        self._connection = connection
        self.method = method
        self.content = self
        self._body = body

    def read(self) -> bytes:
        return self._body

    def reply(self, response: Response, now: float) -> None:
        body = response.body or b""
        self._connection._out.append(_HEAD % len(body) + body)
        self._connection._send_soon()


_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nServer: kvtwist/0.1.0\r\nDate: Sat, 21 Nov 2026 10:15:07 GMT\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n\r\n"
)


def handler() -> None:
    """Do next to nothing of HTTP: what arrives is taken for a whole request to lsfr, and cut up at its spaces."""

    def received(self: Any, data: bytes) -> None:
        method, target, rest = data.split(b" ", 2)
        route, _ = found.get(method) or found.setdefault(method, self._site.dispatcher.router.find(method, "/kv/key"))
        request: Any = _Bare(self, method, rest.partition(b"\r\n\r\n")[2])
        self._site.dispatcher.begin(request, route, target[4:].decode())

    found: dict[bytes, Any] = {}
    _replace(FrontConnection, "dataReceived", received)


def nothing() -> None:
    """Send the same answer to all that arrives."""

    def received(self: Any, data: bytes) -> None:
        self._out.append(answer)
        self._send_soon()

    answer = _HEAD % 100 + b"x" * 100
    _replace(FrontConnection, "dataReceived", received)


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
    tap.FrontSite = _KleinSite  # type: ignore


TRICKS: Final[dict[str, Callable[[], None]]] = {
    "routes": routes,
    "deferreds": deferreds,
    "transport": transport,
    "heads": heads,
    "metrics": metrics,
    "parser": parser,
    "steps": steps,
    "poller": poller,
    "turns": turns,
    "records": records,
}
WRITE_TRICKS: Final[dict[str, Callable[[], None]]] = {
    "deferreds": deferreds,
    "steps": steps,
    "poller": poller,
    "turns": turns,
    "threads": threads,
    "collector": collector,
}

FLOORS: Final[dict[str, Callable[[], None]]] = {"handler": handler, "nothing": nothing}

_ALL: Final = {**TRICKS, **WRITE_TRICKS, **FLOORS, "unobserved": unobserved, "klein": klein}


def main(arguments: Sequence[str]) -> None:
    """Become twistd."""
    names, *rest = arguments
    for name in names.split(","):
        _ALL[name]()
    sys.argv = ["twistd", *rest]
    run()


if __name__ == "__main__":
    main(sys.argv[1:])
