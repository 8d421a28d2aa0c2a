"""
Files and directories that get their names only once they are whole.

Until then the name ends with `PARTIAL`, and a lock keeps two commands with the same target apart. What an interrupted
command left is recognized by that name, by its content, and by the lock, which no process holds; nothing else is ever
removed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import suppress

from kvtwist.engine.disk import Disk
from kvtwist.model import StoreError, StoreInUse

PARTIAL = ".kvtwist-partial"
"""Suffix of unfinished files and directories, and the name of the file that marks such a directory."""


class Files(Disk):
    """A `Disk` with the calls that only commands need. Each call may raise `OSError`."""

    def claim(self, path: str) -> int:
        """
        Open a file for reading and writing, at its beginning, and lock it; create it if it is missing.

        :raises StoreInUse: another process has locked it.
        :raises StoreError: the path is not a regular file.
        """
        while True:
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                    raise
                raise in_the_way(path) from None
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise in_the_way(path)
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with suppress(FileNotFoundError):  # the process that had it locked may have renamed it
                    if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
                        return descriptor
            except BlockingIOError:
                os.close(descriptor)
                raise StoreInUse(f"another process is writing {path}") from None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def remove_directory(self, path: str) -> None:
        """Remove an empty directory."""
        os.rmdir(path)


def in_the_way(path: str) -> StoreError:
    """The error for a foreign file or directory under a name that the command needs."""
    return StoreError(f"{path} is in the way and not a leftover of kvtwist; move it aside")
