"""The 413 also reaches a client that sends all of its body before it reads; then the connection closes."""

from __future__ import annotations

import pytest

from tests.conftest import Connect
from tests.support.profiles import Profile, encoded, value_of
from tests.support.server import Server
from tests.support.wire import Connection, chunked, head

FAR_TOO_LARGE = value_of(8 * 1024 * 1024)


def is_refused(connection: Connection) -> None:
    """The next answer is a 413 with `Connection: close`, and the connection closes."""
    answer = connection.receive()
    assert answer.status == 413
    assert answer.header("connection") == "close"
    assert connection.receive_rest() == b""


@pytest.mark.parametrize("framing", ["sized", "one chunk", "many chunks"])
def test_client_that_sends_everything_first_gets_the_413(
    connect: Connect, server: Server, profile: Profile, key: str, framing: str
) -> None:
    call = profile.write(key, FAR_TOO_LARGE)
    size = len(call.body) if framing == "one chunk" else 10_000
    pieces = [call.body[start : start + size] for start in range(0, len(call.body), size)]
    connection = connect()
    connection.send(encoded(call) if framing == "sized" else chunked(call.method, call.target, *pieces))
    is_refused(connection)
    assert profile.read(server.address, key) is None


@pytest.mark.parametrize(
    ("size", "status"),
    [(b"%x" % len(FAR_TOO_LARGE), 413), (b"f" * 15, 413), (b"f" * 16, 400), (b"f" * 300, 400)],
)
def test_chunk_that_is_too_large_is_not_waited_for(
    connect: Connect, server: Server, profile: Profile, key: str, size: bytes, status: int
) -> None:
    call = profile.write(key, b"1")
    connection = connect()
    connection.send(head(call.method, call.target, "Transfer-Encoding: chunked") + size + b"\r\n")
    connection.send(FAR_TOO_LARGE[: len(FAR_TOO_LARGE) // 2])
    assert connection.receive().status == status
    assert connection.receive_rest() == b""
    assert profile.read(server.address, key) is None


def test_client_that_never_sends_the_body_gets_the_413(
    connect: Connect, server: Server, profile: Profile, key: str
) -> None:
    call = profile.write(key, b"1")
    connection = connect()
    connection.send(head(call.method, call.target, "Content-Length: 1000000000"))
    assert connection.receive().status == 413
    connection.half_close()
    assert connection.receive_rest() == b""


def test_requests_before_a_body_that_is_too_large_are_answered(
    connect: Connect, server: Server, profile: Profile, key: str
) -> None:
    connection = connect()
    connection.send(encoded(profile.write(key, b"1")) + encoded(profile.write(key, FAR_TOO_LARGE)))
    assert connection.receive().status == profile.created
    is_refused(connection)
    assert profile.read(server.address, key) == b"1"


def test_request_after_a_body_that_is_too_large_is_not_done(
    connect: Connect, server: Server, profile: Profile, key: str
) -> None:
    connection = connect()
    connection.send(encoded(profile.write(f"{key}large", FAR_TOO_LARGE)) + encoded(profile.write(key, b"1")))
    is_refused(connection)
    assert profile.read(server.address, key) is None


def test_others_are_served_while_one_sends_too_much(
    connect: Connect, server: Server, profile: Profile, key: str
) -> None:
    large = encoded(profile.write(f"{key}large", FAR_TOO_LARGE))
    connection = connect()
    connection.send(large[: len(large) // 2])
    assert connect().ask("GET", profile.target(key)).status == 404
    connection.send(large[len(large) // 2 :])
    assert connection.receive().status == 413
    assert profile.read(server.address, f"{key}large") is None
