"""
A client that sends exactly the bytes it is given, over a blocking socket.

Responses are parsed with h11, which is stricter than browsers: one with wrong framing fails the test that receives it.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from types import TracebackType

import h11

from tests.support.answer import Answer, checked
from tests.support.server import PATIENCE

Address = tuple[str, int]


def head(method: str, target: str, *headers: str, version: str = "HTTP/1.1") -> bytes:
    """A request without a body."""
    return "\r\n".join([f"{method} {target} {version}", "Host: localhost", *headers, "", ""]).encode("latin-1")


def sized(method: str, target: str, body: bytes, *headers: str, version: str = "HTTP/1.1") -> bytes:
    """A request whose body has a Content-Length."""
    return head(method, target, *headers, f"Content-Length: {len(body)}", version=version) + body


def chunked(method: str, target: str, *chunks: bytes, headers: Iterable[str] = ()) -> bytes:
    """A request with a chunked body."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head(method, target, *headers, "Transfer-Encoding: chunked") + body + b"0\r\n\r\n"


class Connection:
    """One TCP connection to a server."""

    def __init__(self, address: Address) -> None:
        self._socket = socket.create_connection(address, PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread = b""

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def send_bytewise(self, data: bytes) -> None:
        """One segment a byte."""
        for index in range(len(data)):
            self._socket.sendall(data[index : index + 1])

    def receive(self, method: str = "GET") -> Answer:
        """
        The next response, to a request of that method.

        :raises h11.RemoteProtocolError: when it is not HTTP, or the server closes in the middle.
        """
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method=method, target="/", headers=[("Host", "localhost")]))
        parser.send(h11.EndOfMessage())
        if self._unread:
            parser.receive_data(self._unread)
        response: h11.Response | None = None
        body = b""
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                parser.receive_data(self._socket.recv(65536))
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                raise AssertionError(f"expected a response, got {event!r}")
        assert response is not None
        self._unread = parser.trailing_data[0]
        return checked(_answer(method, response, body))

    def receive_final(self, method: str = "GET") -> Answer:
        """The next response that is no `100 Continue`."""
        while self._starts_with(b"HTTP/1.1 100 "):
            self.receive_head()
        return self.receive(method)

    def _starts_with(self, start: bytes) -> bool:
        while len(self._unread) < len(start) and self._unread == start[: len(self._unread)]:
            more = self._socket.recv(65536)
            if not more:
                return False
            self._unread += more
        return self._unread.startswith(start)

    def ask(self, method: str, target: str, body: bytes | None = None, *headers: str) -> Answer:
        """Send one request as any client would, and receive its response."""
        self.send(head(method, target, *headers) if body is None else sized(method, target, body, *headers))
        return self.receive(method)

    def receive_head(self) -> bytes:
        """Raw bytes up to the next empty line: an interim response, say."""
        while b"\r\n\r\n" not in self._unread:
            more = self._socket.recv(65536)
            assert more, f"closed after {self._unread!r}"
            self._unread += more
        found, end, self._unread = self._unread.partition(b"\r\n\r\n")
        return found + end

    def receive_rest(self) -> bytes:
        """Whatever comes until the server closes the connection in good order."""
        rest, self._unread = self._unread + rest_of(self._socket), b""
        return rest

    def half_close(self) -> None:
        """Tell the server that nothing more is sent, and go on reading."""
        self._socket.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """Hang up so that the server gets a reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def close(self) -> None:
        self._socket.close()


def _answer(method: str, response: h11.Response, body: bytes) -> Answer:
    answer = Answer.parsed(response, body)
    coding, connection = answer.header("transfer-encoding"), answer.header("connection") or ""
    if answer.status not in (204, 304) and method != "HEAD":
        is_framed = answer.content_length is not None or coding == "chunked" or connection.lower() == "close"
        assert is_framed, f"no framing: {answer}"
    return answer


def rest_of(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection in good order; over TLS, with a word of farewell."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def ask(address: Address, method: str, target: str, body: bytes | None = None, *headers: str) -> Answer:
    """One request on a connection of its own."""
    with Connection(address) as connection:
        return connection.ask(method, target, body, *headers)


def settle(address: Address) -> None:
    """
    Return when a server has read all that reached it earlier on other connections.

    The first answer shows that the reactor polled its sockets after we sent; the second one, that it has handled
    everything that this poll had found.
    """
    with Connection(address) as connection:
        connection.ask("GET", "/")
        connection.ask("GET", "/")
