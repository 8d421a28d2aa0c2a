"""Requests sent before their answers came are done and answered one by one, in their order."""

from __future__ import annotations

import pytest

from tests.conftest import StartServer
from tests.support.profiles import MAX_VALUE, TRANSACTIONAL, Profile, encoded, value_of
from tests.support.server import Server
from tests.support.wire import Connection, chunked, head, sized


@pytest.fixture
def server(profile: Profile, serve: StartServer) -> Server:
    """One that waits for the disk on every write, so that a write takes longer than a read."""
    return serve("--profile", profile.name, "--store", "dir", "--max-value", str(MAX_VALUE))


def test_write_is_seen_by_the_read_behind_it(server: Server, profile: Profile, key: str) -> None:
    read = head("GET", profile.target(key))
    numbers = range(30)
    with Connection(server.address) as connection:
        connection.send(b"".join(encoded(profile.write(key, b"%d" % number)) + read for number in numbers))
        for number in numbers:
            assert connection.receive("PUT").status < 300
            assert connection.receive().body == profile.shown(key, b"%d" % number)


def test_answers_keep_the_order_when_an_earlier_one_is_slower(server: Server, profile: Profile, key: str) -> None:
    slow = encoded(profile.write(f"{key}large", value_of(profile.max_value)))
    quick = head("GET", "/no/such/path/at/all") + head("HEAD", profile.target(key))
    with Connection(server.address) as connection:
        connection.send((slow + quick) * 10)
        for _ in range(10):
            assert connection.receive("PUT").status < 300
            assert connection.receive().status == 404
            assert connection.receive("HEAD").status == 404


def test_long_listing_is_not_overtaken(server: Server, profile: Profile, key: str) -> None:
    with Connection(server.address) as connection:
        for number in range(60):
            connection.send(encoded(profile.write(f"{key}x{number}", value_of(MAX_VALUE))))
            assert connection.receive().status == 201
        listing = head("GET", f"/keys?filter={key}x$")
        connection.send(listing + head("GET", f"/keys/{key}x0") + listing + head("GET", "/keys/none"))
        assert len(connection.receive().json()) == 60
        assert connection.receive().body == value_of(MAX_VALUE)
        assert len(connection.receive().json()) == 60
        assert connection.receive().status == 404


def test_every_kind_of_request_in_one_segment(server: Server, profile: Profile, key: str) -> None:
    call = profile.write(key, b"1")
    requests = [
        ("PUT", encoded(call)),
        ("HEAD", head("HEAD", "/")),
        ("PUT", chunked(call.method, call.target, *(bytes([byte]) for byte in call.body))),
        ("POST", sized("POST", "/no/such/path", b"GET / HTTP/1.1\r\n\r\n")),
        ("PATCH", chunked("PATCH", "/no/such/path", b"0\r\n\r\n")),
        ("OPTIONS", head("OPTIONS", "/no/such/path")),
        ("GET", head("GET", "/no/such/path", "Connection: close")),
    ]
    with Connection(server.address) as connection:
        connection.send(b"".join(data for _, data in requests))
        statuses = [connection.receive(method).status for method, _ in requests]
        assert connection.receive_rest() == b""
    assert statuses[0] == profile.created
    assert 200 <= statuses[2] < 300
    assert statuses[3:] == [404, 404, 404, 404]
    assert profile.read(server.address, key) == b"1"


def test_pipeline_of_a_thousand(server: Server, profile: Profile, key: str) -> None:
    with Connection(server.address) as connection:
        connection.send(head("GET", profile.target(key)) * 1000)
        assert {connection.receive().status for _ in range(1000)} == {404}
        assert connection.ask("GET", profile.target(key)).status == 404


def test_pipeline_arrives_in_single_bytes(server: Server, profile: Profile, key: str) -> None:
    with Connection(server.address) as connection:
        connection.send_bytewise(encoded(profile.write(key, b"1")) * 2 + head("GET", "/no/such/path"))
        assert connection.receive().status == profile.created
        assert connection.receive().status < 300
        assert connection.receive().status == 404
    assert profile.read(server.address, key) == b"1"


@pytest.mark.parametrize("profile", [TRANSACTIONAL], ids=["transactional"])
def test_transcript_in_one_segment(server: Server, key: str) -> None:
    name = f'"{key}"'.encode()
    get, commit = head("GET", f"/{key}"), sized("POST", "/commit", b"")
    put, delete = sized("POST", "/set", b"{%b: 1}" % name), sized("DELETE", "/set", name)
    with Connection(server.address) as connection:
        connection.send(get + put + get + commit + get + delete + get + commit + get)
        statuses = [connection.receive().status for _ in range(9)]
    assert statuses == [404, 201, 404, 204, 200, 200, 200, 204, 404]


def test_last_of_many_writes_is_what_stays(server: Server, profile: Profile, key: str) -> None:
    with Connection(server.address) as connection:
        connection.send(b"".join(encoded(profile.write(key, b"%d" % number)) for number in range(300)))
        assert [connection.receive().status for _ in range(300)] == [profile.created] + [200] * 299
    assert profile.read(server.address, key) == b"299"
