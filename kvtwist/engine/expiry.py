"""
Expiry of records: when they may vanish, and how those who watch them are told.

No read shows a record that has expired. Usually it then vanishes without a transaction, when it is swept from memory or
left out of a new page. A watch could not tell of that. So in a keyspace that is watched, expired records are removed by
transactions, soon after they expire, and nothing else may drop them before that.

Otherwise the revision is kept that the next transaction will have: a listing before it may show records that vanish
now, so a watch cannot go on from there.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from kvtwist.engine.changes import ChangeFeed
from kvtwist.engine.keyspace import Keyspace, Tables
from kvtwist.engine.memtable import Tombstone
from kvtwist.engine.operations import Expire
from kvtwist.engine.page_loader import PageLoader
from kvtwist.engine.sorted_run import PageRef
from kvtwist.engine.timeline import Timeline
from kvtwist.model import NoRoom, Operation, Record, StoreError, StoreUnavailable

log = Logger(namespace="kvtwist.store")

TELL_SECONDS = 0.25
"""How often expired records are removed while a keyspace is watched."""
SILENT_SECONDS = 60.0
"""How long expired records vanish without transactions after there was no disk space for them."""
_AT_ONCE = 500
"""How many records one transaction removes."""


class Expiry:
    """:param remove: does a transaction of `Expire` operations."""

    def __init__(
        self,
        keyspaces: Mapping[str, Keyspace],
        timeline: Timeline,
        clock: IReactorTime,
        loader: PageLoader,
        feed: ChangeFeed,
        remove: Callable[[Sequence[Operation]], Awaitable[object]],
    ) -> None:
        self._keyspaces = keyspaces
        self._timeline = timeline
        self._clock = clock
        self._loader = loader
        self._feed = feed
        self._remove = remove
        self._told_ms: dict[str, int] = {}
        """For each watched keyspace: all that had expired by then has been removed by transactions."""
        self._next_ms: defaultdict[str, dict[int, int]] = defaultdict(dict)
        """For pages that were looked at, by keyspace: when the next of their records expires."""
        self._silent_until = 0.0
        self._telling: Deferred[None] | None = None
        self._next: IDelayedCall | None = None
        self._stopped = False

    def droppable_ms(self, keyspace: str) -> int:
        """Records that had expired by this time, in ms since the epoch, may be dropped now."""
        if self._is_told(keyspace):
            return self._told_ms.setdefault(keyspace, 0)
        self._told_ms.pop(keyspace, None)
        now_ms = self._timeline.now_ms()
        first_ms = self._keyspaces[keyspace].tables.first_expiry()
        if first_ms is not None and first_ms <= now_ms:
            self._feed.lose(keyspace)
        return now_ms

    def _is_told(self, keyspace: str) -> bool:
        return self._feed.is_watched(keyspace) and self._clock.seconds() >= self._silent_until

    def look(self) -> None:
        """Begin to remove what expires in watched keyspaces, unless that is going on. To be called once a second."""
        self._feed.look()
        if self._next is None and self._telling is None:
            self._look()

    def _look(self) -> None:
        self._next = None
        told = list(filter(self._is_told, self._keyspaces))
        if told and not self._stopped:
            telling = Deferred.fromCoroutine(self._tell_all(told))
            if not telling.called:
                self._telling = telling

    def stop(self) -> None:
        """Remove nothing more."""
        self._stopped = True
        if self._next is not None:
            self._next.cancel()
        if self._telling is not None:
            self._telling.cancel()

    async def _tell_all(self, keyspaces: Iterable[str]) -> None:
        try:
            for name in keyspaces:
                await self._tell(name)
        except (CancelledError, StoreUnavailable):
            pass  # the store is closing, or read-only
        except Exception:
            log.failure("expired records could not be removed, and will be tried again")
        self._telling = None
        if not self._stopped:
            self._next = self._clock.callLater(TELL_SECONDS, self._look)

    async def _tell(self, name: str) -> None:
        now_ms = self._timeline.now_ms()
        tables = self._keyspaces[name].tables
        try:
            # A record moves from the active memtable to the frozen one, and from there to a page.
            while keys := tables.active.expired(now_ms, _AT_ONCE):
                await self._remove([Expire(name, key) for key in keys])
            if tables.frozen is not None:
                await self._remove_all(name, tables, tables.frozen.expired(now_ms, sys.maxsize))
            while due := self._due(name, tables, now_ms):
                runs = tables.runs
                for ref in due:
                    await self._remove_from_page(name, tables, ref, now_ms)
                    if tables.runs is not runs:
                        break  # their records may be in other pages by now
        except NoRoom:
            self._silent_until = self._clock.seconds() + SILENT_SECONDS  # they have to vanish, to make room
            return
        self._told_ms[name] = now_ms

    async def _remove_all(self, name: str, tables: Tables, keys: Iterable[bytes]) -> None:
        operations: list[Operation] = []
        for key in keys:
            if not isinstance(tables.in_memtables(key), Tombstone):
                operations.append(Expire(name, key))
            if len(operations) == _AT_ONCE:
                await self._remove(operations)
                operations = []
        if operations:
            await self._remove(operations)

    def _due(self, name: str, tables: Tables, now_ms: int) -> list[PageRef]:
        """The pages with records that have expired since they were looked at."""
        if tables.expires_ms is None or tables.expires_ms > now_ms:
            return []
        refs = {ref.number: ref for run in tables.runs for ref in run.pages if ref.expires_ms is not None}
        before = self._next_ms[name]
        expiries = self._next_ms[name] = {
            number: before.get(number, ref.expires_ms or 0) for number, ref in refs.items()
        }
        return [refs[number] for number, next_ms in expiries.items() if next_ms <= now_ms]

    async def _remove_from_page(self, name: str, tables: Tables, ref: PageRef, now_ms: int) -> None:
        next_ms = sys.maxsize
        expired: list[bytes] = []
        try:
            page = self._loader.cached(ref) or await self._loader.load(ref)
        except StoreUnavailable:
            raise
        except StoreError:
            pass  # no read can show its records either
        else:
            for key, entry in page.range(b"", None):
                if isinstance(entry, Record) and entry.expires_ms is not None:
                    if entry.expires_ms <= now_ms:
                        expired.append(key)
                    else:
                        next_ms = min(next_ms, entry.expires_ms)
        await self._remove_all(name, tables, expired)
        self._next_ms[name][ref.number] = next_ms
