"""
Decides when runs are compacted (after each checkpoint), purged (once a minute) and thinned (when disk space is scarce).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from operator import is_
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kvtwist.engine.compaction import compaction_due, is_compact, purge_due
from kvtwist.engine.disk_space import with_reserve
from kvtwist.engine.disk_state import DiskState
from kvtwist.engine.expiry import Expiry
from kvtwist.engine.keyspace import Tables
from kvtwist.engine.run_writer import PageNumbers, damaged_pages, write_compacted, write_purged
from kvtwist.engine.sorted_run import PageRef, SortedRun
from kvtwist.engine.thinning import thin
from kvtwist.engine.timeline import Timeline
from kvtwist.model import StoreDamaged, StoreError

T = TypeVar("T")

log = Logger(namespace="kvtwist.store")

PURGE_SECONDS = 60.0
"""
How long an expired record may stay on disk. Also the pause after a failed compaction, and between two attempts to read
damaged pages.
"""

Write = Callable[..., Generator[None, None, list[SortedRun]]]
"""`write_compacted` or `write_purged`."""
THIN_SECONDS = 10.0
"""The pause after pages were thinned because there was no disk space for a compaction."""


class Compactor:
    """:param finished: called each time with the numbers of pages that are no longer needed."""

    def __init__(
        self,
        disk_state: DiskState,
        timeline: Timeline,
        expiry: Expiry,
        clock: IReactorTime,
        finished: Callable[[set[int]], None],
    ) -> None:
        self._disk_state = disk_state
        self._timeline = timeline
        self._expiry = expiry
        self._clock = clock
        self._finished = finished
        self._running: Deferred[None] | None = None
        self._stopped = False
        self._purged_ms = timeline.now_ms()
        self._not_before = 0.0
        self._damaged: dict[int, PageRef] = {}
        """Pages that could not be read. Compaction leaves them where they are."""
        self._left: dict[str, list[SortedRun]] = {}
        """Runs that a compaction around damaged pages left. Compacting only these again would be useless."""
        self._disk_space = disk_state.storage.disk_space
        self._lock = DeferredLock()
        self._thinned: dict[str, tuple[list[SortedRun], int]] = {}
        """The runs and the revision of each keyspace when it was thinned: not repeated while they are the same."""

    def begin(self) -> None:
        """Compact and purge what is due, unless that is running or has just failed."""
        if self._running is None and not self._stopped and self._clock.seconds() >= self._not_before:
            running = Deferred.fromCoroutine(self._run())
            if not running.called:
                self._running = running

    def stop(self) -> None:
        """Cancel the running compaction and begin no other. The next start removes what it wrote."""
        self._stopped = True
        if self._running is not None:
            self._running.cancel()

    async def compact(self, advance: Callable[[int], object]) -> None:
        """
        Compact each keyspace into one run. Call it only where `begin` is not called.

        :param advance: called with the number of pages written since the last call; may raise `StoreError`, to stop.
        Raises `OSError` or `StoreError`.
        """
        disk_state = self._disk_state
        for name, tables in list(disk_state.tables.items()):
            old = list(tables.runs)
            droppable_ms = self._expiry.droppable_ms(name)
            if is_compact(old, droppable_ms):
                continue
            steps = write_compacted(disk_state.storage.pages, name, disk_state.numbers, old, droppable_ms, True)
            new = await disk_state.write(_advancing(steps, disk_state.numbers, advance))
            superfluous = await disk_state.replace(name, tables, old, new)
            self._finished(superfluous)
            await disk_state.remove(superfluous)

    async def _run(self) -> None:
        try:
            async with self._lock:
                await self._compact_all()
                await self._purge_all()
        except CancelledError:
            pass  # the store is closing
        except Exception:
            self._failed()
            log.failure("compaction failed, and will be tried again")
        self._running = None

    async def _compact_all(self) -> None:
        failed: set[str] = set()
        while (due := self._next_due(failed)) is not None:
            name, tables, runs = due
            if await self._has_space_for(runs) and await self._rewrite(name, tables, runs, write_compacted):
                continue
            failed.add(name)
            if self._disk_space.size:
                await self._thin(name, tables)
                self._not_before = max(self._not_before, self._clock.seconds() + THIN_SECONDS)

    async def _has_space_for(self, runs: list[SortedRun]) -> bool:
        await self._disk_state.storage.page_worker.run(self._disk_space.measure)
        return self._disk_space.free >= sum(run.size for run in runs)

    async def thin_all(self) -> None:
        """Free disk space without a compaction; see `kvtwist.engine.thinning`."""
        async with self._lock:
            for name, tables in list(self._disk_state.tables.items()):
                if not self._stopped:
                    await self._thin(name, tables)

    async def _thin(self, name: str, tables: Tables) -> None:
        droppable_ms = self._expiry.droppable_ms(name)
        revision = self._disk_state.storage.commit.durable
        known, thinned_at = self._thinned.get(name, ([], -1))
        unchanged = len(known) == len(tables.runs) and all(map(is_, known, tables.runs)) and thinned_at == revision
        if unchanged and not (tables.expires_ms is not None and tables.expires_ms <= droppable_ms):
            return
        try:
            await self._with_reserve(lambda: thin(self._disk_state, name, tables, droppable_ms, self._finished))
        except (OSError, StoreError) as error:
            self._failed()
            log.error("thinning pages failed, and will be tried again: {error}", error=error)
        else:
            self._thinned[name] = list(tables.runs), revision

    def _next_due(self, failed: set[str]) -> tuple[str, Tables, list[SortedRun]] | None:
        for name, tables in self._disk_state.tables.items():
            if name in failed:
                continue
            runs = compaction_due(tables.runs)
            left = set(map(id, self._left.get(name, [])))
            if any(id(run) not in left for run in runs):
                return name, tables, runs
        return None

    async def _purge_all(self) -> None:
        now_ms = self._timeline.now_ms()
        if now_ms - self._purged_ms < PURGE_SECONDS * 1000:
            return
        self._purged_ms = now_ms
        await self._look_again()
        for name, tables in list(self._disk_state.tables.items()):
            droppable_ms = self._expiry.droppable_ms(name)
            for run in tables.runs:
                if purge_due(run, droppable_ms, self._damaged):
                    await self._rewrite(name, tables, [run], write_purged)

    async def _look_again(self) -> None:
        """Read the damaged pages again: an operator may have repaired them."""
        if not self._damaged:
            return
        disk_state = self._disk_state
        named = disk_state.storage.manifest.pages()
        refs = [ref for ref in self._damaged.values() if ref.number in named]
        try:
            found = await disk_state.write(damaged_pages(disk_state.storage.pages, [SortedRun(refs, 0, 0)]))
        except StoreError:
            return  # nothing can be read now
        self._damaged = {ref.number: ref for ref, _ in found}
        if len(found) < len(refs):
            self._left.clear()
            log.info("{count} damaged pages can be read again", count=len(refs) - len(found))

    async def _rewrite(self, name: str, tables: Tables, old: list[SortedRun], write: Write) -> bool:
        """Replace runs by new ones; return whether that succeeded. A failure leaves no files."""
        disk_state = self._disk_state

        async def replaced() -> tuple[list[SortedRun], set[int]]:
            try:
                new = await self._written(name, tables, old, write)
            except StoreDamaged:
                if not await self._find_damage(name, tables, old):
                    raise
                new = await self._written(name, tables, old, write)
            return new, await disk_state.replace(name, tables, old, new)

        try:
            new, superfluous = await self._with_reserve(replaced)
            self._finished(superfluous)
            if any(ref.number in self._damaged for run in new for ref in run.pages):
                there = set(map(id, tables.runs))
                self._left[name] = [run for run in (*self._left.get(name, []), *new) if id(run) in there]
            await disk_state.remove(superfluous)
        except (OSError, StoreError) as error:
            if disk_state.tables.get(name) is not tables:
                return True  # it was cleared meanwhile, and its pages are gone
            self._failed()
            log.error("compaction failed, and will be tried again: {error}", error=error)
            return False
        return True

    async def _written(self, name: str, tables: Tables, old: list[SortedRun], write: Write) -> list[SortedRun]:
        disk_state = self._disk_state
        base = old[-1] is tables.runs[-1]
        droppable_ms, damaged = self._expiry.droppable_ms(name), frozenset(self._damaged)
        steps = write(disk_state.storage.pages, name, disk_state.numbers, old, droppable_ms, base, damaged)
        return await disk_state.write(steps)

    async def _find_damage(self, name: str, tables: Tables, runs: list[SortedRun]) -> bool:
        """Read all pages of some runs; return whether one of them is damaged that was not known to be."""
        found = await self._disk_state.write(damaged_pages(self._disk_state.storage.pages, runs))
        if self._disk_state.tables.get(name) is not tables:
            return False  # it was cleared meanwhile, and its pages are gone
        new = [(ref, error) for ref, error in found if ref.number not in self._damaged]
        for ref, error in new:
            self._damaged[ref.number] = ref
            log.error("{error}; compaction leaves this page where it is", error=error)
        return bool(new)

    async def _with_reserve(self, attempt: Callable[[], Awaitable[T]]) -> T:
        return await with_reserve(self._disk_space, self._disk_state.storage.page_worker, attempt)

    def _failed(self) -> None:
        self._not_before = self._clock.seconds() + PURGE_SECONDS


def _advancing(
    steps: Generator[None, None, list[SortedRun]], numbers: PageNumbers, advance: Callable[[int], object]
) -> Generator[None, None, list[SortedRun]]:
    """Wrap a generator: call `advance` after each step, and throw its exception into the generator."""
    while True:
        before = numbers.next
        try:
            next(steps)
        except StopIteration as end:
            runs: list[SortedRun] = end.value
            return runs
        try:
            advance(numbers.next - before)
        except StoreError as error:
            steps.throw(error)
        yield
