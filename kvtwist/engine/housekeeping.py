"""
What a store does of its own accord: checkpoints, and the sweeping of what has expired.

A checkpoint begins when the journal has grown to its limit, when something has expired on disk, when a start had to
replay, and at a clean stop. One runs at a time. One that fails is tried again, with what it had frozen.
"""

from __future__ import annotations

from attrs import define
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from kvtwist.engine.checkpoint import Checkpoint
from kvtwist.engine.commit import GroupCommit, MemoryCommit
from kvtwist.engine.keyspace import Keyspace
from kvtwist.engine.pages import PageCache
from kvtwist.engine.storage import Storage
from kvtwist.engine.timeline import Timeline
from kvtwist.model import StoreError

log = Logger(namespace="kvtwist.store")

SWEEP_SECONDS = 1.0
SWEEP_RECORDS = 1000
"""Records taken out of memory in one go."""
SETTLE_SECONDS = 60.0
"""How long something expired may stay on disk before a checkpoint begins for that; the pause after one that failed."""
STOP_SECONDS = 2.5
"""How long a clean stop waits for its checkpoint. Without one the next start replays the journal."""


@define
class CheckpointCounters:
    """What has happened since the start, for metrics."""

    finished: int = 0
    failed: int = 0
    seconds: float = 0.0
    last_ms: int | None = None


class Housekeeping:
    """:param storage: None for a store in memory, which has nothing to checkpoint."""

    def __init__(
        self,
        keyspaces: dict[str, Keyspace],
        cache: PageCache,
        storage: Storage | None,
        commit: GroupCommit | MemoryCommit,
        timeline: Timeline,
        clock: IReactorTime,
        checkpoint_bytes: int,
    ) -> None:
        self.counters = CheckpointCounters()
        self._keyspaces = keyspaces
        self._cache = cache
        self._storage = storage
        self._commit = commit
        self._timeline = timeline
        self._clock = clock
        self._checkpoint_bytes = checkpoint_bytes
        self._next: IDelayedCall | None = None
        self._replayed = False
        self._expired = False
        self._settled_ms = timeline.now_ms()
        self._not_before = 0.0
        self._unfinished: Checkpoint | None = None
        self._running: Deferred[None] | None = None
        self._waiting: list[Deferred[None]] = []

    def start(self, replayed: bool) -> None:
        """Begin; `replayed` says that the journal held something, which a checkpoint then moves into pages."""
        self._replayed = replayed
        self._next = self._clock.callLater(SWEEP_SECONDS, self._turn)

    async def stop(self) -> None:
        """End with a checkpoint, if it does not take too long."""
        if self._next is not None:
            self._next.cancel()
        if self._storage is None or self._commit.broken:
            return
        too_long = self._clock.callLater(STOP_SECONDS, self._give_up)
        await self.checkpoint()
        if too_long.active():
            too_long.cancel()

    def _give_up(self) -> None:
        log.warn("the checkpoint takes too long for a stop; the next start replays the journal instead")
        if self._running is not None:
            self._running.cancel()

    def journal_grew(self) -> None:
        """Begin a checkpoint if it is time for one."""
        if self._commit.journal_bytes >= self._checkpoint_bytes:
            self._checkpoint_unless_failing()

    def _checkpoint_unless_failing(self) -> None:
        if self._running is None and self._clock.seconds() >= self._not_before:
            self.checkpoint()

    def checkpoint(self) -> Deferred[None]:
        """Run a checkpoint, or wait for the one that runs. It does not fail: a failure is logged and counted."""
        if self._storage is None:
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._waiting.append(done)
        if self._running is None:
            running = Deferred.fromCoroutine(self._checkpoint(self._storage))
            if not running.called:
                self._running = running
        return done

    async def _checkpoint(self, storage: Storage) -> None:
        started = self._clock.seconds()
        checkpoint = self._unfinished or Checkpoint(storage, self._keyspaces, self._commit.assigned)
        self._unfinished = checkpoint
        self._expired = self._replayed = False
        try:
            await checkpoint.run(self._timeline.now_ms())
        except (OSError, StoreError, CancelledError) as error:
            self.counters.failed += 1
            self._not_before = self._clock.seconds() + SETTLE_SECONDS
            log.error("checkpoint of revision {revision} failed: {error}", revision=checkpoint.revision, error=error)
        except Exception:
            self.counters.failed += 1
            self._not_before = self._clock.seconds() + SETTLE_SECONDS
            log.failure("checkpoint of revision {revision} failed", revision=checkpoint.revision)
        else:
            self._unfinished = None
            self._not_before = 0.0
            self._finished(checkpoint.revision, self._clock.seconds() - started)
            await self._clean(checkpoint)
        self._running = None
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(None)

    def _finished(self, revision: int, seconds: float) -> None:
        counters = self.counters
        counters.finished += 1
        counters.seconds += seconds
        counters.last_ms = self._settled_ms = self._timeline.now_ms()
        log.info("checkpoint of revision {revision} took {seconds:.3f} s", revision=revision, seconds=seconds)

    async def _clean(self, checkpoint: Checkpoint) -> None:
        for number in checkpoint.superfluous:
            self._cache.discard(number)
        try:
            await checkpoint.clean()
        except (OSError, StoreError, CancelledError) as error:
            log.warn("files of an old checkpoint stay until the next start: {error}", error=error)

    # --- sweeping -------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        now_ms = self._timeline.now_ms()
        more = [self._sweep(keyspace, now_ms) for keyspace in self._keyspaces.values()]
        self._next = self._clock.callLater(0 if any(more) else SWEEP_SECONDS, self._turn)
        if self._replayed or (
            now_ms - self._settled_ms >= SETTLE_SECONDS * 1000 and (self._expired or self._expired_in_pages(now_ms))
        ):
            self._checkpoint_unless_failing()

    def _expired_in_pages(self, now_ms: int) -> bool:
        expiries = [keyspace.tables.expires_ms for keyspace in self._keyspaces.values()]
        return any(expires_ms is not None and expires_ms <= now_ms for expires_ms in expiries)

    def _sweep(self, keyspace: Keyspace, now_ms: int) -> bool:
        """Give up some records in memory that have expired and are durable; returns whether there may be more."""
        tables = keyspace.tables
        expired = tables.active.expired(now_ms, SWEEP_RECORDS)
        for key in expired:
            entry = tables.active.get(key)
            if entry is not None and entry.revision <= self._commit.durable:
                tables.forget(key)
                self._expired = True
        return len(expired) == SWEEP_RECORDS
