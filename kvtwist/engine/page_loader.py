"""Reads pages from disk into the cache: a page once, however many requests wait for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from kvtwist.engine.page import Page
from kvtwist.engine.pages import PageCache
from kvtwist.engine.reading import Pinned
from kvtwist.engine.sorted_run import PageNeeded, PageRef
from kvtwist.engine.storage import Storage
from kvtwist.model import StoreUnavailable

T = TypeVar("T")


class PageLoader:
    """:param storage: where the pages are; None for a store in memory, which has none."""

    def __init__(self, cache: PageCache, storage: Storage | None) -> None:
        self._cache = cache
        self._storage = storage
        self._loading: dict[int, list[Deferred[Page]]] = {}
        self._stopped = False

    def stop(self) -> None:
        """Load no more pages: later requests fail with `StoreUnavailable`."""
        self._stopped = True

    def cached(self, ref: PageRef) -> Page | None:
        """The page if it is in the cache: a `PageLookup`."""
        return self._cache.get(ref.number)

    async def look_up(self, look: Callable[[], T], pinned: Pinned) -> T:
        """
        Return the result of `look` once it raises `PageNeeded` no more: the pages that it needs are loaded and pinned.

        Raises `StoreError` when a page cannot be read.
        """
        while True:
            try:
                return look()
            except PageNeeded as needed:
                pinned.pages[needed.ref.number] = await self.load(needed.ref)

    def load(self, ref: PageRef) -> Deferred[Page]:
        """Read a page in the read thread. Fails with `StoreError`."""
        if self._stopped:
            return fail(StoreUnavailable("the server is stopping"))
        loaded: Deferred[Page] = Deferred()
        waiting = self._loading.get(ref.number)
        if waiting is not None:
            waiting.append(loaded)
            return loaded
        self._loading[ref.number] = [loaded]
        assert self._storage is not None
        read = self._storage.read_worker.run(self._storage.pages.read, ref)
        read.addBoth(self._loaded, ref)
        return loaded

    def _loaded(self, result: Page | Failure, ref: PageRef) -> None:
        if isinstance(result, Page):
            self._cache.put(ref.number, result)
        for waiting in self._loading.pop(ref.number):
            waiting.callback(result)
