"""
How to ask each server for the same thing: templates of requests, for Python and for wrk's Lua.

`$key` and `$value` stand for themselves, `$key64` and `$value64` for their base64.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from typing import Final

from attrs import frozen

from bench.serving.data import KEY_BYTES
from bench.workload import VALUE_BYTES

_PLACE = re.compile(r"\$(key64|value64|key|value)")


@frozen
class Ask:
    """A request."""

    method: str
    path: str
    body: str = ""

    def filled(self, key: bytes, value: bytes) -> tuple[str, str, bytes]:
        """Method, path and body."""
        return self.method, filled(self.path, key, value).decode(), filled(self.body, key, value)

    def lua(self, value_bytes: int = VALUE_BYTES) -> str:
        """An expression for all of the request, of the variables key, value, key64 and value64."""
        length = len(filled(self.body, bytes(KEY_BYTES), bytes(value_bytes)))
        framing = f"Content-Length: {length}\r\n" if self.body or self.method != "GET" else ""
        text = f"{self.method} {self.path} HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n{self.body}"
        return " .. ".join(_parts(text))


def filled(template: str, key: bytes, value: bytes) -> bytes:
    """A template with a key and a value in it."""
    held = {"key": key, "value": value, "key64": b64encode(key), "value64": b64encode(value)}
    pieces = _PLACE.split(template)  # text and names by turns
    return b"".join(held[piece] if at % 2 else piece.encode() for at, piece in enumerate(pieces))


def _parts(text: str) -> Iterator[str]:
    for at, piece in enumerate(_PLACE.split(text)):
        if at % 2:
            yield f"{piece.removesuffix('64')}64" if piece.endswith("64") else piece
        elif piece:
            escaped = piece.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "\\r").replace("\n", "\\n")
            yield f'"{escaped}"'


@frozen
class Speech:
    """
    :ivar answer: the body of the answer to `get`; or what is in it, where it is not `exact`.
    :ivar after: what has to follow a `put` for it to count.
    """

    get: Ask
    put: Ask
    answer: str = "$value"
    exact: bool = True
    after: tuple[Ask, ...] = ()


LSFR: Final = Speech(Ask("GET", "/kv/$key"), Ask("PUT", "/kv/$key", "$value"))
HISTORY: Final = Speech(Ask("GET", "/$key"), Ask("PUT", "/$key", "$value"))
TRANSACTIONAL: Final = Speech(
    Ask("GET", "/$key"),
    Ask("POST", "/set", '{"$key":"$value"}'),
    '{"$key":"$value"}',
    after=(Ask("POST", "/commit"),),
)
KEYS_DIALECT: Final = Speech(Ask("GET", "/keys/$key"), Ask("PUT", "/keys/$key", '"$value"'), '"$value"')
WEBDIS: Final = Speech(Ask("GET", "/GET/$key.txt"), Ask("PUT", "/SET/$key", "$value"))
ETCD: Final = Speech(
    Ask("POST", "/v3/kv/range", '{"key":"$key64"}'),
    Ask("POST", "/v3/kv/put", '{"key":"$key64","value":"$value64"}'),
    '"value":"$value64"',
    exact=False,
)
