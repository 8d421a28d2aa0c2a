"""The front as a service: where it listens, what is said if it cannot, and how it stops."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from kvtwist.web.service import DRAIN_SECONDS, CannotServe, HTTPService
from kvtwist.web.sockets import SocketEndpoint
from tests.support.engine import TestCase
from tests.unit.web.probe import probed


class Reactor(MemoryReactorClock):
    """A reactor on which listening fails if a test says so."""

    why: OSError | None = None

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        if self.why is not None:
            raise CannotListenError(interface, port, self.why)
        return super().listenTCP(port, factory, backlog, interface)


class ServiceTests(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.reactor = Reactor()
        self.probe, self.fronted = probed()

    def service(self, endpoint: str | SocketEndpoint, optional: bool = False) -> HTTPService:
        return HTTPService(self.reactor, endpoint, self.fronted.site, "Title", optional)

    def test_it_listens_on_its_endpoint(self) -> None:
        service = self.service("tcp:80:interface=192.0.2.1")
        self.assertEqual((service.addresses(), service.running), ([], 0))
        service.privilegedStartService()
        [(port, factory, _, interface)] = self.reactor.tcpServers
        self.assertEqual((port, factory, interface), (80, self.fronted.site, "192.0.2.1"))
        self.assertEqual((len(service.addresses()), service.address()), (1, "0.0.0.0:80"), "as this reactor has it")

    def test_an_endpoint_that_is_none_is_said_in_one_line(self) -> None:
        for endpoint in ("nonsense:1", "tcp:port", "tcp", "ssl:1:privateKey=/nowhere"):
            with self.assertRaises(CannotServe) as caught:
                self.service(endpoint).privilegedStartService()
            self.assertRegex(str(caught.exception), rf"\Ainvalid endpoint {endpoint}: .+\Z")

    def test_an_address_in_use_is_said_in_one_line(self) -> None:
        self.reactor.why = OSError(98, "in use")
        with self.assertRaises(CannotServe) as caught:
            self.service("tcp:80").privilegedStartService()
        self.assertEqual(str(caught.exception), "cannot listen on tcp:80: in use")

    def test_a_service_that_is_optional_only_logs_why(self) -> None:
        lines: list[str] = []

        def note(event: LogEvent) -> None:
            lines.append(formatEvent(event))

        globalLogPublisher.addObserver(note)
        self.addCleanup(globalLogPublisher.removeObserver, note)
        self.reactor.why = OSError(98, "in use")
        service = self.service("tcp:80", optional=True)
        service.privilegedStartService()
        self.assertEqual((lines, service.address()), (["Title: cannot listen on tcp:80: in use"], None))
        self.assertTrue(self.successful(service.stopService()))

    def successful(self, done: Deferred[None]) -> bool:
        return self.successResultOf(done) is None

    def test_a_stop_finishes_what_was_begun(self) -> None:
        service = self.service("tcp:80")
        service.privilegedStartService()
        service.startService()
        peer = self.fronted.ask(b"GET /wait/a HTTP/1.1\r\nHost: a\r\n\r\n")
        done = service.stopService()
        self.reactor.advance(DRAIN_SECONDS - 0.1)
        self.assertFalse(done.called)
        self.probe.waiting["a"].callback(b"answer")
        self.fronted.net.settle()
        self.assertTrue(self.successful(done))
        self.assertTrue(peer.received.endswith(b"answer"))
        self.assertEqual((service.running, self.reactor.getDelayedCalls()), (0, []))

    def test_a_stop_ends_what_takes_longer_than_two_seconds(self) -> None:
        service = self.service("tcp:80")
        service.privilegedStartService()
        peer = self.fronted.ask(b"GET /wait/a HTTP/1.1\r\nHost: a\r\n\r\n")
        done = service.stopService()
        self.reactor.advance(1.9)
        self.fronted.net.settle()
        self.assertEqual((peer.fate, done.called), ("open", False))
        self.reactor.advance(0.1)
        self.fronted.net.settle()
        self.assertEqual((peer.fate, self.probe.cancelled), ("reset", ["a"]))
        self.assertTrue(self.successful(done))


async def mode_of(endpoint: str | SocketEndpoint, path: str) -> tuple[int, bool]:
    """The mode of the socket, and whether there is a lock file."""
    _, fronted = probed()
    service = HTTPService(reactor, endpoint, fronted.site)  # type: ignore[arg-type]
    service.privilegedStartService()
    found = stat.S_IMODE(os.stat(path).st_mode), os.path.lexists(f"{path}.lock")
    await service.stopService()
    assert not os.path.exists(path)
    return found


@ensureDeferred
async def test_the_mode_of_a_socket(tmp_path: Path) -> None:
    """On the real reactor: only its owner may open a socket, unless it is told otherwise."""
    path = str(tmp_path / "socket")
    for endpoint, expected in (
        (f"unix:{path}", (0o600, False)),
        (f"unix:{path}:mode=660", (0o660, False)),
        (f"unix:{path}:lockfile=1", (0o600, True)),
        (f"haproxy:unix:{path}", (0o600, False)),
        (SocketEndpoint(reactor, path), (0o600, False)),
    ):
        assert await mode_of(endpoint, path) == expected, endpoint
    os.symlink("1", f"{path}.lock")  # as former versions left it
    assert await mode_of(SocketEndpoint(reactor, path), path) == (0o600, False)
