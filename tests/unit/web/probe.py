"""A profile that a test controls: handlers that wait for the test, large responses, and invalid ones."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

from klein import Response
from twisted.internet.defer import CancelledError, Deferred
from zope.interface import implementer

from kvtwist.interfaces import IProfile
from kvtwist.profiles._app import ProfileApp, answer_errors
from kvtwist.profiles._scan import send
from tests.support.fronts import Fronted

MAX_BODY = 1 << 20
PIECE = b"p" * 32 * 1024


@implementer(IProfile)
class Probe:
    """
    :ivar waiting: the Deferreds that requests to /wait and /stubborn wait for, by key.
    :ivar cancelled: the keys of cancelled requests.
    :ivar done: the handlers that were called, in order.
    """

    name = "probe"
    urgent = frozenset({"/health"})
    max_body = MAX_BODY
    app = ProfileApp()

    def __init__(self) -> None:
        self.waiting: dict[str, Deferred[bytes]] = {}
        self.cancelled: list[str] = []
        self.done: list[str] = []
        self.pieces = 0
        self.value = b""
        self.streams: Callable[[Probe, Any], Awaitable[None]] = send_nothing

    @app.route("/now", methods=["GET", "HEAD", "PUT"])
    async def now(self, request: Any) -> Response:
        """Answers at once."""
        self.done.append("now")
        return Response(200, {"Content-Type": "text/plain"}, b"now")

    @app.route("/echo", methods=["PUT"])
    async def echo(self, request: Any) -> Response:
        """Its body."""
        body = request.content.read()
        self.done.append("echo")
        return Response(200, {}, body)

    @app.route("/wait/<key>", methods=["GET", "PUT"])
    async def wait(self, request: Any, key: str) -> Response:
        """Waits for the test."""
        self.done.append(f"wait {key}")
        waiting: Deferred[bytes] = Deferred()
        self.waiting[key] = waiting
        try:
            return Response(200, {}, await waiting)
        except CancelledError:
            self.cancelled.append(key)
            raise

    @app.route("/key/<key>", methods=["GET"])
    async def key(self, request: Any, key: str) -> Response:
        """The key itself."""
        return Response(200, {}, key.encode())

    @app.route("/large", methods=["GET"])
    async def large(self, request: Any) -> Response:
        """A mebibyte."""
        self.done.append("large")
        return Response(200, {}, bytes(bytearray(b"l" * MAX_BODY)))

    @app.route("/value", methods=["GET"])
    async def get_value(self, request: Any) -> Response:
        """The same object for every client."""
        return Response(200, {}, self.value)

    @app.route("/health", methods=["GET"])
    async def health(self, request: Any) -> Response:
        """Answered even beyond the limit of request memory."""
        return Response(200, {}, b"fine")

    @app.route("/streams", methods=["GET"])
    async def streams_as_told(self, request: Any) -> None:
        """The response that the test defines."""
        await self.streams(self, request)

    @app.route("/stream", methods=["GET", "HEAD"])
    async def stream(self, request: Any) -> None:
        """Eight pieces, as fast as they are taken."""
        await send(request, self._eight())

    @app.route("/torn", methods=["GET"])
    async def torn(self, request: Any) -> None:
        """A piece, and then a fault."""
        request.write(PIECE)
        raise ValueError("torn")

    @app.route("/stubborn/<key>", methods=["GET"])
    async def stubborn(self, request: Any, key: str) -> None:
        """Waits for the test, and goes on when it is cancelled."""
        self.waiting[key] = Deferred()
        with suppress(CancelledError):
            await self.waiting[key]
        request.write(PIECE)

    @app.route("/text", methods=["GET"])
    async def text(self, request: Any) -> None:
        """A piece that is not bytes, which fails when it is sent."""
        request.setHeader("Content-Length", "4")
        request.write("text")

    @app.route("/code/<code>", methods=["GET", "HEAD"])
    async def code(self, request: Any, code: str) -> Response:
        """Any status, with a body that some may not have."""
        return Response(int(code), {}, b"body")

    @app.route("/header", methods=["GET"])
    async def header(self, request: Any) -> Response:
        """Header values that would end their lines."""
        values = {"X-A": "a\r\nSet-Cookie: b", "X-B": b"b\nX-C: c", "X-D\r\nX-E": "d", "X-F": ["1\r2", "3\x004"]}
        return Response(200, values, b"")

    @app.route("/wrong", methods=["GET"])
    async def wrong(self, request: Any) -> Response:
        """A body that is not bytes."""
        return Response(200, {}, "text")

    async def _eight(self) -> AsyncIterator[bytes]:
        for _ in range(8):
            self.pieces += 1
            yield PIECE


async def send_nothing(probe: Probe, request: Any) -> None:
    """An empty answer."""


answer_errors(Probe.app, "text/plain", lambda code, message: message.encode())


def probed(**options: Any) -> tuple[Probe, Fronted]:
    """A front with a probe as its profile."""
    probe = Probe()
    return probe, Fronted([probe], **options)
