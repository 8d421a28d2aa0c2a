"""The native API, call by call: what is sent, and what the answers mean. docs/api.md describes it."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import NoReturn
from urllib.parse import quote

import msgspec
from attrs import frozen

from kvtwist.client._http import Answer, Body, Request
from kvtwist.client._requests import Reply, Requests, error_of, is_problem
from kvtwist.client.errors import Invalid, PreconditionFailed, Uncertain, Unexpected
from kvtwist.client.records import OCTETS, Item, Page, Record, Value, body_of, decoded, utf8

MAX_PAGE = 1000
"""The most records of a page."""


class Status(msgspec.Struct, frozen=True):
    """
    :ivar version: of the server.
    :ivar revision: the last durable transaction.
    :ivar uptime: in seconds.
    """

    version: str
    revision: int
    uptime: int


class _Page(msgspec.Struct):
    revision: int
    items: list[Item]
    next: str | None


class _Deleted(msgspec.Struct):
    deleted: int


class Answered(msgspec.Struct):
    """
    The answer to a transaction.

    :ivar committed: whether the conditions held.
    :ivar results: one for each operation of the branch that was taken.
    """

    committed: bool
    revision: int
    results: list[msgspec.Raw]


@frozen
class Api:
    """The calls. Any of them may raise a `ClientError`."""

    requests: Requests

    async def get(self, key: str) -> Record | None:
        """The record of a key; None if there is none."""
        answer = (await self.requests.send(Request("GET", _path(key)), repeatable=True)).answer
        if _is_missing(answer):
            return None
        if answer.status != 200:
            raise error_of(answer)
        modified, expires = answer.header("Last-Modified"), answer.header("Expires")
        if modified is None:
            raise Unexpected("the server does not say when the record was written")
        content_type = answer.header("Content-Type") or OCTETS
        expires_ms = None if expires is None else _ms(expires)
        return Record(key, answer.body, content_type, _revision(answer), _ms(modified), expires_ms)

    async def put(
        self, key: str, value: Value, content_type: str | None, ttl: int | None, if_revision: int | None, retry: bool
    ) -> int:
        """Write a key; returns the revision. See `Client.put`."""
        body, media_type = body_of(value, content_type)
        params = {} if ttl is None else {"ttl": str(ttl)}
        headers = {"Content-Type": media_type, **_condition(if_revision)}
        request = Request("PUT", _path(key), params, headers, body)
        reply = await self.requests.send(request, retry or if_revision is not None, writes=True)
        if reply.answer.status in (201, 204):
            return _revision(reply.answer)
        _refuse(reply)

    async def delete(self, key: str, if_revision: int | None, retry: bool) -> bool:
        """Delete a key; returns whether it was there. See `Client.delete`."""
        request = Request("DELETE", _path(key), headers=_condition(if_revision))
        reply = await self.requests.send(request, retry or if_revision is not None, writes=True)
        if reply.answer.status == 204:
            return True
        if _is_missing(reply.answer):
            if reply.uncertain and if_revision is not None:
                raise Uncertain("the key is gone, but perhaps by another client")
            return False
        _refuse(reply)

    async def delete_prefix(self, prefix: str) -> int:
        """Delete the keys with a prefix; returns how many there were."""
        if not prefix:
            raise Invalid("without a prefix everything would be deleted")
        request = Request("DELETE", "/v1/kv", {"prefix": _named(prefix)})
        reply = await self.requests.send(request, repeatable=False, writes=True)
        if reply.answer.status != 200:
            raise error_of(reply.answer)
        return decoded(reply.answer.body, _Deleted).deleted

    async def page(
        self, prefix: str, after: str | None, before: str | None, limit: int, reverse: bool, keys_only: bool
    ) -> Page:
        """A page of a listing."""
        asked = {
            "prefix": prefix or None,
            "after": after,
            "before": before,
            "limit": str(limit),
            "reverse": "true" if reverse else None,
            "keys_only": "true" if keys_only else None,
        }
        params = {name: _named(text) for name, text in asked.items() if text is not None}
        answer = (await self.requests.send(Request("GET", "/v1/kv", params), repeatable=True)).answer
        if answer.status != 200:
            raise error_of(answer)
        page = decoded(answer.body, _Page)
        return Page(page.revision, [item.record() for item in page.items], page.next)

    async def txn(self, body: bytes, repeatable: bool, writes: bool) -> Answered:
        """
        Run a transaction, in the JSON of the API.

        :param repeatable: whether it may be sent again although it may have been done.
        """
        request = Request("POST", "/v1/txn", headers={"Content-Type": "application/json"}, body=body)
        reply = await self.requests.send(request, repeatable, writes)
        if reply.answer.status != 200:
            raise error_of(reply.answer)
        answered = decoded(reply.answer.body, Answered)
        if reply.uncertain and not answered.committed:
            raise Uncertain("the conditions do not hold, but perhaps because the transaction was done at the first try")
        return answered

    async def status(self) -> Status:
        """What the server says of itself."""
        answer = (await self.requests.send(Request("GET", "/v1/status"), repeatable=True)).answer
        if answer.status != 200:
            raise error_of(answer)
        return decoded(answer.body, Status)

    async def watch(self, params: Mapping[str, str]) -> Body:
        """The events of a watch, which end only when the connection does."""
        headers = {"Accept": "text/event-stream"}
        response, body = await self.requests.stream(Request("GET", "/v1/watch", params, headers))
        said = response.headers.getRawHeaders("Content-Type") or [""]
        if said[0].partition(";")[0].strip() != "text/event-stream":
            body.close()
            raise Unexpected("the answer is not a stream of events: is the native profile served there?")
        return body


def _path(key: str) -> str:
    if not key:
        raise Invalid("a key is empty")
    return "/v1/kv/" + quote(utf8(key), safe="")


def _named(text: str) -> str:
    utf8(text)
    return text


def _condition(revision: int | None) -> dict[str, str]:
    """The precondition that a key has a revision; 0: that there is no such key."""
    if revision is None:
        return {}
    return {"If-Match": f'"{revision}"'} if revision else {"If-None-Match": "*"}


def _refuse(reply: Reply) -> NoReturn:
    error = error_of(reply.answer)
    if reply.uncertain and isinstance(error, PreconditionFailed):
        raise Uncertain("the key has another revision, but perhaps because the write was done at the first try")
    raise error


def _is_missing(answer: Answer) -> bool:
    return answer.status == 404 and is_problem(answer)


def _revision(answer: Answer) -> int:
    tag = (answer.header("ETag") or "").strip('"')
    if not (tag.isascii() and tag.isdigit()):
        raise Unexpected("the server does not say the revision")
    return int(tag)


def _ms(date: str) -> int:
    try:
        return int(parsedate_to_datetime(date).timestamp()) * 1000
    except ValueError:
        raise Unexpected(f"not a date: {date[:40]!r}") from None
