"""One process to a directory: two that write the same journal would ruin it."""

from __future__ import annotations

import fcntl
import os

from kvtwist.model import StoreInUse


class DirectoryLock:
    """Held from construction until `release`, or until the process ends in whatever way."""

    def __init__(self, directory: str) -> None:
        """:raises StoreInUse: when another process holds it."""
        self._descriptor = os.open(os.path.join(directory, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(self._descriptor, 32).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise StoreInUse(f"{directory} is in use by another server (process {holder or 'unknown'})") from None
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, b"%d\n" % os.getpid())

    def release(self) -> None:
        """Let the next process in."""
        os.close(self._descriptor)
