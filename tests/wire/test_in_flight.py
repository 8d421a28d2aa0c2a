"""All requests that are read or answered have a limit together: past it the answer is 503, at once, and nothing else."""

from __future__ import annotations

import pytest

from tests.conftest import StartServer
from tests.support.answer import Answer
from tests.support.dialects import Dialect, encoded, value_of
from tests.support.server import Server
from tests.support.wire import Connection, chunked, head

SIZE = 40_000
LIMIT = 64 * 1024
"""One body of that size has room, and two have not."""


@pytest.fixture
def server(dialect: Dialect, serve: StartServer) -> Server:
    """A process of that profile that takes little at a time."""
    return serve("--profile", dialect.profile, "--store", "memory", "--max-in-flight", str(LIMIT))


def is_overload(answer: Answer, dialect: Dialect) -> None:
    assert answer.header("retry-after") == "1"
    dialect.is_error(answer, 503)


def begun(connection: Connection, dialect: Dialect, key: str) -> bytes:
    """Begin a large write; returns the body that is still to be sent once the server waits for it."""
    call = dialect.write(key, value_of(SIZE))
    length = f"Content-Length: {len(call.body)}"
    connection.send(head(call.method, call.target, length, "Expect: 100-continue"))
    assert connection.receive_head().startswith(b"HTTP/1.1 100 ")
    return call.body


@pytest.mark.parametrize("framing", ["sized", "chunked"])
def test_a_body_without_room_is_503_and_the_one_that_was_there_goes_on(
    server: Server, dialect: Dialect, key: str, framing: str
) -> None:
    with Connection(server.address) as first, Connection(server.address) as second:
        rest = begun(first, dialect, key)
        call = dialect.write(key + "x", value_of(SIZE))
        large = encoded(call) if framing == "sized" else chunked(call.method, call.target, call.body[:9], call.body[9:])
        second.send(large)
        answer = second.receive()
        is_overload(answer, dialect)
        if answer.header("connection") == "close":
            assert second.receive_rest() == b""
        else:
            assert second.ask("GET", dialect.target("missing")).status == 404
        first.send(rest)
        assert first.receive().status == dialect.created
    assert dialect.read(server.address, key) == value_of(SIZE)
    with Connection(server.address) as third:
        assert dialect.put(third, key + "x", value_of(SIZE)).status < 300


def test_small_requests_have_room_beside_a_large_one(server: Server, dialect: Dialect, key: str) -> None:
    with Connection(server.address) as first, Connection(server.address) as second:
        begun(first, dialect, key)
        for _ in range(20):
            assert second.ask("GET", dialect.target("missing")).status == 404


def test_so_many_small_ones_that_there_is_no_room(server: Server, dialect: Dialect, key: str) -> None:
    connections = [Connection(server.address) for _ in range(LIMIT // 4096)]
    call = dialect.write(key, b'"v"')
    admitted = []
    for connection in connections:
        connection.send(head(call.method, call.target, f"Content-Length: {len(call.body)}", "Expect: 100-continue"))
        first = connection.receive_head()
        admitted.append(first.startswith(b"HTTP/1.1 100 "))
        if not admitted[-1]:
            assert first.startswith(b"HTTP/1.1 503 ")
    assert admitted == [True] * (len(connections) - 1) + [False]
    for connection in connections:
        connection.close()
    with Connection(server.address) as last:
        assert dialect.put(last, key, b'"v"').status < 300


@pytest.mark.parametrize("leave", ["close", "abort"])
def test_who_leaves_makes_room(server: Server, dialect: Dialect, key: str, leave: str) -> None:
    for _ in range(5):
        connection = Connection(server.address)
        body = begun(connection, dialect, key)
        connection.send(body[: SIZE // 2])
        getattr(connection, leave)()
    with Connection(server.address) as last:
        assert dialect.put(last, key, value_of(SIZE)).status < 300
