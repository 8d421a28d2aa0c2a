"""What requests hold has a limit together: past it the answer is 503. (`tests/unit/web/test_room.py` says who loses.)"""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.conftest import StartServer
from tests.support.answer import Answer
from tests.support.profiles import Profile, encoded, value_of
from tests.support.server import Server
from tests.support.wire import Connection, chunked, head

SIZE = 40_000
LIMIT = 64 * 1024
"""One body of that size has room, and one of twice that has not."""


@pytest.fixture
def server(profile: Profile, serve: StartServer) -> Server:
    """A process of that profile that takes little at a time."""
    return serve("--profile", profile.name, "--store", "memory", "--max-in-flight", str(LIMIT))


def is_overload(answer: Answer, profile: Profile) -> None:
    assert answer.header("retry-after") == "1"
    profile.is_error(answer, 503)


def begun(connection: Connection, profile: Profile, key: str) -> bytes:
    """Begin a large write; returns the body that is still to be sent once the server waits for it."""
    call = profile.write(key, value_of(SIZE))
    length = f"Content-Length: {len(call.body)}"
    connection.send(head(call.method, call.target, length, "Expect: 100-continue"))
    assert connection.receive_head().startswith(b"HTTP/1.1 100 ")
    return call.body


def test_what_is_only_announced_costs_others_nothing(server: Server, profile: Profile, key: str) -> None:
    with ExitStack() as stack:
        for number in range(4):
            begun(stack.enter_context(Connection(server.address)), profile, f"{key}{number}")
        with Connection(server.address) as other:
            assert profile.put(other, key, value_of(SIZE)).status == profile.created


def test_a_body_that_can_never_have_room_is_503(server: Server, profile: Profile, key: str) -> None:
    call = profile.write(key, value_of(2 * SIZE))
    for request in (encoded(call), chunked(call.method, call.target, call.body[:9], call.body[9:])):
        with Connection(server.address) as connection:
            connection.send(request)
            is_overload(connection.receive(), profile)
            assert connection.receive_rest() == b""


def test_small_requests_have_room_beside_a_large_one(server: Server, profile: Profile, key: str) -> None:
    with Connection(server.address) as first, Connection(server.address) as second:
        begun(first, profile, key)
        for _ in range(20):
            assert second.ask("GET", profile.target("missing")).status == 404


@pytest.mark.parametrize("leave", ["close", "abort"])
def test_who_leaves_makes_room(server: Server, profile: Profile, key: str, leave: str) -> None:
    for _ in range(5):
        connection = Connection(server.address)
        body = begun(connection, profile, key)
        connection.send(body[: SIZE // 2])
        getattr(connection, leave)()
    with Connection(server.address) as last:
        assert profile.put(last, key, value_of(SIZE)).status < 300
