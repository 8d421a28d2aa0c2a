"""
The state on disk: the runs that the manifest names, and the two edits that change it. A checkpoint adds runs, and a
compaction replaces some.

A checkpoint and a compaction may run at the same time: frozen memtables and written pages do not change, and a lock
guards the manifest.
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
    :ivar tables: the tables that the manifest describes. A keyspace that was cleared since has other ones.
    :ivar numbers: the numbers of new pages.

    :param gone: see `kvtwist.engine.changes.ChangeFeed`.
    """

    def __init__(self, storage: Storage, keyspaces: dict[str, Keyspace], gone: dict[str, int]) -> None:
        self.storage = storage
        self._gone = gone
        self.tables = {name: keyspace.tables for name, keyspace in keyspaces.items()}
        self.numbers = PageNumbers(storage.manifest.next_page)
        self._lock = DeferredLock()
        self._pins = 0
        self._superfluous: set[int] = set()
        # Runs of keyspaces that the journal clears are in the manifest until the first checkpoint.
        self._cleared = storage.manifest.pages() - {n for t in self.tables.values() for n in _pages_of(t.runs)}
        self._dropped = 0

    async def write(self, steps: Generator[None, None, T]) -> T:
        """Run a generator in the page thread, each step as a job of its own; return its result."""
        while True:
            done, result = await self.storage.page_worker.run(_step, steps)
            if done:
                return result  # type: ignore[return-value] # the generator's own, once it is done

    async def add(self, revision: int, now_ms: int, tables: dict[str, Tables], new: dict[str, SortedRun]) -> set[int]:
        """
        Add the runs of a checkpoint, and drop the frozen memtables from which they were written.

        Returns the numbers of pages that are no longer needed.
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
        Replace runs, neighbours in age, by others with the same content.

        Returns the numbers of pages that are no longer needed.
        """
        async with self._lock:
            if self.tables.get(name) is not tables:  # it was cleared meanwhile, and its pages are gone
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
                raise unsure  # a start may find either manifest, so the pages of both have to stay
            tables.install(runs)
            return _pages_of(old) - _pages_of(new)

    async def _save(self, revision: int, time_ms: int, runs: dict[str, list[SortedRun]]) -> OSError | None:
        """Write the manifest. Returns an error if a loss of power may still undo that."""
        kept = {name: found for name, found in runs.items() if found}
        manifest = Manifest(revision, time_ms, self.numbers.next, kept, dict(self._gone))
        return await self.storage.page_worker.run(_save, self.storage, manifest)

    async def remove(self, superfluous: set[int]) -> None:
        """Remove pages and old manifests. Raises `OSError` or `StoreError`; the next start removes the rest."""
        self._superfluous |= superfluous
        if not self._pins:
            superfluous, self._superfluous = self._superfluous, set()
            await self.storage.read_worker.run(_nothing)  # after all reads that may need one of them
            await self.storage.page_worker.run(_remove, self.storage, superfluous)

    async def drop(self, revision: int) -> None:
        """Remove the journal up to a revision. Raises `OSError` or `StoreError`, as `remove` does."""
        self._dropped = max(self._dropped, revision)
        if not self._pins:
            await self.storage.commit.drop(self._dropped)

    async def pin(self) -> Manifest:
        """The present manifest. Its pages and the journal after it are kept until as many calls of `unpin`."""
        async with self._lock:
            self._pins += 1
            return self.storage.manifest

    async def unpin(self) -> None:
        """Remove the files that a pin kept. A failure is logged; the next start removes them."""
        self._pins -= 1
        try:
            await self.remove(set())
            await self.drop(0)
        except (OSError, StoreError) as error:
            log.warn("files that a backup kept stay until the next start: {error}", error=error)


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
    """A job that ends after all jobs before it."""


def _remove(storage: Storage, superfluous: set[int]) -> None:
    # An unfinished manifest is removed first, and durably: it may name pages that are removed next.
    if manifests.remove_others(storage.disk, storage.path, storage.manifest):
        storage.disk.sync_directory(storage.path)
    storage.pages.remove(superfluous)
