"""
`lsfr`: plain text values under /kv.

    PUT    /kv/<key>    200; the value is the body, UTF-8, not empty
    GET    /kv/<key>    200 with the value        404 key not found
    DELETE /kv/<key>    200, whether the key exists or not
    DELETE /clear       200; deletes every key

A key is letters, digits and `:`, `_`, `.`, `-`. Every body is text/plain; errors are one line. Spec 002.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Any

from klein import Response
from werkzeug.exceptions import BadRequest
from zope.interface import implementer

from kvtwist.interfaces import IProfile, IStore
from kvtwist.model import DATA, TEXT, Clear, Delete, Put
from kvtwist.profiles._app import ProfileApp, answer_errors, decoded
from kvtwist.profiles._conditions import answer_record, preconditions, transact_if
from kvtwist.profiles._settings import Settings
from kvtwist.validators import Headers, tagged

CONTENT_TYPE = "text/plain; charset=utf-8"
HEADERS: Headers = MappingProxyType({"Content-Type": CONTENT_TYPE})
OK = Response(200, HEADERS)
KEY_NOT_FOUND = Response(404, HEADERS, b"key not found\n")

_is_key = re.compile(r"[A-Za-z0-9:_.\-]*").fullmatch


@implementer(IProfile)
class Lsfr:
    """The routes of spec 002."""

    name = "lsfr"
    urgent: frozenset[str] = frozenset()
    default_port = 4000
    default_store = "dir"
    app = ProfileApp()

    def __init__(self, store: IStore, settings: Settings) -> None:
        self._store = store
        self._max_key = settings.max_key
        self.max_body = settings.max_value

    @app.route("/kv/<key>", methods=["PUT"], conditional=True)
    async def put(self, request: Any, key: str) -> Response:
        """Set the value of a key."""
        name = self._checked(key)
        value = request.content.read()
        if not value:
            raise BadRequest("value cannot be empty")
        try:
            value.decode()
        except UnicodeDecodeError:
            raise BadRequest("value must be valid UTF-8") from None
        outcome = await transact_if(preconditions(request), self._store, DATA, name, [Put(DATA, name, value, TEXT)])
        self.note("PUT /kv/{key} accepted, value={value}", name, value)
        return Response(200, tagged(HEADERS, outcome.revision))

    @app.route("/kv/<key>", methods=["GET"], conditional=True)
    async def get(self, request: Any, key: str) -> Response:
        """The value of a key."""
        name = self._checked(key)
        record = await self._store.get(DATA, name)
        if record is None:
            self.note("GET /kv/{key} returning 404", name)
            return KEY_NOT_FOUND
        self.note("GET /kv/{key} returning 200", name)
        return answer_record(request, record, HEADERS)

    @app.route("/kv/<key>", methods=["DELETE"], conditional=True)
    async def delete(self, request: Any, key: str) -> Response:
        """Remove a key."""
        name = self._checked(key)
        await transact_if(preconditions(request), self._store, DATA, name, [Delete(DATA, name)])
        self.note("DELETE /kv/{key} accepted", name)
        return OK

    @app.route("/clear", methods=["DELETE"])
    async def clear(self, request: Any) -> Response:
        """Remove every key."""
        await self._store.transact([], [Clear(DATA)])
        self.note("DELETE /clear accepted")
        return OK

    @app.route("/kv", methods=["PUT", "GET", "DELETE"])
    @app.route("/kv/", methods=["PUT", "GET", "DELETE"])
    def no_key(self, request: Any) -> Response:
        """The key is missing."""
        raise BadRequest("key cannot be empty")

    def note(self, event: str, key: bytes = b"", value: bytes = b"") -> None:
        """Called with the outcome of a request. Spec 002 asks for no log; spec 004 does."""

    def _checked(self, key: str) -> bytes:
        if not _is_key(key):  # it may be one once it is decoded
            try:
                key = decoded(key)
            except BadRequest:
                raise BadRequest("key contains invalid characters") from None
            if not _is_key(key):
                raise BadRequest("key contains invalid characters")
        if len(key) > self._max_key:
            raise BadRequest("key too long")
        return key.encode()


def _line(code: int, message: str) -> bytes:
    return message.encode() + b"\n"


answer_errors(Lsfr.app, CONTENT_TYPE, _line)
