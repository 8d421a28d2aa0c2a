"""The client: what callers use. Its methods return Deferreds, which coroutines may await."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit

from treq.client import HTTPClient
from twisted.internet.defer import succeed
from twisted.internet.interfaces import IReactorTime
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.iweb import IAgent

from kvtwist.client._api import MAX_PAGE, Answered, Api, Status
from kvtwist.client._deferred import deferred
from kvtwist.client._http import Sender, WholeBody
from kvtwist.client._requests import Backoff, Requests
from kvtwist.client._watch import Watch
from kvtwist.client.errors import Invalid, PreconditionFailed
from kvtwist.client.lock import Lock
from kvtwist.client.records import Json, Record, Value
from kvtwist.client.txn import Txn

DEFAULT_URL = "http://localhost:4000"
MAX_EVENT = 64 * 2**20
"""Enough for the largest value of a server with its usual limits, however it is escaped."""
_CONNECT_SECONDS = 5.0
_IDLE_SECONDS = 30
"""How long an unused connection is kept: less than by a server, which might close it under a write."""
_UPDATES = 100


class Client:
    """
    A client of one server that serves the native profile.

    Every call may raise a `ClientError`. Cancelling a Deferred ends its call; a write may have been done then.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout: float = 10.0,
        tries: int = 4,
        connections: int = 32,
        max_event: int = MAX_EVENT,
        reactor: Any = None,
        agent: IAgent | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        """
        :param url: of the server; `https` as well, and with a path if a proxy serves it under one.
        :param timeout: seconds that one try of a call may take.
        :param tries: how often a call is tried if the server cannot be reached or asks to try again.
        :param connections: how many calls are under way at a time; further ones wait. Watches do not count.
        :param max_event: the largest event of a watch, in bytes.
        :param reactor: the clock and the connections; Twisted's, if it is not given.
        :param agent: makes the requests, in place of a pool of connections of the client's own.
        :raises Invalid: the URL is not one of a server.
        """
        if reactor is None:
            from twisted.internet import reactor
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise Invalid(f"not the URL of a server: {url!r}")
        self.url = url.rstrip("/")
        self._pool: HTTPConnectionPool | None = None
        if agent is None:
            pool = self._pool = HTTPConnectionPool(reactor)
            pool.maxPersistentPerHost = connections
            pool.cachedConnectionTimeout = _IDLE_SECONDS
            pool.retryAutomatically = False  # it would repeat a DELETE
            agent = Agent(reactor, pool=pool, connectTimeout=_CONNECT_SECONDS)
        clock: IReactorTime = reactor
        sender = Sender(self.url, HTTPClient(agent, data_to_body_producer=WholeBody), clock)
        self._api = Api(Requests(sender, clock, timeout, tries, connections, backoff or Backoff()))
        self._tries = tries
        self._max_event = max_event

    @deferred
    async def close(self) -> None:
        """Close the connections that are kept for later calls. Watches and locks end by themselves."""
        await (succeed(None) if self._pool is None else self._pool.closeCachedConnections())

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- one key --------------------------------------------------------------------------------------------------

    @deferred
    async def get(self, key: str) -> Record | None:
        """The record of a key; None if there is none."""
        return await self._api.get(key)

    @deferred
    async def put(
        self,
        key: str,
        value: Value,
        *,
        content_type: str | None = None,
        ttl: int | None = None,
        if_revision: int | None = None,
        retry: bool = False,
    ) -> int:
        """
        Write a key; returns the revision.

        :param content_type: the media type; else `text/plain` for text, `application/octet-stream` for bytes.
        :param ttl: the seconds after which the key expires.
        :param if_revision: write only if the key has this revision; 0: only if there is no such key.
        :param retry: send a write without that condition again, if need be, although it may have been done already.
        :raises PreconditionFailed: the key has another revision; nothing was written.
        :raises Uncertain: it may have been written.
        """
        return await self._api.put(key, value, content_type, ttl, if_revision, retry)

    @deferred
    async def delete(self, key: str, *, if_revision: int | None = None, retry: bool = False) -> bool:
        """
        Delete a key; returns whether it was there.

        :param if_revision: delete it only if it has this revision.
        :param retry: as for `put`; then the last try says whether the key was there.
        :raises PreconditionFailed: the key has another revision; nothing was deleted.
        :raises Uncertain: it may have been deleted.
        """
        return await self._api.delete(key, if_revision, retry)

    @deferred
    async def update(
        self,
        key: str,
        function: Callable[[Record | None], Value | None],
        *,
        content_type: str | None = None,
        ttl: int | None = None,
    ) -> int:
        """
        Replace a value by what a function makes of it, without losing what others write meanwhile; returns the
        revision of the key.

        :param function: is given the record, or None, and returns the new value, or None to leave the key as it is. It
            is called again if the key has changed meanwhile.
        :param content_type: the media type; else that of the record, unless the value is a `Json`.
        :param ttl: the seconds after which the key expires; without it, the key does not.
        :raises PreconditionFailed: the key has changed each time, a hundred times in a row.
        :raises Uncertain: it may have been written.
        """
        for _ in range(_UPDATES):
            record = await self._api.get(key)
            value = function(record)
            revision = 0 if record is None else record.revision
            if value is None:
                return revision
            kept = None if record is None or isinstance(value, Json) else record.content_type
            try:
                return await self._api.put(key, value, content_type or kept, ttl, revision, retry=False)
            except PreconditionFailed:
                """Somebody else was faster."""
        raise PreconditionFailed(f"the key {key!r} was changed by others {_UPDATES} times")

    def lock(self, key: str, ttl: int, *, owner: str = "") -> Lock:
        """
        A lock that its holder keeps until it releases it, and that ends by itself if the holder dies.

        :param ttl: the seconds after which it ends unless it is renewed, which it is three times in that time.
        :param owner: what others may read about the holder, in the JSON under that key.
        """
        return Lock(self._api, self._watch_of, key, ttl, owner)

    def _watch_of(self, key: str, after: int) -> Watch:
        return self.watch(key=key, after=after)

    # --- many keys ------------------------------------------------------------------------------------------------

    async def range(
        self,
        prefix: str = "",
        *,
        after: str | None = None,
        before: str | None = None,
        limit: int | None = None,
        reverse: bool = False,
        keys_only: bool = False,
    ) -> AsyncIterator[Record]:
        """
        The records with a prefix, in the order of the bytes of their keys, page by page: each page shows one moment.

        :param after: begin after this key; before it, for the reverse order.
        :param before: end before this key.
        :param limit: the most records.
        :param keys_only: leave out the values.
        """
        async for records in self._pages(prefix, after, before, limit, reverse, keys_only):
            for record in records:
                yield record

    async def _pages(
        self, prefix: str, after: str | None, before: str | None, limit: int | None, reverse: bool, keys_only: bool
    ) -> AsyncIterator[list[Record]]:
        left = limit
        while left is None or left > 0:
            size = MAX_PAGE if left is None else min(left, MAX_PAGE)
            page = await self._api.page(prefix, after, before, size, reverse, keys_only)
            yield page.records
            if page.following is None:
                return
            after = page.following
            left = None if left is None else left - len(page.records)

    @deferred
    async def delete_prefix(self, prefix: str) -> int:
        """Delete all keys with a prefix, some hundreds at an instant; returns how many there were."""
        return await self._api.delete_prefix(prefix)

    def txn(self) -> Txn:
        """A new transaction, to be built and committed."""
        return Txn(self._api.txn)

    @deferred
    async def run(self, body: bytes, *, retry: bool = False) -> Answered:
        """
        Run a transaction that is in the JSON of the native API; see `txn` for how to build one.

        :param retry: send it again, if need be, although it may have been done already.
        """
        return await self._api.txn(body, retry, True)

    # --- changes --------------------------------------------------------------------------------------------------

    def watch(self, prefix: str | None = None, *, key: str | None = None, after: int | None = None) -> Watch:
        """
        The changes of all keys, of those with a prefix, or of one key.

        :param after: begin after this revision; else with what happens once the server has got the request.
        """
        return self._watch(prefix, key, after, lists=False)

    def follow(self, prefix: str | None = None, *, key: str | None = None) -> Watch:
        """The keys that there are (`Reset`, a `Put` for each, `Listed`), and from then on their changes."""
        return self._watch(prefix, key, None, lists=True)

    def _watch(self, prefix: str | None, key: str | None, after: int | None, lists: bool) -> Watch:
        if prefix is not None and key is not None:
            raise Invalid("a watch has a prefix or a key, not both")
        return Watch(self._api, prefix, key, after, lists, self._max_event, self._tries)

    @deferred
    async def status(self) -> Status:
        """The server's version, revision and uptime."""
        return await self._api.status()
