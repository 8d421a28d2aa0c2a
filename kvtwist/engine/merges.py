"""
When runs are merged, and pages written anew without what has expired: soon after a checkpoint, and once a minute.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kvtwist.engine.keyspace import Tables
from kvtwist.engine.layout import Layout
from kvtwist.engine.merging import PageNumbers, is_compact, merge_due, write_merged, write_scrubbed
from kvtwist.engine.run import Run
from kvtwist.engine.timeline import Timeline
from kvtwist.model import StoreError

log = Logger(namespace="kvtwist.store")

SCRUB_SECONDS = 60.0
"""How long something expired may stay on disk; and the pause after a merge that failed."""


class Merges:
    """:param finished: called behind each, with the pages that are of no use any more."""

    def __init__(
        self, layout: Layout, timeline: Timeline, clock: IReactorTime, finished: Callable[[set[int]], None]
    ) -> None:
        self.failed = 0
        self._layout = layout
        self._timeline = timeline
        self._clock = clock
        self._finished = finished
        self._running: Deferred[None] | None = None
        self._stopped = False
        self._scrubbed_ms = timeline.now_ms()
        self._not_before = 0.0

    def begin(self) -> None:
        """Do all that is due, unless that goes on already or something has just failed."""
        if self._running is None and not self._stopped and self._clock.seconds() >= self._not_before:
            running = Deferred.fromCoroutine(self._run())
            if not running.called:
                self._running = running

    def stop(self) -> None:
        """Give up the one that runs, and begin no other: what it wrote is removed by the next start."""
        self._stopped = True
        if self._running is not None:
            self._running.cancel()

    async def compact(self, advance: Callable[[int], object]) -> None:
        """
        Merge each keyspace into one run. Nothing else may merge meanwhile.

        :param advance: called with the number of pages that were written since the last time; it may raise
            `StoreError`, to stop it.
        Raises `OSError` or `StoreError`.
        """
        layout, now_ms = self._layout, self._timeline.now_ms()
        for name, tables in list(layout.tables.items()):
            old = list(tables.runs)
            if is_compact(old, now_ms):
                continue
            steps = write_merged(layout.storage.pages, name, layout.numbers, old, now_ms, True)
            new = await layout.write(_told(steps, layout.numbers, advance))
            superfluous = await layout.replace(name, tables, old, new)
            self._finished(superfluous)
            await layout.remove(superfluous)

    async def _run(self) -> None:
        try:
            await self._merge_all()
            await self._scrub_all()
        except CancelledError:
            pass  # the store is closing
        except Exception:
            self._failed()
            log.failure("merging failed, and will be tried again")
        self._running = None

    async def _merge_all(self) -> None:
        failed: set[str] = set()
        while (due := self._next(failed)) is not None:
            name, tables, runs = due
            if not await self._do(name, tables, runs, write_merged, runs):
                failed.add(name)

    def _next(self, failed: set[str]) -> tuple[str, Tables, list[Run]] | None:
        for name, tables in self._layout.tables.items():
            runs = merge_due(tables.runs) if name not in failed else []
            if runs:
                return name, tables, runs
        return None

    async def _scrub_all(self) -> None:
        now_ms = self._timeline.now_ms()
        if now_ms - self._scrubbed_ms < SCRUB_SECONDS * 1000:
            return
        self._scrubbed_ms = now_ms
        for name, tables in list(self._layout.tables.items()):
            for run in tables.runs:
                if run.expires_ms is not None and run.expires_ms <= now_ms:
                    await self._do(name, tables, [run], write_scrubbed, run)

    async def _do(
        self, name: str, tables: Tables, old: list[Run], write: Callable[..., Generator[None, None, Run]], what: object
    ) -> bool:
        """Write a run in the place of some; returns whether that succeeded. What fails leaves nothing behind."""
        layout = self._layout
        base = old[-1] is tables.runs[-1]
        try:
            steps = write(layout.storage.pages, name, layout.numbers, what, self._timeline.now_ms(), base)
            new = await layout.write(steps)
            superfluous = await layout.replace(name, tables, old, new)
            self._finished(superfluous)
            await layout.remove(superfluous)
        except (OSError, StoreError) as error:
            if layout.tables.get(name) is not tables:
                return True  # it was cleared meanwhile, and its pages are gone
            self._failed()
            log.error("a merge failed, and will be tried again: {error}", error=error)
            return False
        return True

    def _failed(self) -> None:
        self.failed += 1
        self._not_before = self._clock.seconds() + SCRUB_SECONDS


def _told(
    steps: Generator[None, None, Run], numbers: PageNumbers, advance: Callable[[int], object]
) -> Generator[None, None, Run]:
    """The same steps, with a call for each; what it raises, the steps hear."""
    while True:
        before = numbers.next
        try:
            next(steps)
        except StopIteration as end:
            run: Run = end.value
            return run
        try:
            advance(numbers.next - before)
        except StoreError as error:
            steps.throw(error)
        yield
