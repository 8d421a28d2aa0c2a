"""
`native`: everything that the store can do, under /v1.

    GET, HEAD /v1/kv/<key>    the bytes, with their media type; `Range`; ?wait= &after=: once it has changed
    PUT    /v1/kv/<key>       201, or 204 where there was one; ?ttl= in seconds; ?return=previous: 200, what was there
    DELETE /v1/kv/<key>       204        404 where there is none
    GET    /v1/kv             a page of a listing: ?prefix= &after= &before= &limit= &reverse= &keys_only=
    DELETE /v1/kv?prefix=     {"deleted": n}; without a prefix only with ?all=true
    POST   /v1/txn            conditions, and two branches of operations: one of them at one instant
    GET    /v1/watch          changes as server-sent events: ?prefix= or ?key=, ?after=
    GET    /v1/status         version, revision, uptime
    GET    /v1/openapi.json   all of this, for programs; /openapi.json is the same
    GET    /                  what this is and where to go: HTML for browsers, else JSON

A key is UTF-8 and may hold `/`; a value is any bytes of any media type. Reads and writes of a key heed preconditions.
Errors are `application/problem+json` (RFC 9457). docs/api.md describes it with examples.
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache, partial
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import msgspec
from klein import Response
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge
from zope.interface import implementer

from kvtwist import __version__
from kvtwist.interfaces import IProfile, IStore
from kvtwist.model import (
    DATA,
    JSON,
    OCTETS,
    ChangesGone,
    Delete,
    Get,
    Operation,
    Outcome,
    Peek,
    Put,
    Record,
    Slice,
    Watched,
)
from kvtwist.profiles._app import ProfileApp, answer_errors, decoded, query, whole_number
from kvtwist.profiles._byte_range import answer_range
from kvtwist.profiles._conditions import answer_record, preconditions, transact_if
from kvtwist.profiles._items import elements, lines, page_of
from kvtwist.profiles._json import NotJSON, quote, read_value
from kvtwist.profiles._listing import Frame, answer, only
from kvtwist.profiles._openapi import NDJSON, PROBLEM, document
from kvtwist.profiles._reply import NO_CONTENT, NO_HEADERS, json_reply, lifetime
from kvtwist.profiles._scan import Items, scan
from kvtwist.profiles._settings import Settings
from kvtwist.profiles._steps import Permits, count_up_to, in_steps
from kvtwist.profiles._transactions import (
    DEFAULT_LIMIT,
    MAX_LIMIT,
    MAX_TTL_SECONDS,
    Reader,
    checked_type,
    range_of,
    results,
)
from kvtwist.profiles._watch import Watches, revision_of
from kvtwist.profiles._welcome import answer_welcome
from kvtwist.validators import Headers, tagged

NDJSON_HEADERS: Headers = MappingProxyType({"Content-Type": NDJSON})
DELETED_AT_ONCE = 500
LINES: Frame = (b"", b"", b"")
MAX_WAIT_SECONDS = 60
RANGING = 4
"""How many transactions with ranges run at a time."""


@implementer(IProfile)
class Native:
    """The routes."""

    name = "native"
    urgent = frozenset({"/v1/status"})
    default_port = 4000
    default_store = "dir"
    app = ProfileApp()

    def __init__(self, store: IStore, settings: Settings) -> None:
        self._store = store
        self._reader = Reader(settings)
        self._settings = settings
        self._parsing = Permits(settings.max_operations)
        """For operations being parsed and done: they take many times the size of their text."""
        self._ranging = Permits(RANGING)
        """For transactions with ranges, whose results are not counted before they are there."""
        self._watches = Watches(store, settings.max_watches)
        self._document = json_reply(200, msgspec.json.encode(document(settings)))
        # A transaction may hold as much text as one value makes, in base64 or escaped, and its keys.
        self.max_body = 2 * settings.max_value + 6 * settings.max_key + 64 * 1024

    # --- one key --------------------------------------------------------------------------------------------------

    @app.route("/v1/kv/<path:key>", methods=["GET", "HEAD"], conditional=True)
    async def get(self, request: Any, key: str) -> Response:
        """The value of a key; with `wait`, once it has changed after a revision."""
        name = self._key(key)
        if b"?" in request.uri:
            wait, after_text = query(request, "wait", "after")
            after = revision_of("after", after_text)
            if wait is not None:
                seconds = whole_number("wait", wait, MAX_WAIT_SECONDS)
                return await self._get_changed(request, name, after, seconds)
        record = await self._store.get(DATA, name)
        if record is None:
            return KEY_NOT_FOUND
        return self._answer(request, record, _constant(record.media_type))

    async def _get_changed(self, request: Any, name: bytes, after: int | None, seconds: int) -> Response:
        revision, record, has_changed = await self._watches.next_record(request, name, after, seconds)
        headers: Headers = {"Kvtwist-Revision": str(revision)}
        if record is None and has_changed:
            return Response(404, {**headers, "Content-Type": PROBLEM}, problem(404, "key not found"))
        if record is None:
            return Response(304, headers)
        if not has_changed:
            return Response(304, tagged(headers, record.revision, record.modified_ms))
        return self._answer(request, record, {**_constant(record.media_type), **headers})

    def _answer(self, request: Any, record: Record, headers: Headers) -> Response:
        if record.expires_ms is not None:
            headers = lifetime(headers, record, self._store.now_ms)
        whole = answer_record(request, record, headers)
        if whole.code != 200 or request.getHeader(b"range") is None:
            return whole
        return answer_range(request, record, headers) or whole

    @app.route("/v1/kv/<path:key>", methods=["PUT"], query=["ttl", "return"], conditional=True)
    async def put(self, request: Any, key: str) -> Response:
        """Give a key a value."""
        name = self._key(key)
        ttl_ms, returned = _put_parameters(request) if b"?" in request.uri else (None, None)
        said = request.getHeader(b"content-type")
        media_type = OCTETS if said is None else _media_type(said)
        value = request.content.read()
        if len(value) > self._settings.max_value:
            raise RequestEntityTooLarge
        if media_type == JSON:
            try:
                await in_steps(read_value(value))
            except NotJSON as error:
                raise BadRequest(f"the body is not the JSON that Content-Type says: {error}") from None
        look: Operation = Peek(DATA, name) if returned is None else Get(DATA, name)
        operations = [look, Put(DATA, name, value, media_type, ttl_ms)]
        outcome = await transact_if(preconditions(request), self._store, DATA, name, operations)
        previous = outcome.record(0)
        if previous is None:
            return Response(201, tagged(NO_HEADERS, outcome.revision))
        if returned is None:
            return Response(204, tagged(NO_HEADERS, outcome.revision))
        headers: Headers = {"Content-Type": previous.media_type, "Kvtwist-Previous-ETag": f'"{previous.revision}"'}
        return Response(200, tagged(headers, outcome.revision), previous.value)

    @app.route("/v1/kv/<path:key>", methods=["DELETE"], conditional=True)
    async def delete(self, request: Any, key: str) -> Response:
        """Delete a key."""
        name = self._key(key)
        asked = preconditions(request)
        outcome = await transact_if(asked, self._store, DATA, name, [Delete(DATA, name)], exists=True)
        return NO_CONTENT if outcome.committed else KEY_NOT_FOUND

    # --- many keys ------------------------------------------------------------------------------------------------

    @app.route("/v1/kv", methods=["GET"])
    async def list_keys(self, request: Any) -> Response | None:
        """A page of a listing; with `Accept: application/x-ndjson` all of it, a record in each line."""
        prefix, after, before, limit_text, reverse, keys_only = query(
            request, "prefix", "after", "before", "limit", "reverse", "keys_only"
        )
        is_short = flag("keys_only", keys_only)
        limit = DEFAULT_LIMIT if limit_text is None else whole_number("limit", limit_text, MAX_LIMIT)
        asked = range_of(prefix or "", after, before, limit, flag("reverse", reverse))
        accepted = request.getHeader(b"accept") or b""
        if NDJSON.encode() in accepted.lower():
            if limit_text is not None:
                raise BadRequest("a stream of lines has no limit")
            records = scan(self._store, DATA, asked.start, asked.stop, asked.reverse)
            return await answer(request, LINES, records, partial(lines, keys_only=is_short), NDJSON_HEADERS)
        revision, items, following = await page_of(self._store, asked)
        frame = b'{"revision":%d,"items":[' % revision, b",", b'],"next":%b}' % following
        return await answer(request, frame, only(items), partial(elements, keys_only=is_short))

    @app.route("/v1/kv", methods=["DELETE"], query=["prefix", "all"])
    async def delete_many(self, request: Any) -> Response:
        """Delete all keys with a prefix; one that is written meanwhile goes as well."""
        prefix, everything = query(request, "prefix", "all")
        if not flag("all", everything) and not prefix:
            raise BadRequest("all keys are deleted with all=true only")
        asked = range_of(prefix or "", None, None, MAX_LIMIT, reverse=False)
        deleted = 0
        keys: list[bytes] = []
        async for items in scan(self._store, DATA, asked.start, asked.stop):
            while items:
                keys.append(items.popleft()[0])
                if len(keys) == DELETED_AT_ONCE:
                    deleted += await self._delete(keys)
                    keys = []
        deleted += await self._delete(keys)
        return json_reply(200, b'{"deleted":%d}' % deleted)

    async def _delete(self, keys: list[bytes]) -> int:
        if not keys:
            return 0
        looks: list[Operation] = [Peek(DATA, key) for key in keys]
        outcome = await self._store.transact([], [*looks, *(Delete(DATA, key) for key in keys)])
        return sum(result is not None for result in outcome.results[: len(keys)])

    @app.route("/v1/txn", methods=["POST"])
    async def transact(self, request: Any) -> Response | None:
        """Do one of two branches of operations at one instant."""
        body = request.content.read()
        async with self._parsing.held(count_up_to(body, b"{", self._settings.max_operations)):
            conditions, then, otherwise = await in_steps(self._reader.read(body))
            del body
            async with self._ranging.held(then.has_ranges or otherwise.has_ranges):
                outcome = await self._store.transact(conditions, then.operations, otherwise.operations)
                items = _records(outcome)
                request.hold(sum(len(key) + len(record.value) for key, record in items))
        steps = then.steps if outcome.committed else otherwise.steps
        committed = b"true" if outcome.committed else b"false"
        frame = b'{"committed":%b,"revision":%d,"results":[' % (committed, outcome.revision), b",", b"]}"
        return await answer(request, frame, only(items), lambda items: results(outcome, steps))

    # --- changes --------------------------------------------------------------------------------------------------

    @app.route("/v1/watch", methods=["GET"])
    async def watch(self, request: Any) -> Response | None:
        """All changes after a revision, or from now on, as server-sent events."""
        prefix, key, after = query(request, "prefix", "key", "after")
        if key is None:
            watched = Watched(DATA, (prefix or "").encode(), is_prefix=True)
        elif prefix is None:
            watched = Watched(DATA, self._reader.key(key))
        else:
            raise BadRequest("a watch has a prefix or a key")
        last_id = request.getHeader(b"last-event-id")
        revision = (
            revision_of("after", after) if not last_id else revision_of("Last-Event-ID", last_id.decode("latin-1"))
        )
        try:
            await self._watches.answer(request, watched, revision)
        except ChangesGone as error:
            return Response(410, {"Content-Type": PROBLEM}, problem(410, str(error), b',"oldest":%d' % error.oldest))
        return None

    @app.route("/v1/status", methods=["GET"])
    async def status(self, request: Any) -> Response:
        """The server's version, revision and uptime."""
        outcome = await self._store.transact([], [])
        uptime = self._settings.uptime()
        said = b'{"version":%b,"revision":%d,"uptime":%d}' % (quote(__version__), outcome.revision, uptime)
        return json_reply(200, said)

    # Another profile on the same port may have a route for the second path.
    @app.route("/v1/openapi.json", methods=["GET"])
    @app.route("/openapi.json", methods=["GET"])
    def describe(self, request: Any) -> Response:
        """The API as an OpenAPI document."""
        return self._document

    @app.route("/", methods=["GET"])
    def welcome(self, request: Any) -> Response:
        """What this server is and where to go."""
        return answer_welcome(request, self._settings.profiles)

    def _key(self, key: str) -> bytes:
        if "%" not in key and key.isascii() and len(key) <= self._settings.max_key:
            return key.encode()
        return self._reader.key(decoded(key))


def _put_parameters(request: Any) -> tuple[int | None, str | None]:
    """How long the record exists, in milliseconds, and `previous` if what was there is to be returned."""
    ttl_text, returned = query(request, "ttl", "return")
    ttl_ms = None if ttl_text is None else whole_number("ttl", ttl_text, MAX_TTL_SECONDS) * 1000
    if returned not in (None, "previous"):
        raise BadRequest("return is previous")
    return ttl_ms, returned


@lru_cache(1024)
def _media_type(header: bytes) -> str:
    return checked_type(header.decode("latin-1"))


@lru_cache(1024)
def _constant(media_type: str) -> Headers:
    """Headers that do not change, so that they are encoded once."""
    return MappingProxyType({"Content-Type": media_type, "Accept-Ranges": "bytes", "X-Content-Type-Options": "nosniff"})


def _records(outcome: Outcome) -> Items:
    """All records in the results of a transaction."""
    found: Items = deque()
    for result in outcome.results:
        if isinstance(result, Slice):
            found += result.items
        elif result is not None:
            found.append((b"", result))
    return found


def flag(name: str, text: str | None) -> bool:
    """:raises BadRequest: it is neither `true` nor `false`."""
    if text not in (None, "true", "false"):
        raise BadRequest(f"{name} is true or false")
    return text == "true"


def problem(code: int, message: str, more: bytes = b"") -> bytes:
    """The body of an error (RFC 9457); `more` is further members of its JSON."""
    title = HTTPStatus(code).phrase
    return b'{"type":"about:blank","title":%b,"status":%d,"detail":%b%b}' % (quote(title), code, quote(message), more)


# A constant, because raising and explaining an exception takes longer than all the rest of the answer.
KEY_NOT_FOUND = Response(404, MappingProxyType({"Content-Type": PROBLEM}), problem(404, "key not found"))
answer_errors(Native.app, PROBLEM, problem)
