"""
When checkpoints run: when the journal or the memtables have grown to their limits, when a start had to replay, and at a
clean stop. One runs at a time. One that fails is tried again, with what it had frozen.
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
    """What has happened since the start, for metrics."""

    finished: int = 0
    failed: int = 0
    seconds: float = 0.0
    last_ms: int | None = None


class Checkpointer:
    """:param finished: called behind each that succeeded, with the pages that are of no use any more."""

    def __init__(
        self,
        disk_state: DiskState,
        keyspaces: dict[str, Keyspace],
        commit: GroupCommit,
        timeline: Timeline,
        clock: IReactorTime,
        limits: Limits,
        finished: Callable[[set[int]], None],
    ) -> None:
        self.counters = CheckpointCounters()
        self._disk_state = disk_state
        self._keyspaces = keyspaces
        self._commit = commit
        self._timeline = timeline
        self._clock = clock
        self._limits = limits
        self._finished = finished
        self._unfinished: Checkpoint | None = None
        self._running: Deferred[None] | None = None
        self._ended = Waiters()
        self._freezing: Waiters | None = None
        """What waits until a checkpoint has frozen the memtables; None when none is about to."""
        self._not_before = 0.0
        self._stopped = False
        self._disk_space = disk_state.storage.disk_space
        self._told_no_space = False
        self._failures = 0
        commit.on_batch = self._begin_if_due

    def stop(self) -> None:
        """Begin none any more but those that somebody asks for."""
        self._stopped = True

    @property
    def running(self) -> bool:
        """Whether one is running."""
        return self._running is not None

    @property
    def failing(self) -> bool:
        """Whether the last one failed, and the next one has not been tried yet."""
        return self._running is None and self._unfinished is not None

    def _begin_if_due(self) -> None:
        """Begin one if the journal or the memtables have grown to their limits, unless one has just failed."""
        if self._stopped:
            return
        if (
            self._commit.journal_bytes >= self._limits.journal
            or self.memtables_are_full()
            or self._disk_space_is_scarce()
        ):
            self.begin()

    def _disk_space_is_scarce(self) -> bool:
        """Whether what the journal holds would soon find no room in pages."""
        written = self._commit.journal_bytes
        return 3 * written >= self._disk_space.free and written >= self._disk_space.size // 4

    def memtables_are_full(self, more: int = 0) -> bool:
        """Whether the active memtables have grown to their share of memory, and by so many bytes more."""
        cost = -more
        for keyspace in self._keyspaces.values():
            cost += keyspace.tables.active.cost
        return cost >= self._limits.memtables

    def begin(self) -> None:
        """Begin one, unless one is running or has just failed, or nothing can be written any more."""
        if self._running is None and self._clock.seconds() >= self._not_before and self._commit.broken is None:
            self.run()

    def run(self) -> Deferred[None]:
        """Run one, or wait for the one that runs. It does not fail: a failure is logged and counted."""
        done = self._ended.add()
        if self._running is None:
            running = Deferred.fromCoroutine(self._run())
            if not running.called:
                self._running = running
        return done

    def give_up(self) -> None:
        """Let the one that runs fail."""
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
                lambda: checkpoint.run(self._timeline.now_ms()),
            )
        except (OSError, StoreError, CancelledError) as error:
            self._failed(may_pass=isinstance(error, OSError) and (is_passing(error) or is_full(error)))
            if not (is_full(error) and self._told_no_space):  # the same again, and again
                log.error("checkpoint failed: {error}", error=error)
            self._told_no_space = is_full(error)
        except Exception:
            self._failed()
            log.failure("checkpoint failed")
        else:
            self._unfinished = None
            self._not_before = 0.0
            self._told_no_space = False
            self._failures = 0
            self._count(checkpoint.revision, self._clock.seconds() - started)
            self._finished(checkpoint.superfluous)
            try:
                await checkpoint.clean()
            except (OSError, StoreError, CancelledError) as error:
                log.warn("files of an old checkpoint stay until the next start: {error}", error=error)
        self._running = None
        self._ended.fire()

    async def _frozen(self) -> Checkpoint:
        # A `Clear` that is taken back would bring back tables that have not been frozen.
        self._freezing = frozen = Waiters()
        try:
            while True:
                await self._commit.latch.free()  # half of a transaction may not be frozen either
                cleared = max((k.cleared for k in self._keyspaces.values()), default=0)
                if cleared <= self._commit.durable:
                    break
                await self._commit.settled(cleared)
            return Checkpoint(self._disk_state, self._keyspaces, self._commit.assigned)
        finally:
            self._freezing = None
            frozen.fire()

    def wait_before_clear(self) -> Deferred[None] | None:
        """None: a `Clear` may be done now; else it may once this fires."""
        return None if self._freezing is None else self._freezing.add()

    def _failed(self, may_pass: bool = False) -> None:
        """:param may_pass: whether it may soon be otherwise: then the first pauses are shorter."""
        self.counters.failed += 1
        self._failures += 1
        pause = min(2.0 ** (self._failures - 1), RETRY_SECONDS) if may_pass and self._disk_space.size else RETRY_SECONDS
        self._not_before = self._clock.seconds() + pause

    def _count(self, revision: int, seconds: float) -> None:
        self.counters.finished += 1
        self.counters.seconds += seconds
        self.counters.last_ms = self._timeline.now_ms()
        log.info("checkpoint of revision {revision} took {seconds:.3f} s", revision=revision, seconds=seconds)
