"""Where a route expects JSON, anything else gets 400 and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from tests.support.answer import Answer
from tests.support.profiles import KEYS, NATIVE, TRANSACTIONAL, Profile, encoded
from tests.support.server import Server
from tests.support.wire import Connection, sized

VALUES: Final = {
    "nothing": b"",
    "NaN": b"NaN",
    "Infinity": b"Infinity",
    "minus Infinity": b"-Infinity",
    "nan": b"nan",
    "NaN inside": b"[1,NaN]",
    "a bare word": b"value",
    "a capital": b"True",
    "a word cut off": b"tru",
    "a word too long": b"truee",
    "single quotes": b"'v'",
    "a leading zero": b"01",
    "minus and a leading zero": b"-01",
    "a lone minus": b"-",
    "a plus": b"+1",
    "no integer part": b".5",
    "no fraction": b"1.",
    "no exponent": b"1e",
    "hexadecimal": b"0x10",
    "underscores": b"1_000",
    "two values": b"1 2",
    "a trailing comma": b"[1,]",
    "only a comma": b"[,]",
    "a missing comma": b"[1 2]",
    "a trailing comma in an object": b'{"x":1,}',
    "a missing colon": b'{"x" 1}',
    "a missing value": b'{"x":}',
    "a bare name": b"{x:1}",
    "a number as name": b"{1:1}",
    "a comment": b"/* */1",
    "a line comment": b"1//",
    "an open string": b'"v',
    "an open array": b"[1",
    "an open object": b'{"x":1',
    "closed twice": b"[1]]",
    "closed wrongly": b"[1}",
    "30000 open arrays": b"[" * 30_000,
    "30000 arrays, one open": b"[" * 30_000 + b"]" * 29_999,
    "NUL in a string": b'"\x00"',
    "newline in a string": b'"a\nb"',
    "unit separator in a string": b'"\x1f"',
    "an unknown escape": rb'"\x41"',
    "an escape cut off": rb'"\u12"',
    "an escape that is no hex": rb'"\u12g4"',
    "an escaped quote at the end": rb'"\"',
    "no UTF-8": b'"\xff"',
    "UTF-8 cut off": b'"caf\xc3"',
    "an overlong form": b'"\xc0\x80"',
    "a surrogate in UTF-8": b'"\xed\xa0\x80"',
    "beyond Unicode": b'"\xf4\x90\x80\x80"',
    "no UTF-8 deep inside": b'[{"x":["\xfe"]}]',
    "NUL before": b"\x001",
    "NUL after": b"1\x00",
    "a form feed": b"\x0c1",
    "a vertical tab": b"\x0b1",
    "a no-break space": b"\xc2\xa01",
    "a BOM before the value": b"\xef\xbb\xbf1",
}
"""Texts that are no JSON value."""


def _reencoded(encoding: str) -> Callable[[bytes], bytes]:
    return lambda document: document.decode().encode(encoding)


BREAKAGES: Final[dict[str, Callable[[bytes], bytes]]] = {
    "a BOM": lambda document: b"\xef\xbb\xbf" + document,
    "trailing data": lambda document: document + b"x",
    "a second document": lambda document: document + b"\n" + document,
    "a trailing NUL": lambda document: document + b"\x00",
    "a trailing form feed": lambda document: document + b"\x0c",
    "a trailing comma": lambda document: document + b",",
    "cut off": lambda document: document[:-1],
    "UTF-16": _reencoded("utf-16"),
    "UTF-16 without BOM": _reencoded("utf-16-le"),
    "UTF-32": _reencoded("utf-32"),
    "form data": lambda document: b"key=" + document,
    "parentheses": lambda document: b"(" + document + b")",
}
"""What makes a JSON document no JSON document."""

ROUTES: Final = {
    "POST /set": (TRANSACTIONAL, "POST", "/set", b'{"KEY":VALUE}'),
    "DELETE /set": (TRANSACTIONAL, "DELETE", "/set", b"VALUE"),
    "PUT /keys, a map": (KEYS, "PUT", "/keys", b'{"KEY":VALUE}'),
    "PUT /keys, a pair": (KEYS, "PUT", "/keys", b'{"id":"KEY","value":VALUE}'),
    "PUT /keys/{id}": (KEYS, "PUT", "/keys/KEY", b"VALUE"),
    "PUT /v1/kv/{key}": (NATIVE, "PUT", "/v1/kv/KEY", b"VALUE"),
    "POST /v1/txn": (NATIVE, "POST", "/v1/txn", b'{"then":[{"put":{"key":"KEY","json":VALUE}}]}'),
}
"""Where JSON is asked for: the profile, the method, the target, the document."""

Route = tuple[Profile, str, str, bytes]


@pytest.fixture(params=ROUTES.values(), ids=list(ROUTES))
def route(request: pytest.FixtureRequest) -> Route:
    profile, method, target, document = request.param
    return profile, method, target, document


@pytest.fixture
def profile(route: Route) -> Profile:
    return route[0]


def check(server: Server, route: Route, key: str, document: bytes) -> None:
    """Send a document that is not JSON to a route that would change a key; the key stays as it was."""
    profile = route[0]
    with Connection(server.address) as connection:
        connection.send(encoded(profile.write(key, b'"before"')))
        assert connection.receive().status == profile.created
        profile.is_error(ask_as_json(connection, route, key, document), 400)
    assert profile.read(server.address, key) == b'"before"'


def ask_as_json(connection: Connection, route: Route, key: str, document: bytes) -> Answer:
    """Send a document to a route, and say that it is JSON."""
    _, method, target, _ = route
    connection.send(sized(method, target.replace("KEY", key), document, "Content-Type: application/json"))
    return connection.receive()


@pytest.mark.parametrize("value", VALUES.values(), ids=list(VALUES))
def test_value_that_is_no_json(server: Server, route: Route, key: str, value: bytes) -> None:
    check(server, route, key, route[3].replace(b"KEY", key.encode()).replace(b"VALUE", value))


@pytest.mark.parametrize("breakage", BREAKAGES.values(), ids=list(BREAKAGES))
def test_document_that_is_no_json(server: Server, route: Route, key: str, breakage: Callable[[bytes], bytes]) -> None:
    document = route[3].replace(b"KEY", key.encode()).replace(b"VALUE", b'"%b"' % key.encode())
    check(server, route, key, breakage(document))


@pytest.mark.parametrize("space", [b" ", b"\t", b"\n", b"\r\n"], ids=["space", "tab", "newline", "CRLF"])
def test_space_around_a_document_is_fine(server: Server, route: Route, key: str, space: bytes) -> None:
    document = route[3].replace(b"KEY", key.encode()).replace(b"VALUE", b'"v"')
    with Connection(server.address) as connection:
        assert ask_as_json(connection, route, key, space + document + space).status in (200, 201)
