"""
The directory of a store:

    lock                     held by the process that has the directory open
    manifest-<revision>      the pages that make up the store at that revision
    pages/                   a DirDBM of pages
    journal-<revision>.log   the transactions after that
    admin.sock               the socket of the process that has the directory open

Opening it blocks, and happens before the reactor runs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from kvtwist.engine import manifest as manifests
from kvtwist.engine.commit import GroupCommit
from kvtwist.engine.disk import Disk
from kvtwist.engine.disk_space import DiskSpace
from kvtwist.engine.frame import Transaction
from kvtwist.engine.journal import JournalWriter
from kvtwist.engine.lock import DirectoryLock
from kvtwist.engine.manifest import Manifest
from kvtwist.engine.pages import PageDirectory
from kvtwist.engine.recovery import Recovery, replay
from kvtwist.engine.segment import segments
from kvtwist.engine.worker import Worker
from kvtwist.model import StoreDamaged, StoreError

ADMIN_SOCKET = "admin.sock"
"""The socket at which the server of the directory can be asked for a backup. See `kvtwist.profiles.admin`."""


class Storage:
    """
    :param journal_worker: the journal thread: it alone writes the journal.
    :param page_worker: the page thread: it alone writes and removes pages and manifests; compaction runs in it.
    :param sync: whether a transaction is acknowledged after fdatasync, or already after the write.
    :param read_worker: the read thread, which reads pages for requests; by default the page thread.
    :param reserve: bytes of disk space that are kept for deletions, see `kvtwist.engine.disk_space`.
    """

    pages: PageDirectory
    manifest: Manifest
    commit: GroupCommit

    def __init__(
        self,
        path: str,
        disk: Disk,
        journal_worker: Worker,
        page_worker: Worker,
        sync: bool = True,
        read_worker: Worker | None = None,
        reserve: int = 0,
    ) -> None:
        self.path = os.path.abspath(path)
        self.disk = disk
        self.disk_space = DiskSpace(disk, self.path, reserve)
        self.page_worker = page_worker
        self.read_worker = read_worker or page_worker
        self._journal_worker = journal_worker
        self._sync = sync
        self._lock: DirectoryLock | None = None

    def open(self) -> Manifest:
        """
        Lock the directory, making it if it is missing, and read its manifest.

        :raises StoreInUse: another process has it open.
        :raises StoreDamaged: a file does not hold what was written to it.
        :raises StoreError: it cannot be used for another reason.
        """
        with self.released_on_error():
            self.disk.make_directory(self.path)
            self._lock = DirectoryLock(self.path)
            self.manifest = manifests.load(self.disk, self.path)
            self.pages = PageDirectory(self.disk, os.path.join(self.path, "pages"))
            self._check_pages()
        return self.manifest

    @contextmanager
    def released_on_error(self) -> Iterator[None]:
        """Release the directory if the block fails. An `OSError` becomes a `StoreError`."""
        try:
            yield
        except OSError as error:
            self.release()
            raise StoreError(f"cannot use {self.path}: {error.strerror}") from error
        except StoreError:
            self.release()
            raise

    def _check_pages(self) -> None:
        """Refuse pages without a manifest and a journal: `begin` would remove them as leftovers."""
        if not manifests.found(self.disk, self.path) and not segments(self.disk, self.path) and self.pages.numbers():
            raise StoreDamaged(f"{self.path}: there are pages, but neither a manifest nor a journal")

    def replay(self, recovery: Recovery) -> Iterator[Transaction]:
        """All transactions after the manifest's revision. See `kvtwist.engine.recovery.replay`."""
        return replay(self.disk, self.path, self.manifest.revision, recovery)

    def begin(self, revision: int) -> None:
        """
        Remove the files of an unfinished checkpoint, and prepare to write after the last revision.

        :raises OSError: a file cannot be removed, or the directory cannot be synced.
        """
        # A killed process may have renamed its manifest without syncing the name. It must be synced before older files
        # are removed. (The name of the directory itself was synced when the directory of the pages was made in it.)
        self.disk.sync_directory(self.path)
        self.pages.remove(self.pages.numbers() - self.manifest.pages())
        manifests.remove_others(self.disk, self.path, self.manifest)
        self.disk_space.look()
        writer = JournalWriter(self.disk, self.path, revision + 1, self._sync, self.disk_space)
        self.commit = GroupCommit(writer, self._journal_worker, revision, time.monotonic)

    def start(self) -> None:
        """Start the threads."""
        for worker in self._workers():
            worker.start()

    def _workers(self) -> list[Worker]:
        others = [] if self.read_worker is self.page_worker else [self.read_worker]
        return [self._journal_worker, self.page_worker, *others]

    async def close(self) -> None:
        """Settle the transactions that were accepted, stop the threads, and release the directory in any case."""
        try:
            await self.commit.close()
        finally:
            for worker in self._workers():
                worker.stop()
            self.release()

    def release(self) -> None:
        """Release the directory."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
