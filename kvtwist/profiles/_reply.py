"""JSON replies, and any record as JSON: all dialects look at the same data, whoever wrote it."""

from __future__ import annotations

from base64 import b64encode
from types import MappingProxyType

from klein import Response

from kvtwist.model import JSON, Record
from kvtwist.profiles._app import Headers
from kvtwist.profiles._json import quote

JSON_HEADERS: Headers = MappingProxyType({"Content-Type": JSON})

NO_CONTENT = Response(204)


def json_reply(code: int, body: bytes) -> Response:
    """A response with a JSON body."""
    return Response(code, JSON_HEADERS, body)


def json_error(message: str) -> bytes:
    """What an error looks like in JSON."""
    return b'{"error":' + quote(message) + b"}"


def pair(key: str, value: bytes) -> bytes:
    """An object with one member, whose value is JSON text."""
    return b"{" + quote(key) + b":" + value + b"}"


def as_json(record: Record) -> bytes:
    """A record's value as JSON text: itself, or a string, or `{"base64": ...}` where it is not UTF-8."""
    if record.media_type == JSON:
        return record.value
    try:
        return quote(record.value.decode())
    except UnicodeDecodeError:
        return b'{"base64":"' + b64encode(record.value) + b'"}'
