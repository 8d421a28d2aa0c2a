"""The other three forms of a request target, and methods that ask for something else than a resource."""

from __future__ import annotations

import pytest

from tests.conftest import Connect
from tests.support.profiles import Profile, encoded
from tests.support.server import Server
from tests.support.wire import head, sized


@pytest.mark.parametrize(
    "authority",
    ["http://localhost", "http://localhost:4000", "http://example.org", "HTTP://LOCALHOST", "https://a.b:1"],
)
def test_absolute_form_is_the_path_in_it(
    connect: Connect, server: Server, profile: Profile, key: str, authority: str
) -> None:
    call = profile.write(key, b"1")
    connection = connect()
    connection.send(encoded(call).replace(call.target.encode(), f"{authority}{call.target}".encode(), 1))
    assert connection.receive().status == profile.created
    assert profile.read(server.address, key) == b"1"
    connection.send(head("GET", f"{authority}{profile.target(key)}?x=1"))
    assert connection.receive().body == profile.shown(key, b"1")


@pytest.mark.parametrize("target", ["http://localhost", "http://localhost?x"])
def test_absolute_form_without_a_path_is_the_root(connect: Connect, profile: Profile, target: str) -> None:
    connection = connect()
    connection.send(head("GET", "/") + head("GET", target))
    root, absolute = connection.receive(), connection.receive()
    assert (absolute.status, absolute.body) == (root.status, root.body)


def test_options_of_the_server_is_answered(connect: Connect, profile: Profile) -> None:
    connection = connect()
    connection.send(head("OPTIONS", "*"))
    profile.is_error(connection.receive("OPTIONS"), 404)
    assert connect().ask("GET", "/no/such/path").status == 404


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_an_asterisk_is_no_key(connect: Connect, profile: Profile, method: str) -> None:
    connection = connect()
    connection.send(sized(method, "*", b"1") + head("GET", "/no/such/path"))
    nothing, unknown = connection.receive(method), connection.receive()
    assert (nothing.status, nothing.body) == (unknown.status, unknown.body)


@pytest.mark.parametrize(("target", "status"), [("localhost:80", 400), ("/", 404), ("example.org:443", 400)])
def test_no_tunnel_is_opened(connect: Connect, profile: Profile, key: str, target: str, status: int) -> None:
    connection = connect()
    connection.send(head("CONNECT", target) + encoded(profile.write(key, b"1")))
    assert connection.receive().status == status
    assert connect().ask("GET", "/no/such/path").status == 404


def test_fragment_in_a_target_is_a_part_of_the_key(connect: Connect, profile: Profile, key: str) -> None:
    target = f"{profile.target(key)}#fragment"
    connection = connect()
    connection.send(
        encoded(profile.write(f"{key}#fragment", b"1")) + head("GET", profile.target(key)) + head("GET", target)
    )
    assert [connection.receive().status for _ in range(3)] == [profile.created, 404, 200]


@pytest.mark.parametrize("target", ["/\xc3\xa9", "/kv/\xff", "/keys/\xe9", "/\x7f", "/\x01"])
def test_bytes_that_no_target_holds_are_a_400(connect: Connect, target: str) -> None:
    connection = connect()
    connection.send(head("GET", target))
    assert connection.receive().status == 400


@pytest.mark.parametrize("target", ['/"', "/<>", "/^`{|}", "/\\"])
def test_printable_characters_that_should_have_been_encoded_are_taken(
    connect: Connect, profile: Profile, target: str
) -> None:
    connection = connect()
    connection.send(head("GET", target))
    profile.is_error(connection.receive(), 404)
