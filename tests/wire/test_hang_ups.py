"""A client that hangs up in the middle of a request changes nothing, and other clients do not notice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conftest import Connect, StartServer
from tests.support.profiles import MAX_VALUE, Profile, encoded, value_of
from tests.support.server import Server
from tests.support.wire import Connection, chunked, head, settle

HangUp = Callable[[Connection], None]

HOW = pytest.mark.parametrize(
    "hang_up",
    [Connection.close, Connection.abort, Connection.half_close],
    ids=["close", "reset", "half close"],
)


@HOW
@pytest.mark.parametrize("framing", ["sized", "chunked"])
@pytest.mark.parametrize("part", [0, 10, 30, 50, 70, 90, 99])
def test_request_that_ends_early_is_not_done(
    connect: Connect, server: Server, profile: Profile, key: str, framing: str, part: int, hang_up: HangUp
) -> None:
    call = profile.write(key, value_of(300))
    request = encoded(call) if framing == "sized" else chunked(call.method, call.target, call.body)
    connection = connect()
    connection.send(request[: len(request) * part // 100])
    settle(server.address)
    hang_up(connection)
    settle(server.address)
    assert profile.read(server.address, key) is None
    assert connect().ask("GET", "/no/such/path").status == 404


@pytest.mark.parametrize("part", [0, 30, 99])
def test_half_closed_connection_is_closed(connect: Connect, profile: Profile, key: str, part: int) -> None:
    request = encoded(profile.write(key, value_of(300)))
    connection = connect()
    connection.send(request[: len(request) * part // 100])
    connection.half_close()
    rest = connection.receive_rest()
    assert rest == b"" or rest.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 408 "))


@HOW
def test_answer_that_is_never_read(
    connect: Connect, server: Server, profile: Profile, key: str, hang_up: HangUp
) -> None:
    connection = connect()
    connection.send(encoded(profile.write(key, b"1")) + head("GET", profile.target(key)) * 100)
    hang_up(connection)
    settle(server.address)
    assert profile.read(server.address, key) in (b"1", None)


@pytest.mark.parametrize("hang_up", [Connection.close, Connection.abort], ids=["close", "reset"])
def test_long_listing_that_is_never_read(serve: StartServer, hang_up: HangUp) -> None:
    server = serve("--profile", "keys", "--store", "memory", "--max-value", str(MAX_VALUE))
    with Connection(server.address) as connection:
        for number in range(100):
            assert connection.ask("PUT", f"/keys/unread.{number}", value_of(MAX_VALUE)).status in (200, 201)
        for _ in range(10):
            reader = Connection(server.address)
            reader.send(head("GET", "/keys?filter=unread.$"))
            reader.receive_head()
            hang_up(reader)
        assert len(connection.ask("GET", "/keys?filter=unread.$").json()) == 100
    assert server.is_alive()


def test_client_that_waits_in_vain_blocks_nobody(connect: Connect, server: Server, profile: Profile, key: str) -> None:
    request = encoded(profile.write(f"{key}slow", b"1"))
    waiting = [connect() for _ in range(20)]
    for connection in waiting:
        connection.send(request[:-1])
    for number in range(20):
        connection = connect()
        connection.send(encoded(profile.write(f"{key}x{number}", b"1")))
        assert connection.receive().status == profile.created
    waiting[0].send(request[-1:])
    assert waiting[0].receive().status == profile.created
