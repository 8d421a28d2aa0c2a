"""
A builder of transactions.

It knows when a transaction may be sent twice: if it only reads, or if what it writes breaks one of its own conditions,
so that a second run would do nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import msgspec
from attrs import frozen
from twisted.internet.defer import Deferred

from kvtwist.client._api import Answered
from kvtwist.client._deferred import deferred
from kvtwist.client.errors import Unexpected
from kvtwist.client.records import Item, Page, Record, Value, decoded, put_of, utf8

Commit = Callable[[bytes, bool, bool], Coroutine[Deferred[Any], Any, Answered]]
"""`Api.txn`."""
S = TypeVar("S", bound="Steps")
Result = int | bool | Record | Page | None
"""Of a put its revision, of a delete whether the key was there, of a get the record or None, of a range a page."""


@frozen
class Outcome:
    """
    What a transaction has done.

    :ivar committed: whether all conditions held, so that the first branch was taken.
    :ivar revision: its revision; if it wrote nothing, that of the last transaction before it.
    :ivar results: one for each operation of the branch that was taken.
    """

    committed: bool
    revision: int
    results: list[Result]

    def record(self, index: int) -> Record | None:
        """The result of a get."""
        result = self.results[index]
        assert result is None or isinstance(result, Record), "that operation is not a get"
        return result

    def page(self, index: int) -> Page:
        """The result of a range; its revision is the transaction's."""
        result = self.results[index]
        assert isinstance(result, Page), "that operation is not a range"
        return result


class Steps:
    """
    The conditions of a transaction, and what it does. The methods return the builder itself.

    Operations go into the branch for the case that all conditions hold; after `otherwise`, into the other one.
    """

    def __init__(self, commit: Commit) -> None:
        self._commit = commit
        self._conditions: list[dict[str, Any]] = []
        self._then: list[dict[str, Any]] = []
        self._else: list[dict[str, Any]] = []
        self._branch = self._then

    def if_revision(self: S, key: str, revision: int) -> S:
        """On condition that the record of a key has a revision; 0: that there is no such key."""
        return self._on_condition(key, {"revision": revision})

    def if_exists(self: S, key: str) -> S:
        """On condition that there is a key."""
        return self._on_condition(key, {"exists": True})

    def if_absent(self: S, key: str) -> S:
        """On condition that there is no such key."""
        return self._on_condition(key, {"exists": False})

    def put(self: S, key: str, value: Value, *, content_type: str | None = None, ttl: int | None = None) -> S:
        """Write a key; :param ttl: the seconds after which it expires."""
        return self._add({"put": put_of(key, value, content_type, ttl)})

    def delete(self: S, key: str) -> S:
        """Delete a key."""
        utf8(key)
        return self._add({"delete": {"key": key}})

    def get(self: S, key: str) -> S:
        """Read a key."""
        utf8(key)
        return self._add({"get": {"key": key}})

    def range(
        self: S,
        prefix: str = "",
        *,
        after: str | None = None,
        before: str | None = None,
        limit: int = 100,
        reverse: bool = False,
        keys_only: bool = False,
    ) -> S:
        """Read a page of a listing, as it is before the transaction; put it before the writes of the branch."""
        asked = {"prefix": prefix, "limit": limit, "reverse": reverse, "keys_only": keys_only}
        for name, key in (("after", after), ("before", before)):
            if key is not None:
                asked[name] = key
        utf8(f"{prefix}{after}{before}")
        return self._add({"range": asked})

    def otherwise(self: S) -> S:
        """What follows is done if a condition does not hold."""
        self._branch = self._else
        return self

    async def _run(self, retry: bool) -> Outcome:
        writes = _writes(self._then) or _writes(self._else)
        body = msgspec.json.encode({"if": self._conditions, "then": self._then, "else": self._else})
        answered = await self._commit(body, retry or not writes or self._breaks_its_condition(), writes)
        steps = self._then if answered.committed else self._else
        found = answered.results
        if len(steps) != len(found):
            raise Unexpected("the server's results are not those of the operations")
        results = [_result(step, bytes(raw), answered.revision) for step, raw in zip(steps, found, strict=True)]
        return Outcome(answered.committed, answered.revision, results)

    def _on_condition(self: S, key: str, condition: dict[str, Any]) -> S:
        utf8(key)
        self._conditions.append({"key": key, **condition})
        return self

    def _add(self: S, step: dict[str, Any]) -> S:
        self._branch.append(step)
        return self

    def _breaks_its_condition(self) -> bool:
        if _writes(self._else):
            return False
        exists: dict[str, bool] = {}
        """What the first branch leaves of each key that it writes."""
        for step in self._then:
            for kind in ("put", "delete"):
                if kind in step:
                    exists[step[kind]["key"]] = kind == "put"
        return any(_breaks(exists[wanted["key"]], wanted) for wanted in self._conditions if wanted["key"] in exists)


class Txn(Steps):
    """A transaction, which is done as a whole and at one instant, or not at all."""

    @deferred
    async def commit(self, *, retry: bool = False) -> Outcome:
        """
        Run the transaction.

        :param retry: send it again, if need be, although it may have been done already.
        :raises ClientError: it was not done; `Uncertain`: it may have been done.
        """
        return await self._run(retry)


def _writes(steps: list[dict[str, Any]]) -> bool:
    return any("put" in step or "delete" in step for step in steps)


def _breaks(exists: bool, wanted: dict[str, Any]) -> bool:
    """Whether a condition does not hold for a key any more that was written, and exists or was deleted."""
    if "exists" in wanted:
        return bool(wanted["exists"] != exists)
    return exists or wanted["revision"] > 0


class _Put(msgspec.Struct):
    revision: int


class _Deleted(msgspec.Struct):
    deleted: bool


class _Page(msgspec.Struct):
    items: list[Item]
    next: str | None


def _result(step: dict[str, Any], text: bytes, revision: int) -> Result:
    if "put" in step:
        return decoded(text, _Put).revision
    if "delete" in step:
        return decoded(text, _Deleted).deleted
    if "range" in step:
        page = decoded(text, _Page)
        return Page(revision, [item.record() for item in page.items], page.next)
    return None if text == b"null" else decoded(text, Item).record()
