"""Observers see every request, answered or refused; a client that leaves after its response is not counted as LEFT."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from kvtwist.model import LEFT, Exchange
from kvtwist.ops.access import FORMATS
from kvtwist.profiles._scan import send
from kvtwist.web.limits import WebLimits
from kvtwist.web.routing import Route
from tests.support.fronts import statuses
from tests.support.wire import chunked, head, sized
from tests.unit.web.probe import MAX_BODY, probed

LIMITS = WebLimits(head=2000, target=500, connections=3)
GET, PUT = b"GET", b"PUT"


class Told(SynchronousTestCase):
    def setUp(self) -> None:
        self.told: list[Exchange] = []
        self.routes: list[tuple[str, str]] = []

        def note(request: Any, route: Route, seconds: float) -> None:
            self.told.append(request.exchange(route, seconds))
            self.routes.append((route.profile.name, route.rule))

        self.probe, self.fronted = probed(limits=LIMITS, observers=[note])


class RefusedTests(Told):
    def test_every_status_is_observed(self) -> None:
        begun = head("PUT", "/echo", "Content-Length: 10") + b"12345"
        for data, wait, expected in (
            (head("GET", "/now"), 0, (GET, b"/now", b"HTTP/1.1", 200, "/now")),
            (b"BAD\r\n\r\n", 0, (b"BAD", b"", b"", 400, "")),
            (b"GET /a\x00b HTTP/1.1\r\n\r\n", 0, (GET, b"/a\x00b", b"HTTP/1.1", 400, "")),
            (b"GET /now HTTP/1.1\r\n\r\n", 0, (GET, b"/now", b"HTTP/1.1", 400, "")),
            (b"GET /slow", 12, (GET, b"/slow", b"", 408, "")),
            (begun, 40, (PUT, b"/echo", b"HTTP/1.1", 408, "/echo")),
            (sized("PUT", "/echo", bytes(MAX_BODY + 1)), 0, (PUT, b"/echo", b"HTTP/1.1", 413, "/echo")),
            (chunked("PUT", "/echo", bytes(MAX_BODY + 1)), 0, (PUT, b"/echo", b"HTTP/1.1", 413, "/echo")),
            (b"GET /" + b"t" * 501, 0, (GET, b"/" + b"t" * 501, b"", 414, "")),
            (head("GET", "/now", "X: " + "x" * 2000), 0, (GET, b"/now", b"HTTP/1.1", 431, "")),
            (chunked("PUT", "/echo", b"1")[:-5] + b"x", 0, (PUT, b"/echo", b"HTTP/1.1", 400, "/echo")),
        ):
            self.told.clear()
            peer = self.fronted.ask(data)
            self.fronted.net.pass_time(wait)
            peer.leave()
            [told] = self.told
            self.assertEqual((told.method, told.target, told.version, told.status, told.route), expected)
            self.assertEqual((told.client, told.profile), ("192.0.2.1", "probe" if told.route else "none"))
            self.assertEqual(told.seconds, 0.0)
            self.assertEqual(statuses(peer), [expected[3]])

    def test_a_refused_connection_is_observed(self) -> None:
        for _ in range(3):
            self.fronted.connect()
        self.fronted.connect()
        [told] = self.told
        self.assertEqual((told.status, told.method, told.client), (503, b"", "192.0.2.1"))

    def test_a_request_cannot_end_its_line(self) -> None:
        for junk in (b"BAD\n\rX\r\n", b'G"T / \\x\r\n', b"\xff\xfe \x00\x1b[0m x\r\n"):
            self.told.clear()
            self.fronted.ask(junk + b"\r\n").leave()
            self.assertEqual(len(self.told), 1)
            for lines in FORMATS.values():
                [line] = lines(self.told).split("\n")
                self.assertTrue(line.isascii() and line.isprintable(), line)
            json.loads(FORMATS["json"](self.told))


class LeftTests(Told):
    def leave_after(self, pieces: int, promised: int | None) -> int:
        """The observed status when a client leaves after so many of three pieces."""
        self.told.clear()
        waiting: Deferred[None] = Deferred()

        async def some() -> AsyncIterator[bytes]:
            for _ in range(pieces):
                yield b"x" * 1000
            await waiting

        async def stream(probe: object, request: Any) -> None:
            if promised is not None:
                request.setHeader("Content-Length", str(promised))
            await send(request, some())

        self.probe.streams = stream
        peer = self.fronted.ask(head("GET", "/streams"))
        peer.leave()
        return self.told[0].status

    def test_a_client_that_has_had_all_that_was_promised_has_not_left_early(self) -> None:
        self.assertEqual(self.leave_after(3, 3000), 200)
        self.assertEqual(self.leave_after(2, 3000), LEFT)
        self.assertEqual(self.leave_after(0, 3000), LEFT)
        self.assertEqual(self.leave_after(3, None), LEFT)

    def test_a_client_that_has_not_taken_it_has_left(self) -> None:
        async def stream(probe: object, request: Any) -> None:
            request.setHeader("Content-Length", str(MAX_BODY))
            request.write(bytes(MAX_BODY))
            await Deferred()

        self.probe.streams = stream
        for room, status in ((10, LEFT), (None, 200)):
            self.told.clear()
            peer = self.fronted.connect()
            peer.take(room)
            peer.send(head("GET", "/streams"))
            peer.leave()
            self.assertEqual(self.told[0].status, status)

    def test_a_client_that_leaves_before_its_answer(self) -> None:
        self.fronted.ask(head("GET", "/wait/a")).leave()
        self.assertEqual([told.status for told in self.told], [LEFT])
