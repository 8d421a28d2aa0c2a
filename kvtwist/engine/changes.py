"""
The changes of a store, for those who watch it: durable ones only, in revision order, each once.

While a keyspace is watched, and some time after, the latest transactions are kept in memory; a store in memory always
keeps them. Older ones are read back from the journal, as far as no checkpoint has removed it.

A watch asks for the next changes after a position. If there are none, it waits: it is found by its key, or by its
prefix, so a write of another key costs a look in a dictionary for each length of prefix that is watched.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice, takewhile

from twisted.internet.defer import Deferred, DeferredSemaphore, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater

from kvtwist.engine.backlog import Backlog
from kvtwist.engine.commit import GroupCommit, MemoryCommit, ignored
from kvtwist.engine.events import LOOK, collected
from kvtwist.engine.frame import Transaction
from kvtwist.engine.recent import Recent
from kvtwist.engine.watchers import Waiting, Watchers
from kvtwist.model import Changes, ChangesGone, Position, StoreError, StoreUnavailable, Watched

WATCHED_SECONDS = 60.0
"""How long a keyspace counts as watched after the last watch has ended, so that clients can come back."""
LATE_SECONDS = 0.5
"""How often to look for watches that have waited long enough."""
_WAKE = 100
"""How many watches are woken before the reactor goes on."""
_WAKE_SECONDS = 0.01
"""For about how long watches are woken before the reactor goes on."""
_READING = 2
"""How many watches read the journal at a time: what they read is in memory besides the limit."""


class ChangeFeed:
    """
    :param backlog: reads the journal; None for a store in memory.
    :param replayed: the last transactions of an earlier process, for watches that its end has interrupted.
    :ivar recent: the latest transactions, while they are kept.
    :ivar gone: for each keyspace, the revision before which changes were not told: expired records vanished.
    """

    def __init__(
        self,
        commit: GroupCommit | MemoryCommit,
        clock: IReactorTime,
        now_ms: Callable[[], int],
        backlog: Backlog | None,
        replayed: Recent,
        limit: int,
    ) -> None:
        self.recent = Recent(limit)
        self.gone: dict[str, int] = {}
        self._commit = commit
        self._clock = clock
        self._now_ms = now_ms
        self._backlog = backlog
        self._reading = DeferredSemaphore(_READING)
        self._replayed = replayed
        self._forgets_replayed = clock.seconds() + WATCHED_SECONDS
        self._is_keeping = False
        self._until: dict[str, float] = {}
        """Until when a keyspace counts as watched, unless a watch waits."""
        self._waiting: dict[str, Watchers] = {}
        self._matching: Iterator[None] | None = None
        """Finds the watches of transactions that have become durable."""
        self._unmatched: deque[Transaction] = deque()
        self._woken: list[tuple[Waiting, int]] = []
        self._queues: dict[float, OrderedDict[Waiting, None]] = {}
        """The watches that wait, by how long they do: the first one of each queue has waited longest."""
        self._next_look: IDelayedCall | None = None
        self._stopped = False
        if backlog is None:
            self._keep()  # always: there is no journal to read

    def is_watched(self, keyspace: str) -> bool:
        """Whether somebody watches a keyspace, or did not long ago."""
        return bool(self._waiting.get(keyspace)) or self._clock.seconds() < self._until.get(keyspace, 0.0)

    def look(self) -> None:
        """Keep nothing more once no keyspace is watched. To be called from time to time."""
        if self._clock.seconds() >= self._forgets_replayed:
            self._replayed.clear()
        if self._is_keeping and self._backlog is not None and not any(map(self.is_watched, self._until)):
            self._is_keeping = False
            self.recent.clear()
            self._commit.on_transactions = ignored

    def lose(self, keyspace: str) -> None:
        """Let no watch go on from before the next transaction: expired records vanish now without being told."""
        self.gone[keyspace] = self._commit.assigned + 1
        watchers = self._waiting.get(keyspace)
        if watchers:
            for waiting in watchers.take_all():
                self._wake(waiting, waiting.after)

    def stop(self) -> None:
        """Fail the watches that wait."""
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None
        self._stopped = True
        waiting_ones = [waiting for waiting, _ in self._woken]
        for watchers in self._waiting.values():
            waiting_ones += watchers.take_all()
        self._woken = []
        self._queues.clear()
        for waiting in waiting_ones:
            if not waiting.told.called:
                waiting.told.errback(_stopping())

    # --- asking ---------------------------------------------------------------------------------------------------

    def after(self, watched: Watched, position: Position, wait: float) -> Deferred[Changes]:
        """The next changes. See `IStore.changes`."""
        if wait and position.revision == self._commit.durable >= self.gone.get(watched.keyspace, 0):
            return self._wait(watched, position.revision, wait)  # no coroutine: thousands may wait
        return Deferred.fromCoroutine(self._look_for(watched, position, wait))

    async def _look_for(self, watched: Watched, position: Position, wait: float) -> Changes:
        keyspace = watched.keyspace
        while True:
            self._watch(keyspace)
            revision, durable = position.revision, self._commit.durable
            if revision > durable or revision < self.gone.get(keyspace, 0):
                raise await self._changes_gone(keyspace)
            if revision == durable:
                return await self._wait(watched, revision, wait) if wait else Changes((), position)
            found = self._kept_after(watched, position) or await self._read(watched, position, durable)
            if found.events:
                return found
            position = found.position
            if position.revision < self._commit.durable:
                await deferLater(self._clock, 0)

    def _kept_after(self, watched: Watched, position: Position) -> Changes | None:
        """The next changes, if they are in memory."""
        for kept in (self.recent, self._replayed):
            if kept.has_next(position.revision):
                return collected(kept.after(position.revision), position, watched)
        return None

    async def _read(self, watched: Watched, position: Position, durable: int) -> Changes:
        """Collect changes from the journal."""
        if self._backlog is None:
            raise await self._changes_gone(watched.keyspace)
        async with self._reading:
            try:
                transactions = await self._backlog.read(position.revision, durable)
            except OSError as error:
                raise StoreUnavailable(f"the journal cannot be read now ({error.strerror})") from error
            if transactions is None:
                raise await self._changes_gone(watched.keyspace, position.revision)
            return collected(transactions, position, watched)

    async def _changes_gone(self, keyspace: str, missing: int = -1) -> ChangesGone:
        """
        The error for a position after which changes are missing. A new watch can begin at the revision that it names.

        :param missing: the revision after which the journal does not hold the changes.
        """
        oldest = self.recent.first - 1
        if self._backlog is not None:
            in_journal = await self._backlog.oldest(self._commit.durable)
            if in_journal > missing:
                oldest = min(oldest, in_journal)
        if oldest <= self._replayed.last:
            oldest = min(oldest, self._replayed.first - 1)
        oldest = max(oldest, self.gone.get(keyspace, 0))
        await self._commit.latch.free()
        if oldest > self._commit.assigned and self._commit.broken is None:
            # Records have expired after the last transaction. A transaction without changes tells the time before from
            # the time after that.
            with suppress(StoreError):  # if it fails, a watch cannot begin yet
                await self._commit.submit(Transaction(self._commit.assigned + 1, self._now_ms(), []), [], None)
        return ChangesGone(oldest)

    def _watch(self, keyspace: str) -> None:
        self._until[keyspace] = self._clock.seconds() + WATCHED_SECONDS
        if not self._is_keeping:
            self._keep()

    def _keep(self) -> None:
        self._is_keeping = True
        self.recent.clear(self._commit.durable)
        self._commit.on_transactions = self._publish

    def _wait(self, watched: Watched, revision: int, seconds: float) -> Deferred[Changes]:
        """The next changes, of which there are none yet."""
        if self._stopped:
            return fail(_stopping())
        self._watch(watched.keyspace)
        until = self._clock.seconds() + seconds
        waiting = Waiting(watched, revision, seconds, until, Deferred(lambda _: self._leave(waiting)))
        self._waiting.setdefault(watched.keyspace, Watchers()).add(waiting)
        self._queues.setdefault(seconds, OrderedDict())[waiting] = None
        if self._next_look is None:
            self._next_look = self._clock.callLater(LATE_SECONDS, self._look_for_late)
        return waiting.told

    def _leave(self, waiting: Waiting) -> None:
        self._watch(waiting.watched.keyspace)
        self._waiting[waiting.watched.keyspace].discard(waiting)
        self._end_wait(waiting)

    def _end_wait(self, waiting: Waiting) -> None:
        queue = self._queues.get(waiting.seconds)
        if queue is not None:  # else it was woken before
            queue.pop(waiting, None)
            if not queue:
                del self._queues[waiting.seconds]

    def _look_for_late(self) -> None:
        """Tell watches that have waited for long that there is nothing to tell, some at a time."""
        now = self._clock.seconds()
        late = [waiting for queue in self._queues.values() for waiting in _first(queue, now)]
        if self._queues:
            self._next_look = self._clock.callLater(0 if len(late) >= _WAKE else LATE_SECONDS, self._look_for_late)
        else:
            self._next_look = None
        # Of later transactions it is not known yet whom they concern.
        seen = self._unmatched[0].revision - 1 if self._unmatched else self._commit.durable
        for waiting in late[:_WAKE]:
            if not waiting.told.called:  # one of these may have made another one leave
                self._leave(waiting)
                waiting.told.callback(Changes((), Position(max(seen, waiting.after))))

    # --- telling --------------------------------------------------------------------------------------------------

    def _publish(self, transactions: list[Transaction]) -> None:
        self.recent.add(transactions)
        if not any(self._waiting.values()):
            return
        self._unmatched += transactions
        if self._matching is None:
            self._matching = self._match()
            self._match_some()

    def _match_some(self) -> None:
        assert self._matching is not None
        if next(self._matching, self) is self:
            self._matching = None
        else:
            self._clock.callLater(0, self._match_some)

    def _match(self) -> Iterator[None]:
        """Find the watches of all unmatched transactions; yields after some changes."""
        looked = 0
        while self._unmatched:
            transaction = self._unmatched[0]
            for change in transaction.changes:
                watchers = self._waiting.get(change.keyspace)
                if watchers:
                    for waiting in watchers.take_all() if change.key is None else watchers.take(change.key):
                        self._wake(waiting, transaction.revision - 1)
                looked += 1
                if looked == LOOK:
                    looked = 0
                    yield
            self._unmatched.popleft()

    def _wake(self, waiting: Waiting, revision: int) -> None:
        self._end_wait(waiting)  # or it might be told that nothing has changed before its turn comes
        if not self._woken:
            self._clock.callLater(0, self._wake_some)
        self._woken.append((waiting, max(revision, waiting.after)))

    def _wake_some(self) -> None:
        until = self._clock.seconds() + _WAKE_SECONDS
        woken, self._woken = self._woken[:_WAKE], self._woken[_WAKE:]
        for at, (waiting, revision) in enumerate(woken, 1):
            if not waiting.told.called:
                self._tell(waiting, Position(revision))
            if self._clock.seconds() > until:
                self._woken[:0] = woken[at:]
                break
        if self._woken:
            self._clock.callLater(0, self._wake_some)

    def _tell(self, waiting: Waiting, position: Position) -> None:
        watched = waiting.watched
        found = self._kept_after(watched, position) if position.revision >= self.gone.get(watched.keyspace, 0) else None
        if found is not None and found.events:
            self._watch(watched.keyspace)
            waiting.told.callback(found)
        else:
            left = max(waiting.until - self._clock.seconds(), LATE_SECONDS)
            self.after(watched, found.position if found is not None else position, left).chainDeferred(waiting.told)


def _stopping() -> StoreUnavailable:
    return StoreUnavailable("the server is stopping")


def _first(queue: OrderedDict[Waiting, None], now: float) -> list[Waiting]:
    """The first ones that have waited long enough, some of them if there are many."""
    return list(takewhile(lambda waiting: waiting.until <= now, islice(queue, _WAKE)))
