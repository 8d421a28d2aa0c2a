"""
`history`: plain values, and what was written to each key in the last two minutes.

    PUT    /<key>            204; the value is the body, up to 1024 bytes of any kind
    GET    /<key>            200 with the value             404 when there is no such key
    DELETE /<key>            204, whether the key exists or not
    GET    /<key>/history    200 [{"value":"...","timestamp":1605097943904}, ...], newest first; a deletion is null

A key is 1 to 255 of a-z, A-Z and 0-9. Each write also appends an event to a keyspace of events, in the same
transaction; events expire after two minutes. Spec 001.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from functools import partial
from types import MappingProxyType
from typing import Any

from klein import Response
from werkzeug.exceptions import BadRequest, PreconditionFailed
from zope.interface import implementer

from kvtwist.interfaces import IProfile, IStore
from kvtwist.model import DATA, HISTORY, JSON, OCTETS, Append, Delete, Operation, Put
from kvtwist.profiles._app import ProfileApp, answer_errors, decoded
from kvtwist.profiles._conditions import answer_record, preconditions, transact_if
from kvtwist.profiles._json import quote
from kvtwist.profiles._listing import ARRAY, Element, answer
from kvtwist.profiles._reply import NO_CONTENT, NO_HEADERS, json_error
from kvtwist.profiles._scan import Items, scan
from kvtwist.profiles._settings import Settings
from kvtwist.validators import Headers, tagged

OCTETS_HEADERS: Headers = MappingProxyType({"Content-Type": OCTETS})
MAX_VALUE = 1024
KEPT_MS = 120_000
DELETION = "application/x-kvtwist-deletion"
"""Media type of the event of a deletion."""

_is_key = re.compile(r"[A-Za-z0-9]{1,255}").fullmatch


@implementer(IProfile)
class History:
    """The routes of spec 001."""

    name = "history"
    urgent: frozenset[str] = frozenset()
    default_port = 3000
    default_store = "memory"
    app = ProfileApp()

    def __init__(self, store: IStore, settings: Settings) -> None:
        self._store = store
        self.max_body = MAX_VALUE

    @app.route("/<key>", methods=["PUT"], conditional=True)
    async def put(self, request: Any, key: str) -> Response:
        """Set the value of a key."""
        name = _checked(key)
        value = request.content.read()
        operations: list[Operation] = [
            Put(DATA, name, value, OCTETS),
            Append(HISTORY, name + b"\0", value, OCTETS, KEPT_MS),
        ]
        outcome = await transact_if(preconditions(request), self._store, DATA, name, operations)
        return Response(204, tagged(NO_HEADERS, outcome.revision))

    @app.route("/<key>", methods=["GET"], conditional=True)
    async def get(self, request: Any, key: str) -> Response:
        """The value of a key."""
        record = await self._store.get(DATA, _checked(key))
        if record is None:
            return Response(404)
        return answer_record(request, record, OCTETS_HEADERS)

    @app.route("/<key>", methods=["DELETE"], conditional=True)
    async def delete(self, request: Any, key: str) -> Response:
        """Delete a key. If there is none, nothing is written, not even an event."""
        name = _checked(key)
        asked = preconditions(request)
        operations: list[Operation] = [Delete(DATA, name), Append(HISTORY, name + b"\0", b"", DELETION, KEPT_MS)]
        outcome = await transact_if(asked, self._store, DATA, name, operations, exists=True)
        if not (outcome.committed or asked is None or asked.permit(None)):
            raise PreconditionFailed
        return NO_CONTENT

    @app.route("/<key>/history", methods=["GET"])
    async def history(self, request: Any, key: str) -> Response | None:
        """All writes of the last two minutes, newest first."""
        prefix = _checked(key) + b"\0"
        events = scan(self._store, HISTORY, prefix, prefix[:-1] + b"\1", reverse=True)
        return await answer(request, ARRAY, events, partial(_elements, prefix))

    @app.route("/", methods=["PUT", "GET", "DELETE"])
    def no_key(self, request: Any) -> Response:
        """The key is missing."""
        raise BadRequest("the key is empty")


def _checked(key: str) -> bytes:
    if not _is_key(key):  # it may be one once it is decoded
        key = decoded(key)
        if not _is_key(key):
            raise BadRequest("a key is 1 to 255 of a-z, A-Z and 0-9")
    return key.encode()


def _elements(prefix: bytes, items: Items) -> Iterator[Element]:
    """The events of a slice. Records under such keys that are not events have been imported, and are left out."""
    start = len(prefix)
    while items:
        key, event = items.popleft()
        modified_ms = event.modified_ms
        if key[start:-8] != modified_ms.to_bytes(8, "big"):
            continue
        if event.media_type == DELETION:
            yield b'{"value":', b"null", b',"timestamp":%d}' % modified_ms
            continue
        try:
            value = quote(event.value.decode())
        except UnicodeDecodeError:
            value = b'"' + b64encode(event.value) + b'"'
            yield b'{"value":', value, b',"timestamp":%d,"encoding":"base64"}' % modified_ms
        else:
            yield b'{"value":', value, b',"timestamp":%d}' % modified_ms


answer_errors(History.app, JSON, json_error)
