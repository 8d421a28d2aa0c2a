"""
`keys`: JSON values under /keys, which may expire, and metrics.

    GET    /keys                 200 {"key":value, ...} in key order; ?filter=wo$d  ?limit=100  ?after=key
    PUT    /keys                 201 a key is new, 200 none is; the body is {"id":"key","value":value}, or a map
                                 {"key":value, ...} that is set in one transaction; ?expire_in=60
    DELETE /keys                 204; deletes every key, or those that match ?filter=wo$d
    GET    /keys/<key>           200 with the value      404 when there is no such key
    HEAD   /keys/<key>           200                     404
    PUT    /keys/<key>           as above; the body is the value
    DELETE /keys/<key>           204                     404
    GET    /metrics              200, for Prometheus

A key is 1 to 255 bytes of UTF-8 without control characters. In a filter `$` matches any number of characters.
Spec 003.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlencode

from klein import Response
from prometheus_client import CONTENT_TYPE_LATEST
from werkzeug.exceptions import BadRequest, NotFound, RequestEntityTooLarge
from zope.interface import implementer

from kvtwist.interfaces import IProfile, IStore
from kvtwist.model import DATA, JSON, Clear, Delete, Operation, Peek, Put, Record
from kvtwist.profiles import _json
from kvtwist.profiles._app import ProfileApp, answer_errors, decoded, query, whole_number
from kvtwist.profiles._conditions import preconditions, transact_if
from kvtwist.profiles._glob import Glob
from kvtwist.profiles._json import NotJSON, TooManyMembers
from kvtwist.profiles._listing import OBJECT, Element, answer
from kvtwist.profiles._reply import JSON_HEADERS, NO_CONTENT, answer_value, as_json, json_error, json_reply, lifetime
from kvtwist.profiles._scan import Items, scan
from kvtwist.profiles._settings import Settings
from kvtwist.profiles._steps import STEP, Permits, Steps, at_once, count_up_to, in_steps
from kvtwist.validators import Headers, tagged

MAX_KEY = 255
MAX_EXPIRE_IN = 315_360_000  # ten years, in seconds
MAX_LIMIT = 1_000_000
DELETED_AT_ONCE = 500
"""How many matching keys are deleted in one transaction."""
_BAD_LENGTH = f"a key is 1 to {MAX_KEY} bytes long"

_has_control = re.compile(r"[\x00-\x1f\x7f-\x9f]").search

Pairs = Sequence[tuple[str, bytes]]


@implementer(IProfile)
class Keys:
    """The routes of spec 003."""

    name = "keys"
    urgent = frozenset({"/metrics"})
    default_port = 8000
    default_store = "dir"
    app = ProfileApp()

    def __init__(self, store: IStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._longest = max(MAX_KEY, settings.max_key)
        """The longest key that is listed."""
        self._permits = Permits(settings.max_operations)
        """For keys being set: a request body takes many times its size in memory once it is parsed."""
        self.max_body = settings.max_value + 6 * MAX_KEY + 1024

    @app.route("/keys", methods=["GET"])
    async def get_all(self, request: Any) -> Response | None:
        """All keys and their values, or those that match a filter."""
        pattern, limit_text, after = query(request, "filter", "limit", "after")
        glob = Glob("$" if pattern is None else pattern)
        limit = None if limit_text is None else whole_number("limit", limit_text, MAX_LIMIT)
        start, stop = glob.range()
        if after is not None:
            start = max(start, after.encode() + b"\0")
        headers: Headers = JSON_HEADERS
        if limit is not None:
            stop, more = await self._page(glob, start, stop, limit)
            if more:
                headers = {**JSON_HEADERS, "Link": _next_link(pattern, limit, stop[:-1].decode())}
        records = scan(self._store, DATA, start, stop)
        return await answer(request, OBJECT, records, partial(self._elements, glob), headers)

    @app.route("/keys", methods=["PUT"], query=["expire_in"])
    async def put(self, request: Any) -> Response:
        """Set one key, or several at once."""
        ttl_ms = _ttl_ms(request)
        body = request.content.read()
        most = self._settings.max_operations
        async with self._permits.held(count_up_to(body, b":", most)):
            try:
                found = await in_steps(_json.read_members(body, most))
            except TooManyMembers:
                raise RequestEntityTooLarge(
                    f"more than {most} keys in one request; send several requests, or use kvtwist import"
                ) from None
            except NotJSON as error:
                raise BadRequest(str(error)) from None
            del body
            return await self._put(_pairs(found), ttl_ms)

    @app.route("/keys", methods=["DELETE"], query=["filter"])
    async def delete_all(self, request: Any) -> Response:
        """Delete all keys, or those that a listing with the same filter would show."""
        [pattern] = query(request, "filter")
        if pattern is None:
            await self._store.transact([], [Clear(DATA)])
        else:
            await self._delete_matching(Glob(pattern))
        return NO_CONTENT

    @app.route("/keys/<key>", methods=["GET", "HEAD"], conditional=True)
    async def get(self, request: Any, key: str) -> Response | None:
        """The value of a key."""
        record = await self._store.get(DATA, _checked(decoded(key)))
        if record is None:
            raise NotFound("key not found")
        return await answer_value(request, b"", record, b"", lifetime(JSON_HEADERS, record, self._store.now_ms))

    @app.route("/keys/<key>", methods=["PUT"], query=["expire_in"], conditional=True)
    async def put_one(self, request: Any, key: str) -> Response:
        """Set the value of a key."""
        name = decoded(key)
        _checked(name)
        ttl_ms = _ttl_ms(request)
        body = request.content.read()
        try:
            value = await in_steps(_json.read_value(body))
        except NotJSON as error:
            raise BadRequest(str(error)) from None
        pairs = [(name, value)]
        operations = at_once(self._operations(pairs, ttl_ms))
        outcome = await transact_if(preconditions(request), self._store, DATA, name.encode(), operations)
        headers: Headers = JSON_HEADERS
        if len(value) == len(body):  # RFC 9110, 8.8.3: no validator for what is not stored as it was sent
            headers = tagged(headers, outcome.revision)
        return Response(201 if outcome.results[0] is None else 200, headers, at_once(_object(pairs)))

    @app.route("/keys/<key>", methods=["DELETE"], conditional=True)
    async def delete(self, request: Any, key: str) -> Response:
        """Delete a key."""
        name = _checked(decoded(key))
        asked = preconditions(request)
        outcome = await transact_if(asked, self._store, DATA, name, [Delete(DATA, name)], exists=True)
        if not outcome.committed:
            raise NotFound("key not found")
        return NO_CONTENT

    @app.route("/metrics", methods=["GET"])
    def metrics(self, request: Any) -> Response:
        """The metrics, in Prometheus' text format."""
        return Response(200, {"Content-Type": CONTENT_TYPE_LATEST}, self._settings.scrape())

    async def _put(self, pairs: Pairs, ttl_ms: int | None) -> Response:
        outcome = await self._store.transact([], await in_steps(self._operations(pairs, ttl_ms)))
        known = all(record is not None for record in outcome.results[: len(pairs)])
        return json_reply(200 if known else 201, await in_steps(_object(pairs)))

    def _operations(self, pairs: Pairs, ttl_ms: int | None) -> Steps[list[Operation]]:
        peeks: list[Operation] = []
        puts: list[Operation] = []
        for count, (name, value) in enumerate(pairs, 1):
            if len(value) > self._settings.max_value:
                raise RequestEntityTooLarge
            key = _checked(name)
            peeks.append(Peek(DATA, key))
            puts.append(Put(DATA, key, value, JSON, ttl_ms))
            if count % STEP == 0:
                yield
        return peeks + puts

    async def _delete_matching(self, glob: Glob) -> None:
        """Delete matching keys, in several transactions. A key that is written meanwhile is deleted as well."""
        deletions: list[Operation] = []
        async for items in scan(self._store, DATA, *glob.range()):
            for name, _ in self._matching(glob, items):
                deletions.append(Delete(DATA, name.encode()))
                if len(deletions) == DELETED_AT_ONCE:
                    await self._store.transact([], deletions)
                    deletions = []
        if deletions:
            await self._store.transact([], deletions)

    def _elements(self, glob: Glob, items: Items) -> Iterator[Element]:
        for name, record in self._matching(glob, items):
            yield _json.quote(name) + b":", as_json(record), b""

    def _matching(self, glob: Glob, items: Items) -> Iterator[tuple[str, Record]]:
        """The records of a slice that listings show and that match a filter."""
        while items:
            key, record = items.popleft()
            try:
                name = key.decode()
            except UnicodeDecodeError:
                continue
            if len(key) <= self._longest and glob.matches(name):
                yield name, record

    async def _page(self, glob: Glob, start: bytes, stop: bytes | None, limit: int) -> tuple[bytes, bool]:
        """The end of a page of so many keys, and whether there are more: the `Link` header is sent before the page."""
        count = 0
        last = None
        async for items in scan(self._store, DATA, start, stop):
            for name, _ in self._matching(glob, items):
                if count == limit:
                    assert last is not None
                    return last.encode() + b"\0", True
                count += 1
                last = name
        return start if last is None else last.encode() + b"\0", False


def _checked(name: str) -> bytes:
    try:
        key = name.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        raise BadRequest("the key is not Unicode") from None
    if not 1 <= len(key) <= MAX_KEY:
        raise BadRequest(_BAD_LENGTH)
    if _has_control(name):
        raise BadRequest("a key holds no control characters")
    return key


def _object(pairs: Pairs) -> Steps[bytes]:
    """The JSON object with these members."""
    members: list[bytes] = []
    for count, (name, value) in enumerate(pairs, 1):
        members.append(_json.quote(name) + b":" + value)
        if count % STEP == 0:
            yield
    return b"{" + b",".join(members) + b"}"


def _pairs(found: Pairs) -> Pairs:
    """The keys that a body sets: one in the form {"id": ..., "value": ...}, or all of a map."""
    names = dict(found)
    if len(names) != len(found):
        raise BadRequest("a key is given twice")
    if not found:
        raise BadRequest("no key is given")
    name = names.get("id") or names.get("key")
    if len(found) == 2 and "value" in names and name is not None and name.startswith(b'"'):
        if len(name) > _json.LONGEST_NAME:
            raise BadRequest(_BAD_LENGTH)
        return [(_json.string(name), names["value"])]
    return found


def _ttl_ms(request: Any) -> int | None:
    [text] = query(request, "expire_in")
    return None if text is None else whole_number("expire_in", text, MAX_EXPIRE_IN) * 1000


def _next_link(pattern: str | None, limit: int, after: str) -> str:
    parameters = {"limit": str(limit), "after": after}
    if pattern is not None:
        parameters["filter"] = pattern
    return f'</keys?{urlencode(parameters)}>; rel="next"'


answer_errors(Keys.app, JSON, json_error)
