"""`Expect: 100-continue`: a body that will be taken is asked for, another is refused without seeing it."""

from __future__ import annotations

import pytest

from tests.conftest import Connect
from tests.support.profiles import Profile, value_of
from tests.support.server import Server
from tests.support.wire import chunked, head

CONTINUE = b"HTTP/1.1 100 Continue\r\n"
EXPECT = "Expect: 100-continue"


@pytest.mark.parametrize("expect", [EXPECT, "expect: 100-Continue"])
def test_body_that_fits_is_asked_for(connect: Connect, server: Server, profile: Profile, key: str, expect: str) -> None:
    call = profile.write(key, value_of(profile.max_value))
    connection = connect()
    connection.send(head(call.method, call.target, expect, f"Content-Length: {len(call.body)}"))
    assert connection.receive_head().startswith(CONTINUE)
    connection.send(call.body)
    assert connection.receive().status == profile.created
    assert connection.ask("GET", "/no/such/path").status == 404
    assert profile.read(server.address, key) == value_of(profile.max_value)


def test_chunked_body_is_asked_for(connect: Connect, server: Server, profile: Profile, key: str) -> None:
    call = profile.write(key, b"1")
    request = chunked(call.method, call.target, call.body, headers=[EXPECT])
    start, end, body = request.partition(b"\r\n\r\n")
    connection = connect()
    connection.send(start + end)
    assert connection.receive_head().startswith(CONTINUE)
    connection.send(body)
    assert connection.receive().status == profile.created
    assert profile.read(server.address, key) == b"1"


def test_body_over_the_limit_is_refused_at_once(connect: Connect, server: Server, profile: Profile, key: str) -> None:
    call = profile.write(key, value_of(profile.max_value * 100))
    connection = connect()
    connection.send(head(call.method, call.target, EXPECT, f"Content-Length: {len(call.body)}"))
    answer = connection.receive_head()
    assert answer.startswith(b"HTTP/1.1 413 ")
    connection.receive_rest()
    assert profile.read(server.address, key) is None


def test_client_need_not_wait(connect: Connect, server: Server, profile: Profile, key: str) -> None:
    call = profile.write(key, b"1")
    connection = connect()
    connection.send(
        head(call.method, call.target, EXPECT, f"Content-Length: {len(call.body)}")
        + call.body
        + head("GET", "/no/such/path")
    )
    first = connection.receive_final()
    assert first.status == profile.created
    assert connection.receive().status == 404
    assert profile.read(server.address, key) == b"1"


def test_request_without_a_body_gets_its_answer_only(connect: Connect, profile: Profile, key: str) -> None:
    connection = connect()
    connection.send(head("GET", profile.target(key), EXPECT))
    assert connection.receive_final().status == 404


def test_http10_client_is_sent_no_100(connect: Connect, server: Server, profile: Profile, key: str) -> None:
    call = profile.write(key, b"1")
    start = head(call.method, call.target, EXPECT, f"Content-Length: {len(call.body)}", version="HTTP/1.0")
    connection = connect()
    connection.send(start + call.body)
    assert connection.receive().status == profile.created
    assert profile.read(server.address, key) == b"1"


@pytest.mark.parametrize("expectation", ["200-ok", "100-continue, 200-ok", ""])
def test_unknown_expectation_is_ignored(
    connect: Connect, server: Server, profile: Profile, key: str, expectation: str
) -> None:
    call = profile.write(key, b"1")
    start = head(call.method, call.target, f"Expect: {expectation}", f"Content-Length: {len(call.body)}")
    connection = connect()
    connection.send(start + call.body)
    assert connection.receive().status == profile.created
    assert profile.read(server.address, key) == b"1"
