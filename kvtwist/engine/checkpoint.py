"""
A checkpoint: the memtables become sorted runs on disk, and the journal up to there is removed.

    1. freeze the memtables at revision R, wait until R is durable, and begin a new journal segment
    2. write each frozen memtable as a new run of its keyspace, page by page, synced
    3. write the manifest of R, with which the next start begins
    4. drop the frozen memtables, and remove the segments that end at or before R

Step 2 leaves out records that were replaced or removed since, if the journal has that on disk. So a checkpoint that
found no disk space needs less when it is tried again after deletions.

A crash before step 3 leaves the old manifest and everything that it needs. A crash after it leaves superfluous files,
which the next start removes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from kvtwist.engine.disk_state import DiskState
from kvtwist.engine.keyspace import Keyspace, Tables
from kvtwist.engine.memtable import Memtable
from kvtwist.engine.run_writer import write_frozen
from kvtwist.engine.sorted_run import SortedRun
from kvtwist.model import StoreError


class Checkpoint:
    """
    One checkpoint. After a failure it may be tried again.

    :ivar superfluous: after `run`, the numbers of pages that are no longer needed.
    """

    superfluous: set[int]

    def __init__(self, disk_state: DiskState, keyspaces: dict[str, Keyspace], revision: int) -> None:
        """
        Freeze the memtables, which hold the transactions up to `revision`.

        No `Clear` may be waiting for its batch: undoing it would bring back tables that were not frozen.
        """
        self.revision = revision
        self._disk_state = disk_state
        self._keyspaces = keyspaces
        self._rotated = False
        self._tables: dict[str, Tables] = {}
        for name, keyspace in keyspaces.items():
            keyspace.tables.freeze()
            self._tables[name] = keyspace.tables

    async def run(self, now_ms: int, droppable_ms: Callable[[str], int]) -> None:
        """
        Do steps 1 to 3.

        :param now_ms: the store's time.
        :param droppable_ms: see `kvtwist.engine.expiry.Expiry`.
        Raises `OSError` or `StoreError` on a failure, which loses nothing.
        """
        disk_state = self._disk_state
        storage = disk_state.storage
        # If a batch failed, its transactions were taken back, in the frozen memtables too.
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
                        droppable_ms(name),
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
        """Whether the keyspace was cleared after the freeze, and the journal has that on disk."""
        keyspace = self._keyspaces[name]
        return keyspace.tables is not tables and keyspace.cleared <= synced

    async def clean(self) -> None:
        """Do step 4. Raises `OSError` or `StoreError`; the next start removes the rest."""
        await self._disk_state.remove(self.superfluous)
        await self._disk_state.drop(self.revision)


def _is_superseded(active: Memtable, synced: int, key: bytes) -> bool:
    """Whether the journal has a newer entry of a key on disk. The reactor thread may change the table meanwhile."""
    entry = active.get(key)
    return entry is not None and entry.revision <= synced
