"""
Checkpoints: what moves records from memory to disk, and lets the journal be forgotten.

    1. freeze the memtables at revision R, wait until R is on disk and begin a new journal segment
    2. write what is frozen as a new run of each keyspace, page by page, synced
    3. write the manifest of R: from here on a start begins with it
    4. let go of what was frozen, and of the segments that end at or before R

A crash before 3 leaves the old manifest with everything that it needs; a crash after it leaves files too many, which
the next start removes.
"""

from __future__ import annotations

from kvtwist.engine.keyspace import Keyspace, Tables
from kvtwist.engine.layout import Layout
from kvtwist.engine.merging import write_frozen
from kvtwist.engine.run import Run
from kvtwist.model import StoreError


class Checkpoint:
    """
    One checkpoint, from its freezing to the end. It may be tried again after it failed.

    :ivar superfluous: numbers of pages that are of no use any more, once it has run.
    """

    def __init__(self, layout: Layout, keyspaces: dict[str, Keyspace], revision: int) -> None:
        """
        Freezes at once, so that it holds exactly what was there up to `revision`.

        No `Clear` may be under way: one that is taken back would bring back tables that were not frozen.
        """
        self.revision = revision
        self.superfluous: set[int] = set()
        self._layout = layout
        self._tables: dict[str, Tables] = {}
        for name, keyspace in keyspaces.items():
            keyspace.tables.freeze()
            self._tables[name] = keyspace.tables

    async def run(self, now_ms: int) -> None:
        """
        Steps 1 to 3; what had expired by `now_ms` is left out.

        Raises `OSError` or `StoreError` when it could not be finished. Nothing is lost then, and nothing is gained.
        """
        layout = self._layout
        storage = layout.storage
        # If a batch could not be written, what was frozen has been taken back to the last revision that could.
        self.revision = min(self.revision, await storage.commit.settled(self.revision))
        await storage.commit.rotate()
        new: dict[str, Run] = {}
        try:
            for name, tables in self._tables.items():
                if tables.frozen:
                    base = not tables.runs
                    steps = write_frozen(storage.pages, name, layout.numbers, tables.frozen, now_ms, base)
                    run = await layout.write(steps)
                    if run.pages:
                        new[name] = run
            self.superfluous = await layout.add(self.revision, now_ms, self._tables, new)
        except (OSError, StoreError):
            await layout.remove({ref.number for run in new.values() for ref in run.pages})
            raise

    async def clean(self) -> None:
        """Step 4. Raises `OSError` or `StoreError`; the next start drops the rest."""
        await self._layout.remove(self.superfluous)
        await self._layout.drop(self.revision)
