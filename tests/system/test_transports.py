"""Limits, ends and refusals over the real thing: TCP and TLS, with the options that an operator would set."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.support.fronts import responses
from tests.support.profiles import value_of
from tests.support.server import PATIENCE, Server, running
from tests.support.tls import tls
from tests.support.wire import head, rest_of, sized

LIMITS = (
    *("--max-head", "2KiB", "--max-target", "1KiB", "--max-connections", "20", "--max-value", "4MiB"),
    *("--head-timeout", "1", "--body-timeout", "1", "--idle-timeout", "2"),
)
LARGE = value_of(4_000_000)
TLS_ALERT = b"\x15"

Open = Callable[[], socket.socket]


@pytest.fixture(scope="module", params=["tcp", "tls"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Open]]:
    """A server with small limits, and how to connect to it."""
    directory = tmp_path_factory.mktemp("transports")
    endpoint = "tcp:0:interface=127.0.0.1"
    context = None
    if request.param == "tls":
        endpoint, context = tls(directory)

    def connect() -> socket.socket:
        plain = socket.create_connection(server.address, PATIENCE)
        if context is None:
            return plain
        return context.wrap_socket(plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False)

    options = ("--profile", "lsfr", "--store", "memory", "--endpoint", endpoint, *LIMITS)
    with running(directory / "data", *options) as server:
        yield server, connect
        assert server.is_alive()
        server.stop()
        assert "Traceback" not in server.output() + server.errors()


@contextmanager
def talk(opened: tuple[Server, Open], *pieces: bytes) -> Iterator[socket.socket]:
    """A connection on which something is sent."""
    with opened[1]() as connection:
        for piece in pieces:
            connection.sendall(piece)
        yield connection


def statuses(opened: tuple[Server, Open], *pieces: bytes) -> list[int]:
    """Of all that is answered until the server closes the connection by itself."""
    with talk(opened, *pieces) as connection:
        return [answer.status for answer in responses(rest_of(connection))]


def test_the_last_answer_arrives_and_the_connection_is_closed(opened: tuple[Server, Open]) -> None:
    assert statuses(opened, head("GET", "/kv/a", "Connection: close")) == [404]
    assert statuses(opened, head("GET", "/kv/a") + b"GARBAGE\r\n\r\n" + bytes(10_000)) == [404, 400]
    assert statuses(opened, head("PUT", "/kv/a", f"Content-Length: {10**9}"), bytes(10_000)) == [413]


def test_sizes(opened: tuple[Server, Open]) -> None:
    assert statuses(opened, head("GET", "/" + "t" * 1024)) == [414]
    assert statuses(opened, head("GET", "/", "X-A: " + "a" * 2048)) == [431]
    assert statuses(opened, b"GET /" + b"t" * 1500) == [414]


def test_times(opened: tuple[Server, Open]) -> None:
    body = head("PUT", "/kv/a", "Content-Length: 5") + b"123"
    chunks = head("PUT", "/kv/a", "Transfer-Encoding: chunked") + b"5\r\n123"
    sent = {b"GET /kv/a HTT": [408], body: [408], chunks: [408], head("GET", "/kv/a"): [404], b"": []}
    connections = [opened[1]() for _ in sent]
    for data, connection in zip(sent, connections, strict=True):
        connection.sendall(data)
    for expected, connection in zip(sent.values(), connections, strict=True):
        assert [answer.status for answer in responses(rest_of(connection))] == expected
        connection.close()


def test_a_client_that_does_not_read_is_hung_up_on(opened: tuple[Server, Open]) -> None:
    with talk(opened, sized("PUT", "/kv/large", LARGE, "Connection: close")) as connection:
        assert responses(rest_of(connection))[0].status == 200
    with opened[1]() as connection, pytest.raises(OSError):
        connection.settimeout(PATIENCE)
        while True:  # the server stops reading, and in the end resets the connection
            connection.sendall(head("GET", "/kv/large") * 50)


def test_large_answers_to_a_pipeline(opened: tuple[Server, Open]) -> None:
    request = sized("PUT", "/kv/large", LARGE) + head("GET", "/kv/large") * 2
    with talk(opened, request + head("GET", "/kv/large", "Connection: close")) as connection:
        answers = responses(rest_of(connection))
    assert [answer.body == LARGE for answer in answers[1:]] == [True] * 3


def test_what_is_neither_http_nor_tls_is_refused_and_others_are_served(opened: tuple[Server, Open]) -> None:
    with opened[1]() as usual:
        over_tls = isinstance(usual, ssl.SSLSocket)
    for data in (b"GARBAGE / HTTP/0.9\r\n\r\n", b"\x16\x03\x01" + bytes(500), b"\xff" * 500):
        with socket.create_connection(opened[0].address, PATIENCE) as connection:
            connection.sendall(data)
            said = rest_of(connection)
        if over_tls:
            assert said[:1] in (b"", TLS_ALERT), said
        else:
            assert [answer.status for answer in responses(said)] == [400]
    assert statuses(opened, head("GET", "/kv/a", "Connection: close")) == [404]


def test_a_handshake_that_never_comes(opened: tuple[Server, Open]) -> None:
    with (
        socket.create_connection(opened[0].address, PATIENCE) as connection,
        suppress(ConnectionResetError),  # over TLS there is nobody yet to say farewell to
    ):
        assert rest_of(connection) == b""


def test_one_connection_too_many(opened: tuple[Server, Open]) -> None:
    kept = []
    try:
        while len(kept) < 100:
            connection = opened[1]()
            kept.append(connection)
            connection.sendall(head("GET", "/kv/a"))
            [answer] = responses(_one(connection))
            if answer.status == 503:
                break
        assert (answer.status, answer.header("retry-after"), answer.header("connection")) == (503, "1", "close")
        assert len(kept) <= 21
    finally:
        for connection in kept:
            connection.close()


def _one(connection: socket.socket) -> bytes:
    """One answer whose length is told."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        assert more, data
        data += more
    length = int(data.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(data) < data.index(b"\r\n\r\n") + 4 + length:
        data += connection.recv(65536)
    return data
