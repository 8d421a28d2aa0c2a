"""
What commands write beside a store: a file or a directory that has its own name only once it is whole.

Until then its name ends with `PARTIAL`, and it is locked, so that two commands with the same target do not meet in it.
What an interrupted command has left is known by that name, by what is in it, and by nobody's holding its lock: nothing
else is ever removed.
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
"""How the names of unfinished files and directories end; and the name of the file that marks such a directory."""


class Files(Disk):
    """A `Disk` with what only commands do. Each call may raise `OSError`."""

    def claim(self, path: str) -> int:
        """
        Open a file for reading and writing, at its beginning, and lock it; make it where there is none.

        :raises StoreInUse: another process has it locked.
        :raises StoreError: it is not a regular file.
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
                with suppress(FileNotFoundError):  # whoever had it has given it another name since
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
    """An error: there is something that is not ours under a name that is needed."""
    return StoreError(f"{path} is in the way, and not what an interrupted kvtwist has left: move it away")
