"""
What is on disk, as the manifest says it, and how that changes: by a checkpoint's new runs, and by merging runs.

One checkpoint and one merge may run at the same time: both read what nobody changes, and a lock is around the manifest.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TypeVar

from twisted.internet.defer import DeferredLock

from kvtwist.engine import manifest as manifests
from kvtwist.engine.keyspace import Keyspace, Tables
from kvtwist.engine.manifest import Manifest
from kvtwist.engine.merging import PageNumbers
from kvtwist.engine.run import Run
from kvtwist.engine.storage import Storage

T = TypeVar("T")


class Layout:
    """
    :ivar tables: the tables that the manifest on disk is about. A keyspace that was cleared since has others by now.
    :ivar numbers: of the pages to come.
    """

    def __init__(self, storage: Storage, keyspaces: dict[str, Keyspace]) -> None:
        self.storage = storage
        self.tables = {name: keyspace.tables for name, keyspace in keyspaces.items()}
        self.numbers = PageNumbers(storage.manifest.next_page)
        self._lock = DeferredLock()

    async def write(self, steps: Generator[None, None, T]) -> T:
        """Run a generator in the page thread, each step as a job of its own; returns what it returns."""
        while True:
            done, result = await self.storage.page_worker.run(_step, steps)
            if done:
                return result  # type: ignore[return-value] # the generator's own, once it is done

    async def add(self, revision: int, now_ms: int, tables: dict[str, Tables], new: dict[str, Run]) -> set[int]:
        """
        Make a checkpoint's runs part of the store, and let go of the memtables that they were written from.

        Returns the numbers of pages that are of no use any more.
        """
        async with self._lock:
            runs = {name: [new[name], *t.runs] if name in new else t.runs for name, t in tables.items()}
            gone = [t for name, t in self.tables.items() if tables.get(name) is not t]
            await self._save(revision, now_ms, runs)
            self.tables = tables
            for name, t in tables.items():
                t.install(runs[name])
                t.frozen = None
            return {ref.number for t in gone for run in t.runs for ref in run.pages}

    async def replace(self, name: str, tables: Tables, old: Sequence[Run], new: Run) -> set[int]:
        """
        Put a run in the place of neighbouring ones that hold the same.

        Returns the numbers of pages that are of no use any more.
        """
        async with self._lock:
            if self.tables.get(name) is not tables:  # it was cleared while the merge ran, and its pages are gone
                return {ref.number for ref in new.pages}
            at = next(index for index, run in enumerate(tables.runs) if run is old[0])
            runs = [*tables.runs[:at], *([new] if new.pages else []), *tables.runs[at + len(old) :]]
            manifest = self.storage.manifest
            await self._save(manifest.revision, manifest.time_ms, {**manifest.keyspaces, name: runs})
            tables.install(runs)
            return {ref.number for run in old for ref in run.pages} - {ref.number for ref in new.pages}

    async def _save(self, revision: int, time_ms: int, runs: dict[str, list[Run]]) -> None:
        kept = {name: found for name, found in runs.items() if found}
        manifest = Manifest(revision, time_ms, self.numbers.next, kept)
        await self.storage.page_worker.run(_save, self.storage, manifest)

    async def remove(self, superfluous: set[int]) -> None:
        """Remove pages, and old manifests. Raises `OSError` or `StoreError`; the next start removes what is left."""
        await self.storage.page_worker.run(_remove, self.storage, superfluous)


def _step(steps: Generator[None, None, T]) -> tuple[bool, T | None]:
    try:
        next(steps)
    except StopIteration as end:
        return True, end.value
    return False, None


def _save(storage: Storage, manifest: Manifest) -> None:
    storage.pages.sync()
    manifests.save(storage.disk, storage.path, manifest)
    storage.manifest = manifest


def _remove(storage: Storage, superfluous: set[int]) -> None:
    # A manifest that could not be finished goes first, and for good: pages that it names may be among those to go.
    if manifests.remove_others(storage.disk, storage.path, storage.manifest):
        storage.disk.sync_directory(storage.path)
    storage.pages.remove(superfluous)
