"""
Checkpointer: what moves records from memory to disk, and lets the journal be forgotten.

    1. freeze the memtables at revision R, wait until R is on disk and begin a new journal segment
    2. write what is frozen as a new run of each keyspace, page by page, synced; but for what has been replaced or
       removed since, as far as the journal behind R has that on disk: a checkpoint that finds no room and is tried
       again takes the less room, the more has been deleted meanwhile
    3. write the manifest of R: from here on a start begins with it
    4. let go of what was frozen, and of the segments that end at or before R

A crash before 3 leaves the old manifest with everything that it needs; a crash after it leaves files too many, which
the next start removes.
"""

from __future__ import annotations

from functools import partial

from kvtwist.engine.disk_state import DiskState
from kvtwist.engine.keyspace import Keyspace, Tables
from kvtwist.engine.memtable import Memtable
from kvtwist.engine.run_writer import write_frozen
from kvtwist.engine.sorted_run import SortedRun
from kvtwist.model import StoreError


class Checkpoint:
    """
    One checkpoint, from its freezing to the end. It may be tried again after it failed.

    :ivar superfluous: numbers of pages that are of no use any more, once it has run.
    """

    def __init__(self, disk_state: DiskState, keyspaces: dict[str, Keyspace], revision: int) -> None:
        """
        Freezes at once, so that it holds exactly what was there up to `revision`.

        No `Clear` may be under way: one that is taken back would bring back tables that were not frozen.
        """
        self.revision = revision
        self.superfluous: set[int] = set()
        self._disk_state = disk_state
        self._keyspaces = keyspaces
        self._rotated = False
        self._tables: dict[str, Tables] = {}
        for name, keyspace in keyspaces.items():
            keyspace.tables.freeze()
            self._tables[name] = keyspace.tables

    async def run(self, now_ms: int) -> None:
        """
        Steps 1 to 3; what had expired by `now_ms` is left out.

        Raises `OSError` or `StoreError` when it could not be finished. Nothing is lost then, and nothing is gained.
        """
        disk_state = self._disk_state
        storage = disk_state.storage
        # If a batch could not be written, what was frozen has been taken back to the last revision that could.
        self.revision = min(self.revision, await storage.commit.settled(self.revision))
        if self._rotated:
            synced = await storage.commit.flush()
        else:
            synced = await storage.commit.rotate()
            self._rotated = True
        new: dict[str, SortedRun] = {}
        try:
            for name, tables in self._tables.items():
                if tables.frozen and not self._is_cleared(name, tables, synced):
                    steps = write_frozen(
                        storage.pages,
                        name,
                        disk_state.numbers,
                        tables.frozen,
                        now_ms,
                        base=not tables.runs,
                        is_superseded=partial(_is_superseded, tables.active, synced),
                    )
                    run = await disk_state.write(steps)
                    if run.pages:
                        new[name] = run
            self.superfluous = await disk_state.add(self.revision, now_ms, self._tables, new)
        except (OSError, StoreError):
            await disk_state.remove({ref.number for run in new.values() for ref in run.pages})
            raise

    def _is_cleared(self, name: str, tables: Tables, synced: int) -> bool:
        """Whether all of what was frozen is gone by what is in the journal."""
        keyspace = self._keyspaces[name]
        return keyspace.tables is not tables and keyspace.cleared <= synced

    async def clean(self) -> None:
        """Step 4. Raises `OSError` or `StoreError`; the next start drops the rest."""
        await self._disk_state.remove(self.superfluous)
        await self._disk_state.drop(self.revision)


def _is_superseded(active: Memtable, synced: int, key: bytes) -> bool:
    """Whether the journal has something newer of a key. Called in the page thread, while others change the table."""
    entry = active.get(key)
    return entry is not None and entry.revision <= synced
