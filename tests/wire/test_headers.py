"""Headers that are odd, but HTTP: read as the RFCs say, or refused; they never confuse the next request."""

from __future__ import annotations

import pytest

from tests.conftest import Connect
from tests.support.profiles import Profile, encoded
from tests.support.server import Server
from tests.support.wire import head


@pytest.mark.parametrize(
    "header",
    [
        "X-A: b\r\nX-A: c",
        "Content-Type: application/json\r\nContent-Type: text/plain",
        "Accept: text/html\r\nAccept-Encoding: gzip, br",
        "X-Empty:",
        "X-Spaces: \t  a  \t ",
        "X-Tab: a\tb",
        "X-High: caf\xe9 \xff",
        'X-Quoted: a/b; q="\x80"',
        "x!#$%&'*+-.^_`|~9: every character of a token",
        "Cookie: a=b\r\nCookie: c=d",
        "If-Modified-Since: yesterday",
        "Range: bytes=0-0",
        "Authorization: Basic !!!",
        "X-HTTP-Method-Override: DELETE",
        "X-Forwarded-Host: example.org",
        "Content-Encoding: identity",
        "Trailer: X-A",
        "TE: trailers",
        "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
        "Upgrade: websocket\r\nConnection: Upgrade",
        "Connection: keep-alive, X-A",
        "Connection:",
        "Connection: keep-alive\r\nConnection: keep-alive",
        "X-Long: " + "a" * 4000,
    ],
    ids=lambda header: header.partition("\r\n")[0][:30],
)
def test_header_that_means_nothing_here_changes_nothing(
    connect: Connect, server: Server, profile: Profile, key: str, header: str
) -> None:
    connection = connect()
    connection.send(encoded(profile.write(key, b'"v"'), header))
    assert connection.receive().status == profile.created
    assert profile.read(server.address, key) == b'"v"'
    connection.send(head("GET", profile.target(key), header))
    assert connection.receive().body == profile.shown(key, b'"v"')
    assert connection.ask("GET", profile.target(key)).body == profile.shown(key, b'"v"')


@pytest.mark.parametrize("spelling", ["content-length", "CONTENT-LENGTH", "cOnTeNt-LeNgTh"])
def test_header_names_have_no_case(connect: Connect, server: Server, profile: Profile, key: str, spelling: str) -> None:
    connection = connect()
    connection.send(encoded(profile.write(key, b"1")).replace(b"Content-Length", spelling.encode()))
    assert connection.receive().status == profile.created
    assert profile.read(server.address, key) == b"1"


@pytest.mark.parametrize("length", ["000{n}", "{n}", "\t {n} \t"])
def test_length_in_an_odd_form_is_taken(
    connect: Connect, server: Server, profile: Profile, key: str, length: str
) -> None:
    call = profile.write(key, b"1")
    connection = connect()
    connection.send(encoded(call).replace(b" 1", length.format(n=len(call.body)).encode(), 1))
    assert connection.receive().status == profile.created
    assert profile.read(server.address, key) == b"1"
    assert connection.ask("GET", profile.target(key)).status == 200


@pytest.mark.parametrize(
    "length",
    [
        pytest.param("Content-Length: {n}\r\nContent-Length: {n}", id="the same twice"),
        pytest.param("Content-Length: {n}, {n}", id="a list of the same"),
        pytest.param("Content-Length:\r\n {n}", id="folded"),
        pytest.param("X-A: a\r\n b\r\nContent-Length: {n}", id="another header folded"),
        pytest.param("X-A: b\nContent-Length: {n}", id="a bare LF"),
    ],
)
def test_length_that_is_clear_but_doubtful_is_refused(
    connect: Connect, server: Server, profile: Profile, key: str, length: str
) -> None:
    call = profile.write(key, b"1")
    ours = f"Content-Length: {len(call.body)}".encode()
    connection = connect()
    connection.send(encoded(call).replace(ours, length.format(n=len(call.body)).encode()))
    assert connection.receive().status == 400
    assert connection.receive_rest() == b""
    assert profile.read(server.address, key) is None
