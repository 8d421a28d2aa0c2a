"""
`history`: plain values, and what was written to each key in the last two minutes.

    PUT    /<key>            204; the value is the body, any bytes, 1024 at the most
    GET    /<key>            200 with the value             404 when there is no such key
    DELETE /<key>            204, be the key there or not
    GET    /<key>/history    200 [{"value":"...","timestamp":1605097943904}, ...], newest first; a deletion is null

A key is 1 to 255 of a-z, A-Z and 0-9. Each write puts an event into a keyspace of its own, in the same transaction,
that expires after two minutes. Spec 001.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import AsyncIterator
from types import MappingProxyType
from typing import Any

from klein import Response
from werkzeug.exceptions import BadRequest
from zope.interface import implementer

from kvtwist.interfaces import IProfile, IStore
from kvtwist.model import DATA, HISTORY, JSON, OCTETS, Append, Delete, Exists, Put, Record
from kvtwist.profiles._app import DialectApp, Headers, answer_errors, decoded
from kvtwist.profiles._json import quote
from kvtwist.profiles._reply import NO_CONTENT, json_error, json_reply
from kvtwist.profiles._scan import scan, send
from kvtwist.profiles._settings import Settings

OCTETS_HEADERS: Headers = MappingProxyType({"Content-Type": OCTETS})
MAX_VALUE = 1024
KEPT_MS = 120_000
DELETION = "application/x-kvtwist-deletion"
"""Media type of an event that removed its key."""

_is_key = re.compile(r"[A-Za-z0-9]{1,255}").fullmatch
_CHUNK = 64 * 1024


@implementer(IProfile)
class History:
    """The routes of spec 001."""

    name = "history"
    urgent: frozenset[str] = frozenset()
    default_port = 3000
    default_store = "memory"
    app = DialectApp()

    def __init__(self, store: IStore, settings: Settings) -> None:
        self._store = store
        self.max_body = MAX_VALUE

    @app.route("/<key>", methods=["PUT"])
    async def put(self, request: Any, key: str) -> Response:
        """Set the value of a key."""
        name = _checked(key)
        value = request.content.read()
        await self._store.transact(
            [], [Put(DATA, name, value, OCTETS), Append(HISTORY, name + b"\0", value, OCTETS, KEPT_MS)]
        )
        return NO_CONTENT

    @app.route("/<key>", methods=["GET"])
    async def get(self, request: Any, key: str) -> Response:
        """The value of a key."""
        record = await self._store.get(DATA, _checked(key))
        if record is None:
            return Response(404)
        return Response(200, OCTETS_HEADERS, record.value)

    @app.route("/<key>", methods=["DELETE"])
    async def delete(self, request: Any, key: str) -> Response:
        """Delete a key. If there is none, nothing was written, and history has nothing to tell."""
        name = _checked(key)
        await self._store.transact(
            [Exists(DATA, name)], [Delete(DATA, name), Append(HISTORY, name + b"\0", b"", DELETION, KEPT_MS)]
        )
        return NO_CONTENT

    @app.route("/<key>/history", methods=["GET"])
    async def history(self, request: Any, key: str) -> Response | None:
        """All writes of the last two minutes, newest first."""
        events = _as_array(scan(self._store, HISTORY, *_range(_checked(key)), reverse=True))
        first = await anext(events)
        second = await anext(events, None)
        if second is None:
            return json_reply(200, first)
        request.setHeader("Content-Type", JSON)
        await send(request, _chained(first, second, events))
        return None

    @app.route("/", methods=["PUT", "GET", "DELETE"])
    def no_key(self, request: Any) -> Response:
        """The key is missing."""
        raise BadRequest("the key is empty")


def _checked(key: str) -> bytes:
    name = decoded(key)
    if not _is_key(name):
        raise BadRequest("a key is 1 to 255 of a-z, A-Z and 0-9")
    return name.encode()


def _range(name: bytes) -> tuple[bytes, bytes]:
    return name + b"\0", name + b"\1"


async def _as_array(events: AsyncIterator[tuple[bytes, Record]]) -> AsyncIterator[bytes]:
    """A JSON array, in pieces of some size; what is small is one piece."""
    text = bytearray(b"[")
    async for _, event in events:
        if len(text) > 1:
            text += b","
        text += _as_member(event)
        if len(text) >= _CHUNK:
            yield bytes(text)
            text = bytearray(b"")
    yield bytes(text) + b"]"


def _as_member(event: Record) -> bytes:
    encoding = b""
    if event.media_type == DELETION:
        value = b"null"
    else:
        try:
            value = quote(event.value.decode())
        except UnicodeDecodeError:
            value = b'"' + b64encode(event.value) + b'"'
            encoding = b',"encoding":"base64"'
    return b'{"value":%b,"timestamp":%d%b}' % (value, event.modified_ms, encoding)


async def _chained(first: bytes, second: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    yield second
    async for piece in rest:
        yield piece


answer_errors(History.app, JSON, json_error)
