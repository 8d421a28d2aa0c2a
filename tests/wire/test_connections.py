"""Connections stay open or close as both sides said, and stay in step whatever the answer was."""

from __future__ import annotations

import json

import pytest

from tests.conftest import Connect, StartServer
from tests.support.profiles import MAX_VALUE, Profile, encoded, value_of
from tests.support.server import Server
from tests.support.wire import Connection, head, sized


def test_connection_is_kept_for_many_requests(connect: Connect, profile: Profile, key: str) -> None:
    connection = connect()
    for number in range(100):
        connection.send(encoded(profile.write(f"{key}x{number}", b"%d" % number)))
        assert connection.receive().status == profile.created


@pytest.mark.parametrize("word", ["close", "Close", "CLOSE", "x, close", "close, x"])
def test_close_is_honoured(connect: Connect, server: Server, profile: Profile, key: str, word: str) -> None:
    connection = connect()
    connection.send(encoded(profile.write(key, b"1"), f"Connection: {word}"))
    answer = connection.receive()
    assert answer.status == profile.created
    assert connection.receive_rest() == b""
    assert profile.read(server.address, key) == b"1"


def test_nothing_after_a_close_is_answered_or_done(
    connect: Connect, server: Server, profile: Profile, key: str
) -> None:
    connection = connect()
    connection.send(head("GET", "/", "Connection: close") + encoded(profile.write(key, b"1")))
    connection.receive()
    assert connection.receive_rest() == b""
    assert profile.read(server.address, key) is None


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/no/such/path"),
        ("GET", "/no/such/path"),
        ("PATCH", "/"),
        ("DELETE", "/no/such/path"),
        ("OPTIONS", "/no/such/path"),
    ],
)
def test_body_of_a_refused_request_is_not_the_next_request(
    connect: Connect, server: Server, profile: Profile, key: str, method: str, target: str
) -> None:
    hidden = encoded(profile.write(key, b"1"))
    connection = connect()
    connection.send(sized(method, target, hidden) + head("GET", profile.target(key)))
    assert connection.receive(method).status == 404
    assert connection.receive().status == 404
    assert profile.read(server.address, key) is None


def test_body_of_a_read_is_read_over(connect: Connect, server: Server, profile: Profile, key: str) -> None:
    hidden = encoded(profile.write(key, b"1"))
    connection = connect()
    connection.send(sized("GET", profile.target(key), hidden) + head("GET", profile.target(key)))
    assert [connection.receive().status for _ in range(2)] == [404, 404]
    assert profile.read(server.address, key) is None


def test_empty_lines_between_requests_are_skipped(connect: Connect, profile: Profile, key: str) -> None:
    connection = connect()
    for _ in range(3):
        connection.send(b"\r\n" + head("GET", profile.target(key)))
        assert connection.receive().status == 404


def test_http10_closes_after_the_answer(connect: Connect, server: Server, profile: Profile, key: str) -> None:
    connection = connect()
    connection.send(encoded(profile.write(key, b"1")).replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert connection.receive().status == profile.created
    assert connection.receive_rest() == b""
    assert profile.read(server.address, key) == b"1"


def test_http10_needs_no_host(connect: Connect, profile: Profile, key: str) -> None:
    connection = connect()
    connection.send(f"GET {profile.target(key)} HTTP/1.0\r\n\r\n".encode())
    assert connection.receive().status == 404
    assert connection.receive_rest() == b""


def test_http10_connection_is_kept_if_the_client_asks_for_it(connect: Connect, profile: Profile, key: str) -> None:
    connection = connect()
    connection.send(head("GET", profile.target(key), "Connection: keep-alive", version="HTTP/1.0"))
    answer = connection.receive()
    assert (answer.status, answer.header("connection")) == (404, "keep-alive")
    assert connection.ask("GET", profile.target(key)).status == 404


def test_http10_gets_no_chunks(serve: StartServer) -> None:
    server = serve("--profile", "keys", "--store", "memory", "--max-value", str(MAX_VALUE))
    with Connection(server.address) as connection:
        for number in range(40):
            assert connection.ask("PUT", f"/keys/http10.{number:02}", value_of(MAX_VALUE)).status in (
                200,
                201,
            )
        connection.send(head("GET", "/keys?filter=http10.$", version="HTTP/1.0"))
        start, listing = connection.receive_head(), connection.receive_rest()
    assert start.startswith(b"HTTP/1.")
    assert b"transfer-encoding" not in start.lower()
    assert len(json.loads(listing)) == 40


def test_many_connections_at_once(connect: Connect, profile: Profile, key: str) -> None:
    connections = [connect() for _ in range(200)]
    for number, connection in enumerate(connections):
        connection.send(encoded(profile.write(f"{key}x{number}", b"%d" % number)))
    assert {connection.receive().status for connection in connections} == {profile.created}
