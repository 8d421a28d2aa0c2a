"""
Room on the disk for what makes room: deletions, the checkpoint that lets go of the journal, and pages that are written
anew without what is gone. Each of these writes before anything is removed, so on a full disk none of them could begin.

A few files of zeros, the *reserve*, hold that room. They are given up one after the other where something that makes
room finds none, and made again before anything else grows. Deletions may use half of them, for the journal; the rest is
for pages.
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
"""How many bytes a server keeps, in all pieces; more if the manifest is large."""
SHARE = 12
"""A small disk keeps this part of itself."""
PIECES = tuple(f"reserve-{number}" for number in range(1, 9))
FOR_PAGES = len(PIECES) // 2
"""So many pieces are not for the journal."""
SPARE = "journal-spare"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def is_full(error: BaseException) -> bool:
    """Whether there was no room on the disk."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM


class DiskSpace:
    """
    The room on the disk of one store. Every method blocks, and may be called in any thread.

    :param most: how large the reserve is, but for small disks and large manifests; 0: there is none.
    :ivar full: whether something found no room, and there is not much yet. Any thread may look at it.
    :ivar free: how many bytes were free the last time that somebody looked.
    :ivar size: how large the reserve is to be.
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
        """Whether all of the reserve is there."""
        return len(self._pieces) == len(PIECES) or not self._most

    @property
    def is_scarce(self) -> bool:
        """Whether the disk is full, or soon will be."""
        return self.full or self.free < 2 * self.size

    @property
    def is_low(self) -> bool:
        """Whether deletions have used up what is for the journal."""
        return self.full and len(self._pieces) <= FOR_PAGES and self._most > 0

    def refill(self) -> bool:
        """Make what is missing of the reserve, unless it is lent; returns whether it is whole then."""
        with self._lock:
            return self.is_whole or (not self._users and self._make_pieces())

    def look(self) -> None:
        """See how much room there is, and whether the disk is still full."""
        whole = self.refill()
        self.measure()
        if whole and self.free >= max(self.size, 2 * self._refused):
            self.full = False
            self._refused = 0

    def measure(self) -> None:
        """See how much room there is."""
        if self._most:
            with suppress(OSError):
                self.free, _ = self._disk.space(self._directory)

    def refuse(self, size: int) -> None:
        """Something found no room; `size`: for so many bytes."""
        self.full = True
        self._refused = max(self._refused, size)

    def release_piece(self, leave: int = 0) -> bool:
        """Give up the spare segment, or else a piece of the reserve but for so many; returns whether there was one."""
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
        Give up all that can be, and make nothing of it again before `restore`, which has to follow. Returns whether
        there was anything, now or for one who borrows it already.
        """
        self._users += 1
        released = self._users > 1
        while self.release_piece():
            released = True
        return released

    def restore(self) -> None:
        """What was lent is not needed any more."""
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
        wanted = self._most * max(1, -(-4 * manifest // self._most))  # a new one is written beside the old one
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
    """Do something that makes room; where there is none for it, once more, with the reserve to itself."""
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
        await worker.run(disk_space.restore)  # whoever has waited for this finds the reserve whole
        return result
