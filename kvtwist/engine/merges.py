"""
When runs are merged, and pages written anew without what has expired: soon after a checkpoint, and once a minute.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from kvtwist.engine.keyspace import Tables
from kvtwist.engine.layout import Layout
from kvtwist.engine.merging import merge_due, write_merged, write_scrubbed
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

    async def _run(self) -> None:
        name, tables = "", None
        try:
            while (due := self._next()) is not None:
                name, tables, runs = due
                await self._merge(name, tables, runs)
            await self._scrub()
        except CancelledError:
            pass  # the store is closing
        except (OSError, StoreError) as error:
            if tables is None or self._layout.tables.get(name) is tables:  # else it was cleared under our hands
                self._not_before = self._clock.seconds() + SCRUB_SECONDS
                self.failed += 1
                log.error("a merge failed, and will be tried again: {error}", error=error)
        except Exception:
            self._not_before = self._clock.seconds() + SCRUB_SECONDS
            self.failed += 1
            log.failure("a merge failed, and will be tried again")
        self._running = None

    def _next(self) -> tuple[str, Tables, list[Run]] | None:
        for name, tables in self._layout.tables.items():
            runs = merge_due(tables.runs)
            if runs:
                return name, tables, runs
        return None

    async def _merge(self, name: str, tables: Tables, runs: list[Run]) -> None:
        layout = self._layout
        base = runs[-1] is tables.runs[-1]
        steps = write_merged(layout.storage.pages, name, layout.numbers, runs, self._timeline.now_ms(), base)
        await self._replace(name, tables, runs, await layout.write(steps))

    async def _scrub(self) -> None:
        now_ms = self._timeline.now_ms()
        if now_ms - self._scrubbed_ms < SCRUB_SECONDS * 1000:
            return
        self._scrubbed_ms = now_ms
        layout = self._layout
        for name, tables in list(layout.tables.items()):
            for run in tables.runs:
                if run.expires_ms is not None and run.expires_ms <= now_ms:
                    base = run is tables.runs[-1]
                    steps = write_scrubbed(layout.storage.pages, name, layout.numbers, run, now_ms, base)
                    await self._replace(name, tables, [run], await layout.write(steps))

    async def _replace(self, name: str, tables: Tables, old: list[Run], new: Run) -> None:
        superfluous = await self._layout.replace(name, tables, old, new)
        self._finished(superfluous)
        await self._layout.remove(superfluous)
