"""
What is on disk, as the manifest says it, and how that changes: by a checkpoint's new runs, and by merging runs.

One checkpoint and one merge may run at the same time: both read what nobody changes, and a lock is around the manifest.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TypeVar

from twisted.internet.defer import DeferredLock
from twisted.logger import Logger

from kvtwist.engine import manifest as manifests
from kvtwist.engine.keyspace import Keyspace, Tables
from kvtwist.engine.manifest import Manifest
from kvtwist.engine.run_writer import PageNumbers
from kvtwist.engine.sorted_run import SortedRun
from kvtwist.engine.storage import Storage
from kvtwist.model import StoreError

log = Logger(namespace="kvtwist.store")

T = TypeVar("T")


class DiskState:
    """
    :ivar tables: the tables that the manifest on disk is about. A keyspace that was cleared since has others by now.
    :ivar numbers: of the pages to come.
    """

    def __init__(self, storage: Storage, keyspaces: dict[str, Keyspace]) -> None:
        self.storage = storage
        self.tables = {name: keyspace.tables for name, keyspace in keyspaces.items()}
        self.numbers = PageNumbers(storage.manifest.next_page)
        self._lock = DeferredLock()
        self._pins = 0
        self._superfluous: set[int] = set()
        # What the journal clears is in the manifest until the first checkpoint.
        self._cleared = storage.manifest.pages() - {n for t in self.tables.values() for n in _pages_of(t.runs)}
        self._dropped = 0

    async def write(self, steps: Generator[None, None, T]) -> T:
        """Run a generator in the page thread, each step as a job of its own; returns what it returns."""
        while True:
            done, result = await self.storage.page_worker.run(_step, steps)
            if done:
                return result  # type: ignore[return-value] # the generator's own, once it is done

    async def add(self, revision: int, now_ms: int, tables: dict[str, Tables], new: dict[str, SortedRun]) -> set[int]:
        """
        Make a checkpoint's runs part of the store, and let go of the memtables that they were written from.

        Returns the numbers of pages that are of no use any more.
        """
        async with self._lock:
            runs = {name: [new[name], *t.runs] if name in new else t.runs for name, t in tables.items()}
            gone = [t for name, t in self.tables.items() if tables.get(name) is not t]
            unsure = await self._save(revision, now_ms, runs)
            if unsure is not None:
                raise unsure
            self.tables = tables
            for name, t in tables.items():
                t.install(runs[name])
                t.frozen = None
            cleared, self._cleared = self._cleared, set()
            return cleared.union(*(_pages_of(t.runs) for t in gone))

    async def replace(self, name: str, tables: Tables, old: Sequence[SortedRun], new: Sequence[SortedRun]) -> set[int]:
        """
        Put runs in the place of neighbouring ones that hold the same.

        Returns the numbers of pages that are of no use any more.
        """
        async with self._lock:
            if self.tables.get(name) is not tables:  # it was cleared while the merge ran, and its pages are gone
                return _pages_of(new) - _pages_of(old)
            at = next(index for index, run in enumerate(tables.runs) if run is old[0])
            runs = [*tables.runs[:at], *(run for run in new if run.pages), *tables.runs[at + len(old) :]]
            manifest = self.storage.manifest
            try:
                unsure = await self._save(manifest.revision, manifest.time_ms, {**manifest.keyspaces, name: runs})
            except (OSError, StoreError):
                await self.remove(_pages_of(new) - _pages_of(old))
                raise
            if unsure is not None:
                raise unsure  # after a crash it may be the one manifest or the other: all their pages have to stay
            tables.install(runs)
            return _pages_of(old) - _pages_of(new)

    async def _save(self, revision: int, time_ms: int, runs: dict[str, list[SortedRun]]) -> OSError | None:
        """Returns an error when the manifest is there, and it is not known whether it would be after a power cut."""
        kept = {name: found for name, found in runs.items() if found}
        manifest = Manifest(revision, time_ms, self.numbers.next, kept)
        return await self.storage.page_worker.run(_save, self.storage, manifest)

    async def remove(self, superfluous: set[int]) -> None:
        """Remove pages, and old manifests. Raises `OSError` or `StoreError`; the next start removes what is left."""
        self._superfluous |= superfluous
        if not self._pins:
            superfluous, self._superfluous = self._superfluous, set()
            await self.storage.read_worker.run(_nothing)  # behind those who may still ask for one of them
            await self.storage.page_worker.run(_remove, self.storage, superfluous)

    async def drop(self, revision: int) -> None:
        """Give up the journal up to a revision. Raises `OSError` or `StoreError`, as `remove` does."""
        self._dropped = max(self._dropped, revision)
        if not self._pins:
            await self.storage.commit.drop(self._dropped)

    async def pin(self) -> Manifest:
        """The manifest as it is now. What it names stays, and the journal behind it, until as many have unpinned."""
        async with self._lock:
            self._pins += 1
            return self.storage.manifest

    async def unpin(self) -> None:
        """Remove what has waited for that. What cannot be removed is logged; the next start removes it."""
        self._pins -= 1
        try:
            await self.remove(set())
            await self.drop(0)
        except (OSError, StoreError) as error:
            log.warn("files that a backup has read stay until the next start: {error}", error=error)


def _step(steps: Generator[None, None, T]) -> tuple[bool, T | None]:
    try:
        next(steps)
    except StopIteration as end:
        return True, end.value
    return False, None


def _pages_of(runs: Sequence[SortedRun]) -> set[int]:
    return {ref.number for run in runs for ref in run.pages}


def _save(storage: Storage, manifest: Manifest) -> OSError | None:
    storage.pages.sync()
    manifests.write(storage.disk, storage.path, manifest)
    try:
        storage.disk.sync_directory(storage.path)
    except OSError as error:
        return error
    storage.manifest = manifest
    return None


def _nothing() -> None:
    """A job that is done once all before it are."""


def _remove(storage: Storage, superfluous: set[int]) -> None:
    # A manifest that could not be finished goes first, and for good: pages that it names may be among those to go.
    if manifests.remove_others(storage.disk, storage.path, storage.manifest):
        storage.disk.sync_directory(storage.path)
    storage.pages.remove(superfluous)
