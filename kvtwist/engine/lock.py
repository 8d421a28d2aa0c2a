"""One process to a directory: two that write the same journal would ruin it."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

from kvtwist.model import StoreInUse


class DirectoryLock:
    """Held from construction until `release`, or until the process ends in whatever way."""

    def __init__(self, directory: str) -> None:
        """:raises StoreInUse: when another process holds it."""
        self._descriptor = os.open(os.path.join(directory, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        _lock(self._descriptor, fcntl.LOCK_EX, directory)
        with suppress(OSError):  # on a full disk nobody can be told who holds it
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, b"%d\n" % os.getpid())

    def release(self) -> None:
        """Let the next process in."""
        os.close(self._descriptor)


class ReadLock:
    """
    Keeps a directory from being opened by a server while somebody looks at it; many may look at the same time.

    It changes no byte. Where there is no lock file, or none that may be read, it holds nothing.
    """

    def __init__(self, directory: str) -> None:
        """:raises StoreInUse: when another process has the directory open."""
        self._descriptor: int | None = None
        try:
            self._descriptor = os.open(os.path.join(directory, "lock"), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        _lock(self._descriptor, fcntl.LOCK_SH, directory)

    def release(self) -> None:
        """Let the next process in."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _lock(descriptor: int, how: int, directory: str) -> None:
    """:raises StoreInUse: when another process holds it; the descriptor is closed then."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise StoreInUse(f"{directory} is in use by another server (process {holder or 'unknown'})") from None
