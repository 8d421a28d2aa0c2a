"""Chunked bodies are put together, however they and the packets that carry them are cut."""

from __future__ import annotations

import pytest

from tests.conftest import Connect
from tests.support.profiles import Profile, encoded
from tests.support.server import Server
from tests.support.wire import chunked, head, settle


def with_body(profile: Profile, key: str, value: bytes, form: str) -> bytes:
    """A write whose body is put into a form: `{0}` its first byte, `{1}` the rest, `{n}` the size of that."""
    call = profile.write(key, value)
    first, rest = call.body[:1].decode(), call.body[1:].decode()
    body = form.format(first, rest, n=f"{len(rest):x}", N=f"{len(rest):X}")
    return head(call.method, call.target, "Transfer-Encoding: chunked") + body.encode()


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_chunks_of_any_size(connect: Connect, server: Server, profile: Profile, key: str, size: int) -> None:
    call = profile.write(key, b'"0123456789"')
    pieces = [call.body[start : start + size] for start in range(0, len(call.body), size)]
    connection = connect()
    connection.send(chunked(call.method, call.target, *pieces))
    assert connection.receive().status == profile.created
    assert profile.read(server.address, key) == b'"0123456789"'


@pytest.mark.parametrize(
    "form",
    [
        pytest.param("1\r\n{0}\r\n{n}\r\n{1}\r\n0\r\n\r\n", id="plain"),
        pytest.param("1\r\n{0}\r\n{N}\r\n{1}\r\n0\r\n\r\n", id="capital hex"),
        pytest.param("0001\r\n{0}\r\n00{n}\r\n{1}\r\n000\r\n\r\n", id="leading zeros"),
        pytest.param("1\r\n{0}\r\n{n}\r\n{1}\r\n0\r\nX-Trailer: 1\r\nX-B: 2\r\n\r\n", id="trailers"),
        pytest.param("1\r\n{0}\r\n{n}\r\n{1}\r\n0\r\nContent-Length: 5\r\n\r\n", id="a length as trailer"),
        pytest.param('1;a\r\n{0}\r\n{n};b="c;d"\r\n{1}\r\n0;e=f\r\n\r\n', id="extensions"),
    ],
)
def test_every_form_of_chunks(connect: Connect, server: Server, profile: Profile, key: str, form: str) -> None:
    connection = connect()
    connection.send(with_body(profile, key, b'"abcdefghijklmnop"', form))
    assert connection.receive().status == profile.created
    assert profile.read(server.address, key) == b'"abcdefghijklmnop"'
    assert connection.ask("GET", profile.target(key)).status == 200


def test_coding_has_no_case(connect: Connect, server: Server, profile: Profile, key: str) -> None:
    call = profile.write(key, b"1")
    connection = connect()
    connection.send(chunked(call.method, call.target, call.body).replace(b": chunked", b": Chunked"))
    assert connection.receive().status == profile.created
    assert profile.read(server.address, key) == b"1"


@pytest.mark.parametrize("framing", ["chunked", "sized"])
def test_request_cut_at_every_byte(connect: Connect, server: Server, profile: Profile, key: str, framing: str) -> None:
    def request(number: int) -> bytes:
        call = profile.write(f"{key}x{number}", b'"v"')
        if framing == "sized":
            return encoded(call)
        return chunked(call.method, call.target, call.body[:1], call.body[1:])

    for cut in range(1, len(request(100))):
        data = request(100 + cut)
        connection = connect()
        connection.send(data[:cut])
        settle(server.address)
        connection.send(data[cut:])
        assert connection.receive().status == profile.created, f"cut at {cut}"
        assert connection.ask("GET", "/no/such/path").status == 404
        connection.close()
    assert profile.read(server.address, f"{key}x101") == b'"v"'


def test_request_in_single_bytes(connect: Connect, server: Server, profile: Profile, key: str) -> None:
    call = profile.write(key, b'"v"')
    connection = connect()
    connection.send_bytewise(chunked(call.method, call.target, call.body[:2], call.body[2:]))
    assert connection.receive().status == profile.created
    assert profile.read(server.address, key) == b'"v"'


def test_empty_chunked_body_is_an_empty_body(connect: Connect, profile: Profile, key: str) -> None:
    call = profile.write(key, b"1")
    connection = connect()
    connection.send(head(call.method, call.target, "Content-Length: 0"))
    expected = connection.receive().status
    connection.send(chunked(call.method, call.target))
    assert connection.receive().status == expected
    assert connection.ask("GET", "/no/such/path").status == 404
