"""What requests hold has a limit together: past it the answer is 503. (`tests/unit/web/test_room.py` says who loses.)"""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.conftest import StartServer
from tests.support.answer import Answer
from tests.support.dialects import Dialect, encoded, value_of
from tests.support.server import Server
from tests.support.wire import Connection, chunked, head

SIZE = 40_000
LIMIT = 64 * 1024
"""One body of that size has room, and one of twice that has not."""


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


def test_what_is_only_announced_costs_others_nothing(server: Server, dialect: Dialect, key: str) -> None:
    with ExitStack() as stack:
        for number in range(4):
            begun(stack.enter_context(Connection(server.address)), dialect, f"{key}{number}")
        with Connection(server.address) as other:
            assert dialect.put(other, key, value_of(SIZE)).status == dialect.created


def test_a_body_that_can_never_have_room_is_503(server: Server, dialect: Dialect, key: str) -> None:
    call = dialect.write(key, value_of(2 * SIZE))
    for request in (encoded(call), chunked(call.method, call.target, call.body[:9], call.body[9:])):
        with Connection(server.address) as connection:
            connection.send(request)
            is_overload(connection.receive(), dialect)
            assert connection.receive_rest() == b""


def test_small_requests_have_room_beside_a_large_one(server: Server, dialect: Dialect, key: str) -> None:
    with Connection(server.address) as first, Connection(server.address) as second:
        begun(first, dialect, key)
        for _ in range(20):
            assert second.ask("GET", dialect.target("missing")).status == 404


@pytest.mark.parametrize("leave", ["close", "abort"])
def test_who_leaves_makes_room(server: Server, dialect: Dialect, key: str, leave: str) -> None:
    for _ in range(5):
        connection = Connection(server.address)
        body = begun(connection, dialect, key)
        connection.send(body[: SIZE // 2])
        getattr(connection, leave)()
    with Connection(server.address) as last:
        assert dialect.put(last, key, value_of(SIZE)).status < 300
