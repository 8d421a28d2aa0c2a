"""
Decides when a checkpoint runs: when the journal or the memtables reach their limits, when disk space becomes scarce,
and when the housekeeping asks for it.

One checkpoint runs at a time. One that failed is tried again with the same frozen memtables.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kvtwist.engine.checkpoint import Checkpoint
from kvtwist.engine.commit import GroupCommit
from kvtwist.engine.disk import is_passing
from kvtwist.engine.disk_space import is_full, with_reserve
from kvtwist.engine.disk_state import DiskState
from kvtwist.engine.expiry import Expiry
from kvtwist.engine.keyspace import Keyspace
from kvtwist.engine.limits import Limits
from kvtwist.engine.timeline import Timeline
from kvtwist.engine.waiters import Waiters
from kvtwist.model import StoreError

log = Logger(namespace="kvtwist.store")

RETRY_SECONDS = 10.0
"""The pause after a checkpoint that failed."""


@define
class CheckpointCounters:
    """Counts since the start, for metrics."""

    finished: int = 0
    failed: int = 0
    seconds: float = 0.0
    last_ms: int | None = None


class Checkpointer:
    """:param finished: called after each success with the numbers of pages that are no longer needed."""

    def __init__(
        self,
        disk_state: DiskState,
        keyspaces: dict[str, Keyspace],
        commit: GroupCommit,
        timeline: Timeline,
        expiry: Expiry,
        clock: IReactorTime,
        limits: Limits,
        finished: Callable[[set[int]], None],
    ) -> None:
        self.counters = CheckpointCounters()
        self._disk_state = disk_state
        self._keyspaces = keyspaces
        self._commit = commit
        self._timeline = timeline
        self._expiry = expiry
        self._clock = clock
        self._limits = limits
        self._finished = finished
        self._unfinished: Checkpoint | None = None
        self._running: Deferred[None] | None = None
        self._ended = Waiters()
        self._freezing: Waiters | None = None
        """Waiters for the freezing of the memtables; None while no checkpoint is about to freeze them."""
        self._not_before = 0.0
        self._stopped = False
        self._disk_space = disk_state.storage.disk_space
        self._logged_no_space = False
        self._failures = 0
        commit.on_batch = self._begin_if_due

    def stop(self) -> None:
        """From now on begin a checkpoint only when `run` asks for one."""
        self._stopped = True

    @property
    def running(self) -> bool:
        """Whether a checkpoint is running."""
        return self._running is not None

    @property
    def failing(self) -> bool:
        """Whether the last checkpoint failed, and has not been tried again yet."""
        return self._running is None and self._unfinished is not None

    def _begin_if_due(self) -> None:
        """Begin a checkpoint if the journal, the memtables or the free disk space have reached their limits."""
        if self._stopped:
            return
        if (
            self._commit.journal_bytes >= self._limits.journal
            or self.memtables_are_full()
            or self._disk_space_is_scarce()
        ):
            self.begin()

    def _disk_space_is_scarce(self) -> bool:
        """Whether there would soon be no disk space for pages with all that the journal holds."""
        written = self._commit.journal_bytes
        return 3 * written >= self._disk_space.free and written >= self._disk_space.size // 4

    def memtables_are_full(self, more: int = 0) -> bool:
        """Whether the active memtables take their share of memory, plus `more` bytes."""
        cost = -more
        for keyspace in self._keyspaces.values():
            cost += keyspace.tables.active.cost
        return cost >= self._limits.memtables

    def begin(self) -> None:
        """Begin a checkpoint, unless one is running or has just failed, or the store is read-only."""
        if self._running is None and self._clock.seconds() >= self._not_before and self._commit.broken is None:
            self.run()

    def run(self) -> Deferred[None]:
        """Run a checkpoint, or wait for the running one. The Deferred never fails: failures are logged and counted."""
        done = self._ended.add()
        if self._running is None:
            running = Deferred.fromCoroutine(self._run())
            if not running.called:
                self._running = running
        return done

    def give_up(self) -> None:
        """Cancel the running checkpoint, which then fails."""
        if self._running is not None:
            self._running.cancel()

    async def _run(self) -> None:
        started = self._clock.seconds()
        try:
            checkpoint = self._unfinished or await self._frozen()
            self._unfinished = checkpoint
            await with_reserve(
                self._disk_space,
                self._disk_state.storage.page_worker,
                lambda: checkpoint.run(self._timeline.now_ms(), self._expiry.droppable_ms),
            )
        except (OSError, StoreError, CancelledError) as error:
            self._failed(may_pass=isinstance(error, OSError) and (is_passing(error) or is_full(error)))
            if not (is_full(error) and self._logged_no_space):  # which is logged once, not at every retry
                log.error("checkpoint failed: {error}", error=error)
            self._logged_no_space = is_full(error)
        except Exception:
            self._failed()
            log.failure("checkpoint failed")
        else:
            self._unfinished = None
            self._not_before = 0.0
            self._logged_no_space = False
            self._failures = 0
            self._count(checkpoint.revision, self._clock.seconds() - started)
            self._finished(checkpoint.superfluous)
            try:
                await checkpoint.clean()
            except (OSError, StoreError, CancelledError) as error:
                log.warn("files of the last checkpoint stay until the next start: {error}", error=error)
        self._running = None
        self._ended.fire()

    async def _frozen(self) -> Checkpoint:
        # A `Clear` must be durable first: undoing it would bring back tables that were not frozen.
        self._freezing = frozen = Waiters()
        try:
            while True:
                await self._commit.latch.free()  # half of a transaction must not be frozen either
                cleared = max((k.cleared for k in self._keyspaces.values()), default=0)
                if cleared <= self._commit.durable:
                    break
                await self._commit.settled(cleared)
            return Checkpoint(self._disk_state, self._keyspaces, self._commit.assigned)
        finally:
            self._freezing = None
            frozen.fire()

    def wait_before_clear(self) -> Deferred[None] | None:
        """What a `Clear` has to wait for: a Deferred, or None if it may be applied now."""
        return None if self._freezing is None else self._freezing.add()

    def _failed(self, may_pass: bool = False) -> None:
        """:param may_pass: whether the next attempt may soon succeed: the first pauses are shorter."""
        self.counters.failed += 1
        self._failures += 1
        pause = min(2.0 ** (self._failures - 1), RETRY_SECONDS) if may_pass and self._disk_space.size else RETRY_SECONDS
        self._not_before = self._clock.seconds() + pause

    def _count(self, revision: int, seconds: float) -> None:
        self.counters.finished += 1
        self.counters.seconds += seconds
        self.counters.last_ms = self._timeline.now_ms()
        log.info("checkpoint of revision {revision} took {seconds:.3f} s", revision=revision, seconds=seconds)
