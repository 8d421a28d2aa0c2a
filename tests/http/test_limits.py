"""Keys and values at each limit are taken; one byte over it they are refused, and nothing changes."""

from __future__ import annotations

import pytest
from pytest_twisted import ensureDeferred

from tests.conftest import Connect, StartServer
from tests.support.answer import TEXT, Answer, is_json_error, is_text
from tests.support.inprocess import Client
from tests.support.profiles import KEYS, TRANSACTIONAL, Profile, encoded, value_of
from tests.support.server import Server
from tests.support.wire import ask, chunked, sized

MEBIBYTE = 1024 * 1024


def is_too_large(answer: Answer, profile: Profile) -> None:
    profile.is_error(answer, 413)
    if profile.error_type == TEXT:
        is_text(answer, 413, "value too large\n")


@pytest.mark.parametrize("framing", ["sized", "one chunk", "many chunks"])
def test_value_at_the_limit_is_taken(
    server: Server, connect: Connect, profile: Profile, key: str, framing: str
) -> None:
    value = value_of(profile.max_value)
    connection = connect()
    connection.send(framed(profile, key, value, framing))
    assert connection.receive().status == profile.created
    assert profile.read(server.address, key) == value


@pytest.mark.parametrize("framing", ["sized", "one chunk", "many chunks"])
def test_value_over_the_limit_is_413_and_changes_nothing(
    server: Server, connect: Connect, profile: Profile, key: str, framing: str
) -> None:
    connection = connect()
    connection.send(framed(profile, key, b'"before"', "sized"))
    assert connection.receive().status == profile.created
    connection.send(framed(profile, key, value_of(profile.max_value + 1), framing))
    answer = connection.receive()
    is_too_large(answer, profile)
    if answer.header("connection") == "close":
        assert connection.receive_rest() == b""
    else:
        assert connection.ask("GET", profile.target("missing")).status == 404
    assert profile.read(server.address, key) == b'"before"'


def framed(profile: Profile, key: str, value: bytes, framing: str) -> bytes:
    """A write of the value, in one of the framings."""
    call = profile.write(key, value)
    if framing == "sized":
        return encoded(call)
    size = len(call.body) if framing == "one chunk" else 1000
    pieces = [call.body[start : start + size] for start in range(0, len(call.body), size)]
    return chunked(call.method, call.target, *pieces)


@pytest.mark.parametrize(
    ("profile", "target"),
    [("lsfr", "/kv/a"), ("clstr", "/kv/a"), ("keys", "/keys/a")],
)
def test_default_limit_is_8_mebibytes(serve: StartServer, profile: str, target: str) -> None:
    server = serve("--profile", profile, "--store", "memory")
    assert ask(server.address, "PUT", target, value_of(8 * MEBIBYTE)).status in (200, 201)
    assert ask(server.address, "PUT", target, value_of(8 * MEBIBYTE + 1)).status == 413
    assert ask(server.address, "GET", target).body == value_of(8 * MEBIBYTE)


def test_default_limit_of_transactional_is_8_mebibytes(serve: StartServer) -> None:
    server = serve("--profile", "transactional", "--store", "memory")
    assert ask(server.address, "POST", "/set", b'{"a":%b}' % value_of(8 * MEBIBYTE)).status in (200, 201)
    assert ask(server.address, "POST", "/set", b'{"a":%b}' % value_of(8 * MEBIBYTE + 1)).status == 413
    assert ask(server.address, "POST", "/commit").status == 204
    assert ask(server.address, "GET", "/a").body == b'{"a":%b}' % value_of(8 * MEBIBYTE)


@pytest.mark.parametrize("key", ["k" * 4096, "%C3%A9" * 2048], ids=["4096 letters", "2048 letters of 2 bytes"])
def test_longest_keys_of_transactional(serve: StartServer, key: str) -> None:
    server = serve("--profile", "transactional", "--store", "memory")
    name = key.replace("%C3%A9", "é")
    assert ask(server.address, "POST", "/set", f'{{"{name}":1}}'.encode()).status in (200, 201)
    assert ask(server.address, "POST", "/commit").status == 204
    assert ask(server.address, "GET", f"/{key}").json() == {name: 1}
    assert ask(server.address, "DELETE", "/set", f'"{name}"'.encode()).json() == name
    assert ask(server.address, "POST", "/commit").status == 204
    is_json_error(ask(server.address, "GET", f"/{key}"), 404)


@pytest.mark.parametrize("key", ["k" * 4097, "%C3%A9" * 2048 + "k"], ids=["4097 letters", "4097 bytes"])
def test_longer_keys_of_transactional(serve: StartServer, key: str) -> None:
    server = serve("--profile", "transactional", "--store", "memory")
    name = key.replace("%C3%A9", "é")
    is_json_error(ask(server.address, "POST", "/set", f'{{"{name}":1}}'.encode()), 400)
    is_json_error(ask(server.address, "GET", f"/{key}"), 404)
    assert ask(server.address, "DELETE", "/set", f'"{name}"'.encode()).status == 200
    assert ask(server.address, "POST", "/commit").status == 204


@pytest.mark.parametrize("profile", ["lsfr", "clstr"])
def test_longest_key_of_lsfr_and_clstr(serve: StartServer, profile: str) -> None:
    server = serve("--profile", profile, "--store", "memory")
    target = "/kv/" + "k" * 4096
    assert ask(server.address, "PUT", target, b"1").status == 200
    is_text(ask(server.address, "GET", target), 200, "1")
    for method, body in [("PUT", b"2"), ("GET", None), ("DELETE", None)]:
        is_text(ask(server.address, method, target + "k", body), 400, "key too long\n")
    is_text(ask(server.address, "GET", target), 200, "1")


@pytest.mark.parametrize("arguments", [["--profile", "lsfr", "--max-key", "10", "--max-value", "1KiB"]])
@ensureDeferred
async def test_limits_can_be_chosen(http: Client) -> None:
    assert (await http("PUT", "/kv/0123456789", b"v" * 1024)).status == 200
    is_text(await http("PUT", "/kv/0123456789a", b"v"), 400, "key too long\n")
    is_text(await http("PUT", "/kv/0123456789", b"v" * 1025), 413, "value too large\n")


@pytest.mark.parametrize(
    ("profile", "method", "target"),
    [(TRANSACTIONAL, "POST", "/set"), (KEYS, "PUT", "/keys"), (KEYS, "PUT", "/keys/a")],
    ids=["set", "keys", "key"],
)
def test_space_is_no_way_around_the_limit(server: Server, profile: Profile, method: str, target: str) -> None:
    is_too_large(ask(server.address, method, target, b'{"a":1}' + b" " * 4 * MEBIBYTE), profile)


@pytest.mark.parametrize("length", [10**9, 10**18])
def test_announced_body_over_the_limit_is_refused_unread(
    server: Server, connect: Connect, profile: Profile, key: str, length: int
) -> None:
    call = profile.write(key, b"1")
    connection = connect()
    connection.send(sized(call.method, call.target, b"").replace(b"Content-Length: 0", b"Content-Length: %d" % length))
    is_too_large(connection.receive(), profile)
    assert profile.read(server.address, key) is None
