"""
Locks that expire unless they are renewed: a key that its holder writes, on condition that nobody else has.

The holder counts from the moment before it asks, the server from a later one, so the holder stops first. A server's
clock that jumps can still end a lock early. That is what the token is for: each holder's is larger than those of all
holders before, so what the lock protects can refuse an older one.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from kvtwist.client._api import Api
from kvtwist.client._deferred import deferred
from kvtwist.client._watch import Watch
from kvtwist.client.changes import Put
from kvtwist.client.errors import ClientError, LockLost, PreconditionFailed, Unavailable, Uncertain
from kvtwist.client.records import JSON

log = Logger(namespace="kvtwist.client")

_RENEWALS = 3
"""How many times a lock is renewed in its time to live."""
_LATE = "it was not renewed in time"


class Lease:
    """
    A lock that is held, and renewed until it is released or lost.

    :ivar key: of the lock.
    :ivar token: the revision with which it was taken: larger than that of every holder before.
    """

    def __init__(self, api: Api, key: str, value: bytes, ttl: int, token: int, began: float) -> None:
        """:param began: when it was asked for, by the client's clock, in seconds."""
        self.key = key
        self.token = token
        self._api = api
        self._clock = api.requests.clock
        self._value = value
        self._ttl = ttl
        self._revision = token
        self._until = began + ttl
        self._why: str | None = None
        """Why it is not held any more."""
        self._waiting: list[Deferred[str]] = []
        self._end = self._clock.callLater(max(0.0, self._until - self._clock.seconds()), self._lose, _LATE)
        self._renewing = Deferred.fromCoroutine(self._renew()).addErrback(self._give_up)

    @property
    def is_held(self) -> bool:
        """Whether it is held at this moment."""
        return self._why is None and self._clock.seconds() < self._until

    def check(self) -> None:
        """:raises LockLost: it is not held any more."""
        if not self.is_held:
            raise LockLost(f"the lock {self.key!r} is not held any more: {self._why or _LATE}")

    def lost(self) -> Deferred[str]:
        """A new Deferred, which fires with the reason when the lock is lost; not when it is released."""
        lost: Deferred[str] = Deferred()
        self._waiting.append(lost)
        if self._why is not None:
            self._lose(self._why)
        return lost

    @deferred
    async def release(self) -> None:
        """Let another client have it. If the server cannot be reached, it ends with its time to live."""
        if self._why is not None:
            return
        self._waiting.clear()
        self._lose("it was released")
        try:
            try:
                await self._api.delete(self.key, self._revision, retry=False)
            except PreconditionFailed:  # a renewal was under way
                await self._api.delete(self.key, await self._current(), retry=False)
        except (LockLost, PreconditionFailed, Unavailable) as error:
            log.debug("the lock {key} is left to expire: {error}", key=self.key, error=error)

    async def __aenter__(self) -> Lease:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.release()

    # --- renewal --------------------------------------------------------------------------------------------------

    async def _renew(self) -> None:
        wait = self._ttl / _RENEWALS
        while True:
            await deferLater(self._clock, wait)
            began = self._clock.seconds()
            try:
                revision = await self._api.put(self.key, self._value, JSON, self._ttl, self._revision, retry=False)
            except Uncertain:
                revision = await self._current()
            except Unavailable:
                revision = self._revision
            if revision == self._revision:
                wait = self._ttl / _RENEWALS / 4
                continue
            self._revision = revision
            self._until = began + self._ttl
            self._end.reset(max(0.0, self._until - self._clock.seconds()))
            wait = self._ttl / _RENEWALS

    async def _current(self) -> int:
        """
        The revision that the lock has.

        :raises LockLost: it is another client's, or nobody's.
        """
        try:
            record = await self._api.get(self.key)
        except Unavailable:
            return self._revision
        if record is None or record.value != self._value:
            raise LockLost
        return record.revision

    def _give_up(self, failure: Failure) -> None:
        failure.trap(ClientError, CancelledError)
        if failure.check(PreconditionFailed, LockLost):
            self._lose("another client has removed it, or it has expired")
        elif failure.check(ClientError):
            self._lose(str(failure.value))

    def _lose(self, why: str) -> None:
        self._why = why
        if self._end.active():
            self._end.cancel()
        self._renewing.cancel()
        waiting, self._waiting = self._waiting, []
        for lost in waiting:
            lost.callback(why)


class Lock:
    """
    A lock, to be acquired: `async with lock as lease`, or by a call.

    :ivar key: the key that is written.
    """

    def __init__(self, api: Api, watch: Callable[[str, int], Watch], key: str, ttl: int, owner: str) -> None:
        """
        :param watch: watches a key after a revision.
        :param ttl: the seconds after which it ends unless it is renewed.
        :param owner: what other clients may read about the holder.
        """
        self.key = key
        self._api = api
        self._watch = watch
        self._ttl = ttl
        self._owner = owner
        self._lease: Lease | None = None

    @deferred
    async def acquire(self) -> Lease:
        """Wait until nobody holds the lock, and take it."""
        while (lease := await self._take()) is None:
            await self._until_free()
        return lease

    @deferred
    async def try_acquire(self) -> Lease | None:
        """Take the lock, unless it is held; then None."""
        return await self._take()

    async def __aenter__(self) -> Lease:
        self._lease = await self.acquire()
        return self._lease

    async def __aexit__(self, *_: object) -> None:
        if self._lease is not None:
            await self._lease.release()

    async def _take(self) -> Lease | None:
        value = msgspec.json.encode({"owner": self._owner, "id": uuid4().hex})
        began = self._api.requests.clock.seconds()
        try:
            token = await self._api.put(self.key, value, JSON, self._ttl, 0, retry=False)
        except PreconditionFailed:
            return None
        except Uncertain:
            record = await self._api.get(self.key)
            if record is None or record.value != value:
                return None
            token = record.revision
        return Lease(self._api, self.key, value, self._ttl, token, began)

    async def _until_free(self) -> None:
        record = await self._api.get(self.key)
        if record is not None:
            async with self._watch(self.key, record.revision) as changes:
                async for change in changes:
                    if not isinstance(change, Put):
                        return
