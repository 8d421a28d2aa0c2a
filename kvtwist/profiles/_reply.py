"""JSON responses, and any record as JSON: profiles share the data, so a value may not be JSON."""

from __future__ import annotations

from base64 import b64encode
from codecs import getincrementaldecoder
from collections.abc import AsyncGenerator, Callable, Iterator
from itertools import chain
from types import MappingProxyType
from typing import Any

from klein import Response

from kvtwist.model import JSON, Record
from kvtwist.profiles._conditions import not_modified
from kvtwist.profiles._json import is_utf8, quote
from kvtwist.profiles._scan import send
from kvtwist.validators import Headers, http_date, tagged

JSON_HEADERS: Headers = MappingProxyType({"Content-Type": JSON})

NO_HEADERS: Headers = MappingProxyType({})
NO_CONTENT = Response(204)

LARGE = 16 * 1024
"""Values of this size or more are not copied into another text."""
_CUT = 48 * 1024
"""How many bytes of a value are encoded at a time; base64 needs a multiple of three."""


def json_reply(code: int, body: bytes) -> Response:
    """A response with a JSON body."""
    return Response(code, JSON_HEADERS, body)


def json_error(code: int, message: str) -> bytes:
    """The body of an error."""
    return b'{"error":' + quote(message) + b"}"


def pair(key: str, value: bytes) -> bytes:
    """An object with one member; its value is JSON text."""
    return b"{" + quote(key) + b":" + value + b"}"


Text = bytes | Iterator[bytes]
"""JSON text, or its pieces where it is large."""


def as_json(record: Record) -> Text:
    """A record's value as JSON text: JSON as it is, UTF-8 as a string, anything else as `{"base64": ...}`."""
    is_base64, text = as_json_or_base64(record)
    if not is_base64:
        return text
    return b'{"base64":' + text + b"}" if isinstance(text, bytes) else chain((b'{"base64":',), text, (b"}",))


def as_json_or_base64(record: Record) -> tuple[bool, Text]:
    """
    A record's value as JSON text, and whether that is a string of base64: a value that is neither JSON nor UTF-8.

    A large value is returned in pieces, to copy nothing for each client: JSON is one piece, the same object that the
    store holds; other values are encoded a little at a time.
    """
    value = record.value
    if len(value) >= LARGE:
        if record.media_type == JSON:
            return False, iter((value,))
        return (False, _quoted(value)) if is_utf8(value) else (True, _encoded(value))
    if record.media_type == JSON:
        return False, value
    try:
        return False, quote(value.decode())
    except UnicodeDecodeError:
        return True, b'"' + b64encode(value) + b'"'


def _quoted(value: bytes) -> Iterator[bytes]:
    decode = getincrementaldecoder("utf-8")().decode
    yield b'"'
    for at in range(0, len(value), _CUT):
        yield quote(decode(value[at : at + _CUT]))[1:-1]
    yield b'"'


def _encoded(value: bytes) -> Iterator[bytes]:
    yield b'"'
    for at in range(0, len(value), _CUT):
        yield b64encode(value[at : at + _CUT])
    yield b'"'


def lifetime(headers: Headers, record: Record, now_ms: Callable[[], int]) -> Headers:
    """Add how long a record will exist, if it expires."""
    if record.expires_ms is None:
        return headers
    seconds = max(0, -(-(record.expires_ms - now_ms()) // 1000))
    return {**headers, "Expires": http_date(record.expires_ms // 1000), "Kvtwist-TTL": str(seconds)}


async def answer_value(
    request: Any, before: bytes, record: Record, after: bytes, headers: Headers = JSON_HEADERS
) -> Response | None:
    """
    Answer with a record's value as JSON text between other text, without copying a large value.

    :raises PreconditionFailed: the record is not the one that the client means.
    """
    unchanged = not_modified(request, record, headers)
    if unchanged is not None:
        return unchanged
    headers = tagged(headers, record.revision, record.modified_ms)
    value = as_json(record)
    if isinstance(value, bytes):
        return Response(200, headers, before + value + after)
    if record.media_type == JSON:
        if not before + after:
            return Response(200, headers, record.value)
        request.setHeader("Content-Length", str(len(before) + len(record.value) + len(after)))
    request.hold(len(record.value))
    for name, header in headers.items():
        request.setHeader(name, header)
    if request.method != b"HEAD":
        await send(request, _between(before, value, after))
    return None


async def _between(before: bytes, pieces: Iterator[bytes], after: bytes) -> AsyncGenerator[bytes, None]:
    if before:
        yield before
    for piece in pieces:
        yield piece
    if after:
        yield after
