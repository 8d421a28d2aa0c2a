"""A client, its clock, and the other end of each of its connections, all in a test's hands."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionLost, ConnectionRefusedError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import Agent
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from kvtwist.client import Backoff, Client

EVENTS = "text/event-stream"


class _Transport(StringTransportWithDisconnection):
    """Aborts as a real one does: the protocol hears of it later."""

    def abortConnection(self) -> None:
        self.connected = False


class Connection:
    """The server's end of one connection, which carries one request."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self._transport = _Transport()
        self._transport.protocol = protocol
        protocol.makeConnection(self._transport)

    @property
    def is_closed(self) -> bool:
        """Whether the client has closed it."""
        return not self._transport.connected or self._transport.disconnecting

    @property
    def is_paused(self) -> bool:
        """Whether the client reads nothing for now."""
        return self._transport.producerState == "paused"

    @property
    def asked(self) -> tuple[str, str]:
        """Method and target of the request."""
        method, target, _ = self._transport.value().split(b"\r\n")[0].decode().split(" ")
        return method, target

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.asked[1].partition("?")[2]))

    def header(self, name: str) -> str | None:
        """A header of the request."""
        for line in self._transport.value().partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
            found, _, value = line.decode().partition(": ")
            if found.lower() == name.lower():
                return value
        return None

    @property
    def body(self) -> bytes:
        """The body of the request."""
        return self._transport.value().partition(b"\r\n\r\n")[2]

    def send(self, data: bytes) -> None:
        self._protocol.dataReceived(data)

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Send a whole response; an underscore in a header's name is a hyphen."""
        lines = [f"HTTP/1.1 {status} Said", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
        if status != 204:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join([*lines, "\r\n"]).encode() + body)

    def answer_json(self, answer: object) -> None:
        self.answer(200, json.dumps(answer).encode(), Content_Type="application/json")

    def problem(self, status: int, **members: object) -> None:
        """Answer with an error in the way of the native profile."""
        self.answer(status, json.dumps(members).encode(), Content_Type="application/problem+json")

    def begin_events(self, text: str = "") -> None:
        """Send the head of a stream of events, and some of it."""
        self.send(f"HTTP/1.1 200 OK\r\nContent-Type: {EVENTS}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        self.send_events(text)

    def send_events(self, text: str) -> None:
        data = text.encode()
        if data:  # an empty chunk would be the last one
            self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def end_events(self) -> None:
        self.send(b"0\r\n\r\n")

    def cut(self) -> None:
        """Lose the connection."""
        self._transport.connected = False
        self._protocol.connectionLost(Failure(ConnectionLost()))


@implementer(IStreamClientEndpoint, IAgentEndpointFactory)
class Network:
    """
    :ivar connections: all that were made.
    :ivar refuses: whether connections are refused.
    :ivar hangs: whether connections are neither made nor refused.
    :ivar attempts: how many connections were tried.
    """

    def __init__(self) -> None:
        self.connections: list[Connection] = []
        self.refuses = self.hangs = False
        self.attempts = 0

    def endpointForURI(self, uri: object) -> IStreamClientEndpoint:
        return self  # type: ignore[return-value]

    def connect(self, factory: Any) -> Deferred[Any]:
        self.attempts += 1
        if self.refuses:
            return fail(ConnectionRefusedError())
        if self.hangs:
            return Deferred(lambda d: d.errback(_cancelled()))
        protocol = factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 80))
        self.connections.append(Connection(protocol))
        return succeed(protocol)


def _cancelled() -> Exception:
    from twisted.internet.error import ConnectingCancelledError

    return ConnectingCancelledError(IPv4Address("TCP", "192.0.2.1", 80))


class ClientCase(SynchronousTestCase):
    """:ivar backoffs: how long the client waits before each repetition: 1 s after the first failure, then 2, 4, 8."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.network = Network()
        self.client = self.new_client()

    def new_client(self, **options: Any) -> Client:
        agent = Agent.usingEndpointFactory(self.clock, self.network)
        backoff = Backoff(first=1.0, longest=8.0, chance=lambda: 1.0)
        return Client("http://server/base/", reactor=self.clock, agent=agent, backoff=backoff, **options)

    @property
    def connection(self) -> Connection:
        """The last one."""
        return self.network.connections[-1]

    def next_connection(self, wait: float = 0.0) -> Connection:
        """The one that the client makes after so many seconds, and no earlier."""
        made = len(self.network.connections)
        if wait:
            self.clock.advance(wait - 0.001)
            self.assertEqual(len(self.network.connections), made, "too early")
            self.clock.advance(0.001)
        self.assertEqual(len(self.network.connections), made + 1)
        return self.connection

    def failed(self, deferred: Deferred[Any], kind: type[Exception]) -> Exception:
        """The error of a call; not of a subclass."""
        error = self.failureResultOf(deferred).value
        self.assertIs(type(error), kind, repr(error))
        assert isinstance(error, Exception)
        return error

    def tearDown(self) -> None:
        self.assertEqual(self.flushLoggedErrors(), [])
