"""Anything that is not HTTP gets 400, closes the connection and changes nothing."""

from __future__ import annotations

from typing import Final

import pytest

from tests.conftest import Connect
from tests.support.profiles import Profile, encoded
from tests.support.server import Server
from tests.support.wire import chunked, head

REQUEST_LINES: Final = {
    "one word": b"GARBAGE",
    "no target": b"GET HTTP/1.1",
    "no version": b"GET /key",
    "a fourth word": b"GET /key HTTP/1.1 more",
    "a space in the target": b"GET /a key HTTP/1.1",
    "a space in the method": b"GE T /key HTTP/1.1",
    "NUL in the target": b"GET /k\x00ey HTTP/1.1",
    "NUL in the method": b"G\x00ET /key HTTP/1.1",
    "a bad method": b"G(E)T /key HTTP/1.1",
    "another protocol": b"GET /key FTP/1.1",
    "a version in words": b"GET /key HTTP/one",
    "half a version": b"GET /key HTTP/1",
    "a version in lower case": b"GET /key http/1.1",
    "a relative target": b"GET key HTTP/1.1",
    "a space before": b" GET /key HTTP/1.1",
    "a bare CR": b"GET /key\rHTTP/1.1",
}

HEADERS: Final = {
    "NUL in a value": b"X-A: a\x00b",
    "NUL in a name": b"X\x00A: b",
    "no colon": b"X-A",
    "no name": b": b",
    "space before the colon": b"X-A : b",
    "space in a name": b"X A: b",
    "parentheses in a name": b"X(A): b",
    "a bare CR in a value": b"X-A: a\rX-B: b",
    "a control character in a name": b"X\x01A: b",
}

LENGTHS: Final = {
    "two that differ": b"Content-Length: BODY\r\nContent-Length: 1",
    "two that differ, the other way": b"Content-Length: 1\r\nContent-Length: BODY",
    "a list that differs": b"Content-Length: BODY, 1",
    "a negative length": b"Content-Length: -1",
    "a plus": b"Content-Length: +BODY",
    "a fraction": b"Content-Length: BODY.0",
    "an underscore": b"Content-Length: 1_0",
    "hexadecimal": b"Content-Length: 0xff",
    "a word": b"Content-Length: many",
    "two numbers": b"Content-Length: BODY 1",
    "empty": b"Content-Length: ",
    "a NUL": b"Content-Length: BODY\x00",
    "space before the colon": b"Content-Length : BODY",
    "chunks, space before the colon": b"Transfer-Encoding : chunked",
}
"""Headers that leave open where the body ends. BODY stands for its true length."""

CODINGS: Final = {
    "unknown": b"Transfer-Encoding: xchunked",
    "unknown and chunks": b"Transfer-Encoding: chunked, xchunked",
    "chunks and identity": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "quoted": b'Transfer-Encoding: "chunked"',
    "gzip": b"Transfer-Encoding: gzip",
    "gzip after chunks": b"Transfer-Encoding: chunked, gzip",
}
"""Bodies that no one but the sender knows how to read."""

CHUNKS: Final = {
    "a word": b"xyz\r\n",
    "an empty size": b"\r\n",
    "a negative size": b"-1\r\n",
    "a plus": b"+1\r\n",
    "a prefix": b"0x1\r\n",
    "an underscore": b"1_0\r\n",
    "space before": b" 1\r\n",
    "data longer than its size": b"1\r\n12\r\n0\r\n\r\n",
    "data not ended": b"1\r\n1XX0\r\n\r\n",
    "an extension without a name": b"1;\r\n1\r\n0\r\n\r\n",
    "a quoted extension that does not end": b'1;a="b\r\n1\r\n0\r\n\r\n',
    "a bare LF in an extension": b"1;a\n\r\n1\r\n0\r\n\r\n",
    "a malformed extension of the last chunk": b"0;a b\r\n\r\n",
    "extensions without end": b"1;" + b"a" * 20_000,
    "a space after the size": b"1 \r\n1\r\n0\r\n\r\n",
    "a bare LF after the size": b"1\n1\r\n0\r\n\r\n",
    "a bare LF after the data": b"1\r\n1\n0\r\n\r\n",
    "a folded trailer": b"0\r\nX-A: b\r\n c\r\n\r\n",
    "a trailer without a colon": b"0\r\nX-A\r\n\r\n",
    "a size beyond all sizes": b"1" + b"0" * 16 + b"\r\n",
    "NUL in the size": b"1\x00\r\n1\r\n0\r\n\r\n",
}


def refused(connect: Connect, server: Server, profile: Profile, key: str, data: bytes) -> None:
    """The answer is a 400, then the connection is closed, and the key does not exist."""
    connection = connect()
    connection.send(data)
    answer = connection.receive()
    assert answer.status == 400, answer
    assert connection.receive_rest() == b""
    assert profile.read(server.address, key) is None


@pytest.mark.parametrize("line", REQUEST_LINES.values(), ids=list(REQUEST_LINES))
def test_bad_request_line(connect: Connect, server: Server, profile: Profile, key: str, line: bytes) -> None:
    refused(connect, server, profile, key, line + b"\r\nHost: localhost\r\n\r\n")


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), bytes(500), b"\xff\xfe" * 200, b"{}"],
    ids=["TLS", "zeros", "bytes", "JSON"],
)
def test_other_protocols(connect: Connect, server: Server, profile: Profile, key: str, data: bytes) -> None:
    refused(connect, server, profile, key, data + b"\r\n\r\n")


@pytest.mark.parametrize("version", [b"HTTP/2.0", b"HTTP/9.9", b"HTTP/0.9", b"HTTP/1.11"])
def test_other_versions(connect: Connect, server: Server, profile: Profile, key: str, version: bytes) -> None:
    request = encoded(profile.write(key, b"1")).replace(b"HTTP/1.1", version)
    refused(connect, server, profile, key, request)


@pytest.mark.parametrize("header", HEADERS.values(), ids=list(HEADERS))
def test_bad_header(connect: Connect, server: Server, profile: Profile, key: str, header: bytes) -> None:
    request = encoded(profile.write(key, b"1"))
    refused(connect, server, profile, key, request.replace(b"\r\n", b"\r\n" + header + b"\r\n", 1))


@pytest.mark.parametrize("header", LENGTHS.values(), ids=list(LENGTHS))
def test_body_of_doubtful_length(connect: Connect, server: Server, profile: Profile, key: str, header: bytes) -> None:
    call = profile.write(key, b"1")
    length = b"Content-Length: %d" % len(call.body)
    doubtful = header.replace(b"BODY", b"%d" % len(call.body))
    refused(connect, server, profile, key, encoded(call).replace(length, doubtful))


@pytest.mark.parametrize("length_first", [True, False], ids=["length first", "chunks first"])
def test_length_and_chunks(connect: Connect, server: Server, profile: Profile, key: str, length_first: bool) -> None:
    call = profile.write(key, b"1")
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(call.body), call.body)
    headers = [f"Content-Length: {len(body)}", "Transfer-Encoding: chunked"]
    ordered = headers if length_first else reversed(headers)
    refused(connect, server, profile, key, head(call.method, call.target, *ordered) + body)


@pytest.mark.parametrize("header", CODINGS.values(), ids=list(CODINGS))
def test_body_in_an_unknown_coding(connect: Connect, server: Server, profile: Profile, key: str, header: bytes) -> None:
    call = profile.write(key, b"1")
    request = chunked(call.method, call.target, call.body).replace(b"Transfer-Encoding: chunked", header)
    refused(connect, server, profile, key, request)


@pytest.mark.parametrize("chunk", CHUNKS.values(), ids=list(CHUNKS))
def test_bad_chunk(connect: Connect, server: Server, profile: Profile, key: str, chunk: bytes) -> None:
    call = profile.write(key, b"1")
    length = b"Content-Length: %d\r\n\r\n%b" % (len(call.body), call.body)
    whole = b"%x\r\n%b\r\n" % (len(call.body), call.body)
    request = encoded(call).replace(length, b"Transfer-Encoding: chunked\r\n\r\n" + whole)
    refused(connect, server, profile, key, request + chunk)


@pytest.mark.parametrize("host", [b"", b"Host: localhost\r\nHost: localhost\r\n"], ids=["no Host", "two Hosts"])
def test_http11_needs_one_host(connect: Connect, server: Server, profile: Profile, key: str, host: bytes) -> None:
    request = encoded(profile.write(key, b"1")).replace(b"Host: localhost\r\n", host)
    refused(connect, server, profile, key, request)


def test_bad_request_behind_good_ones_is_answered_behind_them(
    connect: Connect, server: Server, profile: Profile, key: str
) -> None:
    connection = connect()
    connection.send(encoded(profile.write(key, b"1")) + b"GET / HTTP/1.1\r\nBad Header: x\r\n\r\n")
    assert connection.receive().status == profile.created
    assert connection.receive().status == 400
    assert connection.receive_rest() == b""
    assert profile.read(server.address, key) == b"1"


@pytest.mark.parametrize("size", [300_000, 4_000_000])
@pytest.mark.parametrize(
    ("start", "endless", "status"),
    [
        pytest.param(b"", b"A", 431, id="method"),
        pytest.param(b"GET /", b"a", 414, id="target"),
        pytest.param(b"GET / HTTP/1.1\r\nX-A: ", b"a", 431, id="header value"),
        pytest.param(b"GET / HTTP/1.1\r\n", b"a", 431, id="header name"),
        pytest.param(b"GET / HTTP/1.1\r\n", b"X-A: b\r\n", 431, id="headers"),
    ],
)
def test_endless_head_is_refused(connect: Connect, start: bytes, endless: bytes, status: int, size: int) -> None:
    connection = connect()
    connection.send(start + endless * (size // len(endless)))
    assert connection.receive().status == status
    assert connection.receive_rest() == b""
