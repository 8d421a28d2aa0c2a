"""
Checkpoints: move what has gathered in memory into pages, and forget the journal up to there.

    1. freeze the memtables at revision R, start a new journal segment, wait until R is on disk
    2. page by page, merge what is frozen into the pages that it falls in; write those under new numbers, synced
    3. write the manifest of R: from here on a start begins with it
    4. read from the new pages; drop the old ones and the segments that end at or before R

A crash before 3 leaves the old manifest with everything that it needs; a crash after it leaves files too many, which
the next start removes. All merging, encoding and writing happens in the page thread, a page at a time, so that reads
which wait for a page get their turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import define, frozen

from kvtwist.engine import manifest as manifests
from kvtwist.engine.keyspace import Keyspace, Tables
from kvtwist.engine.manifest import Manifest
from kvtwist.engine.memtable import Entry, Memtable
from kvtwist.engine.pages import Page, PageDirectory, PageRef, split
from kvtwist.engine.storage import Storage
from kvtwist.model import Record


@frozen
class _Task:
    """One page to write anew, or, where `ref` is None, the first pages of a keyspace that had none."""

    ref: PageRef | None
    start: bytes
    stop: bytes | None


@define
class _Numbers:
    """Hands out page numbers."""

    next: int

    def take(self) -> int:
        number = self.next
        self.next += 1
        return number


class Checkpoint:
    """One checkpoint, from its freezing to the end. It may be tried again after it failed."""

    def __init__(self, storage: Storage, keyspaces: dict[str, Keyspace], revision: int) -> None:
        """Freezes at once, so that it holds exactly what was there up to `revision`."""
        self.revision = revision
        self.superfluous: set[int] = set()
        self._storage = storage
        self._tables: dict[str, Tables] = {}
        for name, keyspace in keyspaces.items():
            keyspace.tables.freeze()
            self._tables[name] = keyspace.tables

    async def run(self, now_ms: int) -> None:
        """
        Steps 1 to 3, and reading from the new pages; what had expired by `now_ms` is left out.

        Raises `OSError` or `StoreError` when it could not be finished. Nothing is lost then, and nothing is gained.
        """
        storage = self._storage
        # If a batch could not be written, what was frozen has been taken back to the last revision that could.
        self.revision = min(self.revision, await storage.commit.settled(self.revision))
        await storage.commit.rotate()
        numbers = _Numbers(storage.manifest.next_page)
        keyspaces: dict[str, list[PageRef]] = {}
        try:
            for name, tables in self._tables.items():
                keyspaces[name] = await self._merge(name, tables, now_ms, numbers)
            manifest = Manifest(self.revision, now_ms, numbers.next, {n: refs for n, refs in keyspaces.items() if refs})
            await storage.page_worker.run(self._save, manifest)
        except BaseException:
            # A number is never used twice, so that a leftover is never taken for a page of a later try.
            storage.manifest = _skip_numbers(storage.manifest, numbers.next)
            raise
        self.superfluous = storage.manifest.pages() - manifest.pages()
        storage.manifest = manifest
        for name, tables in self._tables.items():
            tables.install(keyspaces[name])

    async def clean(self) -> None:
        """Drop what is of no use any more. Raises `OSError` or `StoreError`; the next start drops the rest."""
        await self._storage.page_worker.run(self._remove_files)
        await self._storage.commit.drop(self.revision)

    async def _merge(self, name: str, tables: Tables, now_ms: int, numbers: _Numbers) -> list[PageRef]:
        frozen = tables.frozen
        assert frozen is not None
        run = self._storage.page_worker.run
        tasks = await run(_plan, tables.pages, frozen, now_ms)
        refs: list[PageRef] = []
        for task in tasks:
            if isinstance(task, PageRef):
                refs.append(task)
            else:
                refs += await run(_rewrite, self._storage.pages, name, task, frozen, now_ms, numbers)
        return refs

    def _save(self, manifest: Manifest) -> None:
        self._storage.pages.sync()
        manifests.save(self._storage.disk, self._storage.path, manifest)

    def _remove_files(self) -> None:
        manifests.remove_others(self._storage.disk, self._storage.path, self._storage.manifest)
        self._storage.pages.remove(self.superfluous)


def _skip_numbers(manifest: Manifest, next_page: int) -> Manifest:
    return Manifest(manifest.revision, manifest.time_ms, next_page, manifest.keyspaces)


def _plan(pages: list[PageRef], frozen: Memtable, now_ms: int) -> list[PageRef | _Task]:
    """What becomes of each page, in key order: it stays as it is, or it is written anew."""
    if not pages:
        return [_Task(None, b"", None)] if len(frozen) else []
    plan: list[PageRef | _Task] = []
    for at, ref in enumerate(pages):
        # The first page also takes what sorts before its first key.
        start = ref.first if at else b""
        stop = pages[at + 1].first if at + 1 < len(pages) else None
        expired = ref.expires_ms is not None and ref.expires_ms <= now_ms
        changed = next(frozen.range(start, stop), None) is not None
        plan.append(_Task(ref, start, stop) if expired or changed else ref)
    return plan


def _rewrite(
    directory: PageDirectory, keyspace: str, task: _Task, frozen: Memtable, now_ms: int, numbers: _Numbers
) -> list[PageRef]:
    """Write the pages that take the place of one; returns what the manifest says of them."""
    old = directory.read(task.ref.number).range(b"", None) if task.ref else iter(())
    live = _overlay(old, frozen.range(task.start, task.stop), now_ms)
    refs = []
    for keys, records, size in split(live):
        number = numbers.take()
        directory.write(number, Page(keyspace, keys, records))
        expiries = [record.expires_ms for record in records if record.expires_ms is not None]
        refs.append(PageRef(number, keys[0], len(keys), size, min(expiries, default=None)))
    return refs


def _overlay(
    old: Iterable[tuple[bytes, Record]], changes: Iterable[tuple[bytes, Entry]], now_ms: int
) -> Iterator[tuple[bytes, Record]]:
    """Records of a page with changes over them, without what was removed and what has expired."""
    entries: dict[bytes, Entry] = dict(old)
    entries.update(changes)
    for key in sorted(entries):
        entry = entries[key]
        if isinstance(entry, Record) and (entry.expires_ms is None or entry.expires_ms > now_ms):
            yield key, entry
