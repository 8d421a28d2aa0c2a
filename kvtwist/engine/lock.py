"""Locks a directory for one process: two processes that write one journal would damage it."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

from kvtwist.model import StoreInUse


class DirectoryLock:
    """An exclusive lock, held until `release` or the end of the process."""

    def __init__(self, directory: str) -> None:
        """:raises StoreInUse: another process holds it."""
        self._descriptor = os.open(os.path.join(directory, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        _lock(self._descriptor, fcntl.LOCK_EX, directory)
        with suppress(OSError):  # on a full disk the number of the process cannot be written
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, b"%d\n" % os.getpid())

    def release(self) -> None:
        """Release the lock."""
        os.close(self._descriptor)


class ReadLock:
    """
    A shared lock: any number of processes may read a directory while no server has it open.

    It changes no byte. Without a lock file that can be read, it locks nothing.
    """

    def __init__(self, directory: str) -> None:
        """:raises StoreInUse: another process has the directory open."""
        self._descriptor: int | None = None
        try:
            self._descriptor = os.open(os.path.join(directory, "lock"), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        _lock(self._descriptor, fcntl.LOCK_SH, directory)

    def release(self) -> None:
        """Release the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _lock(descriptor: int, how: int, directory: str) -> None:
    """:raises StoreInUse: another process holds it; the descriptor is closed."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise StoreInUse(f"{directory} is in use by another server (process {holder or 'unknown'})") from None
