"""
Disk space for work that frees disk space: deletions, the checkpoint that lets the journal be removed, and pages that
are rewritten without removed records. All of these write before they remove anything, so none could begin on a full
disk.

A few files of zeros, the *reserve*, hold that space. They are removed one by one when such work finds no space, and are
made again before anything else grows. Deletions may use half of them, for the journal; the other half is for pages.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from threading import Lock
from typing import TypeVar

from kvtwist.engine import manifest as manifests
from kvtwist.engine.disk import Disk
from kvtwist.engine.worker import Worker

T = TypeVar("T")

RESERVE = 16 * 2**20
"""The size of a server's reserve in bytes; larger if the manifest is large."""
SHARE = 12
"""On a small disk the reserve is at most this fraction of the disk."""
PIECES = tuple(f"reserve-{number}" for number in range(1, 9))
FOR_PAGES = len(PIECES) // 2
"""How many pieces the journal must not use."""
SPARE = "journal-spare"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def is_full(error: BaseException) -> bool:
    """Whether an error means that there is no disk space."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM


class DiskSpace:
    """
    The disk space of one store. Every method blocks, and may be called in any thread.

    :param most: the size of the reserve in bytes, except for small disks and large manifests; 0 for no reserve.
    :ivar full: whether a write found no space, and there is not much yet. May be read in any thread.
    :ivar free: free bytes when they were last measured.
    :ivar size: the intended size of the reserve.
    """

    def __init__(self, disk: Disk, directory: str, most: int = 0) -> None:
        self.full = False
        self.free = sys.maxsize
        self.size = 0
        self._disk = disk
        self._directory = directory
        self._most = most
        self._pieces: list[str] = []
        self._refused = 0
        self._users = 0
        self._lock = Lock()

    @property
    def is_whole(self) -> bool:
        """Whether the reserve is complete."""
        return len(self._pieces) == len(PIECES) or not self._most

    @property
    def is_scarce(self) -> bool:
        """Whether the disk is full, or soon will be."""
        return self.full or self.free < 2 * self.size

    @property
    def is_low(self) -> bool:
        """Whether deletions have used up the pieces for the journal."""
        return self.full and len(self._pieces) <= FOR_PAGES and self._most > 0

    def refill(self) -> bool:
        """Make the missing pieces, unless the reserve is in use; return whether it is complete."""
        with self._lock:
            return self.is_whole or (not self._users and self._make_pieces())

    def look(self) -> None:
        """Refill the reserve, measure the free space, and find out whether the disk is still full."""
        whole = self.refill()
        self.measure()
        if whole and self.free >= max(self.size, 2 * self._refused):
            self.full = False
            self._refused = 0

    def measure(self) -> None:
        """Measure the free space."""
        if self._most:
            with suppress(OSError):
                self.free, _ = self._disk.space(self._directory)

    def refuse(self, size: int) -> None:
        """Remember that there was no space for `size` bytes."""
        self.full = True
        self._refused = max(self._refused, size)

    def release_piece(self, leave: int = 0) -> bool:
        """Remove the spare segment, or a piece if more than `leave` are left; return whether anything was removed."""
        with self._lock:
            if self._removed(SPARE):
                return True
            while len(self._pieces) > leave:
                self.full = True
                if self._removed(self._pieces.pop()):
                    return True
            return False

    def release_all(self) -> bool:
        """
        Remove all pieces until `restore`, which must follow. Returns whether this freed any space, now or in an earlier
        call that is not restored yet.
        """
        self._users += 1
        released = self._users > 1
        while self.release_piece():
            released = True
        return released

    def restore(self) -> None:
        """End the use of the reserve that `release_all` began."""
        self._users -= 1
        self.look()

    def _removed(self, name: str) -> bool:
        try:
            self._disk.remove(os.path.join(self._directory, name))
        except OSError:
            return False
        return True

    def _make_pieces(self) -> bool:
        try:
            piece = self._piece_size()
            for name in PIECES:
                if name not in self._pieces:
                    self._make_piece(os.path.join(self._directory, name), piece)
                    self._pieces.append(name)
        except OSError:
            self.full = True
            return False
        return True

    def _piece_size(self) -> int:
        found = manifests.found(self._disk, self._directory)
        manifest = self._disk.length(found[-1][1]) if found else 0
        wanted = self._most * max(
            1, -(-4 * manifest // self._most)
        )  # a new manifest is written before the old one is removed
        _, total = self._disk.space(self._directory)
        self.size = min(wanted, total // SHARE)
        return self.size // len(PIECES)

    def _make_piece(self, path: str, size: int) -> None:
        with suppress(FileNotFoundError):
            if self._disk.length(path) == size:
                return
        descriptor = self._disk.create(path)
        try:
            self._disk.extend(descriptor, size)
        except OSError:
            self._disk.remove(path)
            raise
        finally:
            self._disk.close(descriptor)


async def with_reserve(disk_space: DiskSpace, worker: Worker, attempt: Callable[[], Awaitable[T]]) -> T:
    """Do work that frees disk space; if it finds none, repeat it with the whole reserve."""
    try:
        return await attempt()
    except OSError as error:
        if not is_full(error):
            raise
        released = await worker.run(disk_space.release_all)
        try:
            if not released:
                raise
            result = await attempt()
        except BaseException:
            worker.run(disk_space.restore)
            raise
        await worker.run(disk_space.restore)  # so that the caller finds the reserve complete
        return result
