"""
Every file access of the engine, so that a test can put faults where a disk would have them.

The calls are the kernel's and block: only the engine's own threads make them, and the main thread before the reactor
runs. Each may raise `OSError`.
"""

from __future__ import annotations

import os
from contextlib import suppress


class Disk:
    """The real one."""

    def create(self, path: str) -> int:
        """Open a new, empty file for writing, in place of any of that name. Returns its descriptor."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def reopen(self, path: str) -> int:
        """Open a file that is there to write over what it holds, from its beginning. Returns its descriptor."""
        return os.open(path, os.O_WRONLY | os.O_CLOEXEC)

    def size(self, descriptor: int) -> int:
        """How long a file is."""
        return os.fstat(descriptor).st_size

    def extend(self, descriptor: int, size: int) -> None:
        """Make a file longer by so many zeros. The next write still goes behind the last one."""
        end = os.fstat(descriptor).st_size
        view = memoryview(bytes(size))
        while view:
            written = os.pwrite(descriptor, view, end)
            view, end = view[written:], end + written

    def write(self, descriptor: int, data: bytes) -> None:
        """Write all of the data behind what was written before."""
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    def sync(self, descriptor: int) -> None:
        """Return once what was written is on the disk itself."""
        os.fdatasync(descriptor)

    def cut(self, descriptor: int, size: int) -> None:
        """Take back all that was written beyond `size` bytes."""
        os.ftruncate(descriptor, size)
        os.lseek(descriptor, size, os.SEEK_SET)

    def close(self, descriptor: int) -> None:
        """Give the descriptor back."""
        os.close(descriptor)

    def save(self, path: str, data: bytes) -> None:
        """Write a whole new file and sync it; when that fails, leave none behind."""
        descriptor = self.create(path)
        try:
            self.write(descriptor, data)
            self.sync(descriptor)
        except BaseException:
            self.remove(path)
            raise
        finally:
            self.close(descriptor)

    def cut_file(self, path: str, size: int, tail: bytes = b"") -> None:
        """
        Shorten a file to `size` bytes, on the disk itself.

        :param tail: what it ends with then, to be written again.
        """
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            view = memoryview(tail)
            while view:
                view = view[os.pwrite(descriptor, view, size - len(view)) :]
            os.ftruncate(descriptor, size)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self, path: str) -> bytes:
        """The whole of a file."""
        with open(path, "rb") as file:
            return file.read()

    def link(self, old: str, new: str) -> None:
        """Give a file a second name, that none has yet."""
        os.link(old, new)

    def read_part(self, path: str, position: int, count: int) -> bytes:
        """At most `count` bytes of a file, from a position on; fewer only at its end."""
        with open(path, "rb") as file:
            file.seek(position)
            return file.read(count)

    def length(self, path: str) -> int:
        """How long a file is."""
        return os.stat(path).st_size

    def is_same(self, one: str, other: str) -> bool:
        """Whether two names are of the same file."""
        return os.path.samefile(one, other)

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, in place of any that had it."""
        os.replace(old, new)

    def remove(self, path: str) -> None:
        """Remove a file."""
        os.unlink(path)

    def names(self, directory: str) -> list[str]:
        """What is in a directory, sorted by name."""
        return sorted(os.listdir(directory))

    def make_directory(self, path: str) -> None:
        """Make a directory, and those above it, where there is none, on the disk itself."""
        if os.path.isdir(path):
            return
        above = os.path.dirname(path)
        self.make_directory(above)
        with suppress(PermissionError):
            # The one above may have been made by a process that was killed before it could do the same.
            self.sync_directory(os.path.dirname(above))
        os.mkdir(path)
        self.sync_directory(above)

    def sync_directory(self, path: str) -> None:
        """Return once the names in a directory are on the disk as they are now."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
