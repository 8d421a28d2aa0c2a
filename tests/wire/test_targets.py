"""The other three forms of a request target, and methods that ask for something else than a resource."""

from __future__ import annotations

import pytest

from tests.conftest import Connect
from tests.support.answer import TEXT, is_json_error, is_text
from tests.support.dialects import TRANSACTIONAL, Dialect, encoded
from tests.support.server import Server
from tests.support.wire import head, sized


@pytest.mark.parametrize(
    "authority",
    ["http://localhost", "http://localhost:4000", "http://example.org", "HTTP://LOCALHOST", "https://a.b:1"],
)
def test_absolute_form_is_the_path_in_it(
    connect: Connect, server: Server, dialect: Dialect, key: str, authority: str
) -> None:
    call = dialect.write(key, b"1")
    connection = connect()
    connection.send(encoded(call).replace(call.target.encode(), f"{authority}{call.target}".encode(), 1))
    assert connection.receive().status == dialect.created
    assert dialect.read(server.address, key) == b"1"
    connection.send(head("GET", f"{authority}{dialect.target(key)}?x=1"))
    assert connection.receive().body == dialect.shown(key, b"1")


@pytest.mark.parametrize("target", ["http://localhost", "http://localhost?x"])
def test_absolute_form_without_a_path_is_the_root(connect: Connect, dialect: Dialect, target: str) -> None:
    connection = connect()
    connection.send(head("GET", "/") + head("GET", target))
    root, absolute = connection.receive(), connection.receive()
    assert (absolute.status, absolute.body) == (root.status, root.body)


def test_options_of_the_server_is_answered(connect: Connect, dialect: Dialect) -> None:
    connection = connect()
    connection.send(head("OPTIONS", "*"))
    answer = connection.receive("OPTIONS")
    if dialect is TRANSACTIONAL:
        is_json_error(answer, 404)
    else:
        assert answer.status in (200, 204, 400, 404, 405)
    assert connect().ask("GET", "/no/such/path").status == 404


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_an_asterisk_is_no_key(connect: Connect, dialect: Dialect, method: str) -> None:
    connection = connect()
    connection.send(sized(method, "*", b"1") + head("GET", "/no/such/path"))
    nothing, unknown = connection.receive(method), connection.receive()
    assert (nothing.status, nothing.body) == (unknown.status, unknown.body)


@pytest.mark.parametrize("target", ["localhost:80", "/", "example.org:443"])
def test_no_tunnel_is_opened(connect: Connect, server: Server, dialect: Dialect, key: str, target: str) -> None:
    connection = connect()
    connection.send(head("CONNECT", target) + encoded(dialect.write(key, b"1")))
    assert 400 <= connection.receive().status < 600
    assert connect().ask("GET", "/no/such/path").status == 404


def test_fragment_in_a_target_is_no_crash(connect: Connect, dialect: Dialect, key: str) -> None:
    connection = connect()
    connection.send(head("GET", f"{dialect.target(key)}#fragment"))
    assert connection.receive().status in (400, 404)


@pytest.mark.parametrize("target", ["/\xc3\xa9", "/kv/\xff", "/keys/\xe9", '/"', "/<>", "/^`{|}", "/\\", "/\x7f"])
def test_characters_that_should_have_been_encoded_are_no_crash(connect: Connect, dialect: Dialect, target: str) -> None:
    connection = connect()
    connection.send(head("GET", target))
    assert connection.receive().status in (400, 404)


def test_unknown_path_is_answered_in_the_profiles_own_form(connect: Connect, dialect: Dialect) -> None:
    answer = connect().ask("GET", "/no/such/path")
    if dialect.error_type == TEXT:
        is_text(answer, 404, "not found\n")
    else:
        is_json_error(answer, 404)
