"""
The client for programs that block: scripts, notebooks, threads.

    with Client("http://localhost:4000") as client:
        client.put("greeting", "hello")
        for change in client.watch("gree"):
            print(change)

Its calls are those of `kvtwist.client.Client`. They wait for their results, in any thread but the reactor's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from kvtwist.client import _client, lock, txn
from kvtwist.client._api import Answered, Status
from kvtwist.client._client import DEFAULT_URL, MAX_EVENT
from kvtwist.client._thread import blocking
from kvtwist.client._watch import Watch
from kvtwist.client.changes import Told
from kvtwist.client.records import Record, Value

T = TypeVar("T")


class Client:
    """See `kvtwist.client.Client`. Several threads may use one client."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout: float = 10.0,
        tries: int = 4,
        connections: int = 32,
        max_event: int = MAX_EVENT,
    ) -> None:
        """:raises Invalid: the URL is not one of a server."""

        async def make() -> _client.Client:
            return _client.Client(url, timeout=timeout, tries=tries, connections=connections, max_event=max_event)

        self._client = blocking(make)
        self.url = self._client.url

    def close(self) -> None:
        """Close the connections that are kept for later calls."""
        blocking(self._client.close)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, key: str) -> Record | None:
        """The record of a key; None if there is none."""
        return blocking(lambda: self._client.get(key))

    def put(
        self,
        key: str,
        value: Value,
        *,
        content_type: str | None = None,
        ttl: int | None = None,
        if_revision: int | None = None,
        retry: bool = False,
    ) -> int:
        """Write a key; returns the revision. See `kvtwist.client.Client.put`."""
        return blocking(
            lambda: self._client.put(
                key, value, content_type=content_type, ttl=ttl, if_revision=if_revision, retry=retry
            )
        )

    def delete(self, key: str, *, if_revision: int | None = None, retry: bool = False) -> bool:
        """Delete a key; returns whether it was there. See `kvtwist.client.Client.delete`."""
        return blocking(lambda: self._client.delete(key, if_revision=if_revision, retry=retry))

    def update(
        self,
        key: str,
        function: Callable[[Record | None], Value | None],
        *,
        content_type: str | None = None,
        ttl: int | None = None,
    ) -> int:
        """
        Replace a value by what a function makes of it. See `kvtwist.client.Client.update`.

        :param function: is called in the reactor's thread, so it must not block, and cannot use this client.
        """
        return blocking(lambda: self._client.update(key, function, content_type=content_type, ttl=ttl))

    def lock(self, key: str, ttl: int, *, owner: str = "") -> Lock:
        """A lock that ends by itself if its holder dies. See `kvtwist.client.Client.lock`."""
        return Lock(self._client.lock(key, ttl, owner=owner))

    def range(
        self,
        prefix: str = "",
        *,
        after: str | None = None,
        before: str | None = None,
        limit: int | None = None,
        reverse: bool = False,
        keys_only: bool = False,
    ) -> Iterator[Record]:
        """The records with a prefix. See `kvtwist.client.Client.range`."""
        pages = self._client._pages(prefix, after, before, limit, reverse, keys_only)
        while (page := _next(pages.__anext__)) is not None:
            yield from page

    def delete_prefix(self, prefix: str) -> int:
        """Delete all keys with a prefix; returns how many there were."""
        return blocking(lambda: self._client.delete_prefix(prefix))

    def txn(self) -> Txn:
        """A new transaction, to be built and committed."""
        return Txn(self._client._api.txn)

    def run(self, body: bytes, *, retry: bool = False) -> Answered:
        """
        Run a transaction that is in the JSON of the native API; see `txn` for how to build one.

        :param retry: send it again, if need be, although it may have been done already.
        """
        return blocking(lambda: self._client.run(body, retry=retry))

    def watch(self, prefix: str | None = None, *, key: str | None = None, after: int | None = None) -> Changes:
        """The changes of some keys. See `kvtwist.client.Client.watch`."""
        return Changes(self._client.watch(prefix, key=key, after=after))

    def follow(self, prefix: str | None = None, *, key: str | None = None) -> Changes:
        """The keys that there are, and from then on their changes. See `kvtwist.client.Client.follow`."""
        return Changes(self._client.follow(prefix, key=key))

    def status(self) -> Status:
        """The server's version, revision and uptime."""
        return blocking(self._client.status)


class Txn(txn.Steps):
    """See `kvtwist.client.Txn`."""

    def commit(self, *, retry: bool = False) -> txn.Outcome:
        """Run the transaction; :param retry: send it again, if need be, although it may have been done already."""
        return blocking(lambda: self._run(retry))


class Changes(Iterator[Told]):
    """
    The changes that a watch tells. Use it as a `with` block, or call `close`, to end it.

    The connection is closed, too, when a loop over it is left and nothing else refers to it.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def __next__(self) -> Told:
        told = _next(self._watch.__anext__)
        if told is None:
            raise StopIteration
        return told

    @property
    def revision(self) -> int | None:
        """The last transaction of which all changes were told; None while that is not known."""
        return self._watch.revision

    def close(self) -> None:
        """End it, and close its connection. Another thread may do so."""

        async def close() -> None:
            self._watch.close()

        blocking(close)

    def __enter__(self) -> Changes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Lock:
    """See `kvtwist.client.Lock`."""

    def __init__(self, asynchronous: lock.Lock) -> None:
        self._lock = asynchronous
        self._lease: Lease | None = None

    def acquire(self) -> Lease:
        """Wait until nobody holds the lock, and take it."""
        return Lease(blocking(self._lock.acquire))

    def try_acquire(self) -> Lease | None:
        """Take the lock, unless it is held; then None."""
        lease = blocking(self._lock.try_acquire)
        return None if lease is None else Lease(lease)

    def __enter__(self) -> Lease:
        self._lease = self.acquire()
        return self._lease

    def __exit__(self, *_: object) -> None:
        if self._lease is not None:
            self._lease.release()


class Lease:
    """See `kvtwist.client.Lease`. The reactor's thread renews it."""

    def __init__(self, asynchronous: lock.Lease) -> None:
        self._lease = asynchronous
        self.key = asynchronous.key
        self.token = asynchronous.token

    @property
    def is_held(self) -> bool:
        """Whether it is held at this moment."""
        return self._lease.is_held

    def check(self) -> None:
        """:raises LockLost: it is not held any more."""
        self._lease.check()

    def release(self) -> None:
        """Let another client have it."""
        blocking(self._lease.release)

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _next(function: Callable[[], Awaitable[T]]) -> T | None:
    """The next element of an asynchronous iterator; None at its end."""

    async def step() -> T | None:
        try:
            return await function()
        except StopAsyncIteration:
            return None

    return blocking(step)
