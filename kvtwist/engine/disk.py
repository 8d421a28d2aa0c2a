"""
All file access of the engine. Tests replace it, to inject faults.

The calls block, so they are made in the engine's own threads, or in the main thread before the reactor runs. Each may
raise `OSError`.

A server holds a few file descriptors in reserve, so that connections cannot take the store's. When the process or the
system can open no more files, a reserved descriptor is closed, and the call is made again. When a file is closed later,
its descriptor goes back to the reserve at once, by `dup2`: the next connection would take a descriptor that is free.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

DESCRIPTORS = 8
"""How many descriptors a server reserves: each of three threads opens at most two at a time."""
_NOTHING = os.O_RDONLY | os.O_CLOEXEC
_EXHAUSTED = {errno.EMFILE, errno.ENFILE}


def is_passing(error: OSError) -> bool:
    """Whether an error says nothing about the disk, but that too many files are open now."""
    return error.errno in _EXHAUSTED


class Disk:
    """
    The disk of the operating system.

    :param reserve: how many descriptors are reserved, from the first call on.
    """

    def __init__(self, reserve: int = 0) -> None:
        self._wanted = reserve
        self._reserve: list[int] = []

    def _opened(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a call that opens a descriptor; use a reserved one if there is no other."""
        with suppress(OSError):  # refill the reserve if there are descriptors again
            while len(self._reserve) < self._wanted:
                self._reserve.append(os.open(os.devnull, _NOTHING))
        while True:
            try:
                return call(*args, **kwargs)
            except OSError as error:
                if not is_passing(error):
                    raise
                try:
                    given_up = self._reserve.pop()
                except IndexError:
                    raise error from None
                os.close(given_up)

    def _open(self, path: str, flags: int) -> int:
        return self._opened(os.open, path, flags | os.O_CLOEXEC, 0o600)

    def _close(self, descriptor: int) -> None:
        try:
            in_its_place = self._reserve.pop() if 0 < len(self._reserve) < self._wanted else -1
        except IndexError:  # another thread has just taken the last one
            in_its_place = -1
        if in_its_place < 0:
            os.close(descriptor)
            return
        os.dup2(in_its_place, descriptor, inheritable=False)
        self._reserve += [in_its_place, descriptor]

    def create(self, path: str) -> int:
        """Open an empty file for writing, in place of any of that name; return its descriptor."""
        return self._open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def reopen(self, path: str) -> int:
        """Open an existing file to write over it from its beginning; return its descriptor."""
        return self._open(path, os.O_WRONLY)

    def size(self, descriptor: int) -> int:
        """The length of an open file in bytes."""
        return os.fstat(descriptor).st_size

    def extend(self, descriptor: int, size: int) -> None:
        """Append `size` zeros to a file. The next write still goes after the last one, over these zeros."""
        end = os.fstat(descriptor).st_size
        view = memoryview(bytes(size))
        while view:
            written = os.pwrite(descriptor, view, end)
            view, end = view[written:], end + written

    def write(self, descriptor: int, data: bytes) -> None:
        """Write all of the data after the last write."""
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    def sync(self, descriptor: int) -> None:
        """Return when everything that was written is on disk (fdatasync)."""
        os.fdatasync(descriptor)

    def cut(self, descriptor: int, size: int) -> None:
        """Cut a file to `size` bytes, and go on writing there."""
        os.ftruncate(descriptor, size)
        os.lseek(descriptor, size, os.SEEK_SET)

    def close(self, descriptor: int) -> None:
        """Close a descriptor."""
        self._close(descriptor)

    def save(self, path: str, data: bytes) -> None:
        """Write a new file and sync it; remove it again if that fails."""
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
        Cut a file to `size` bytes, and sync it.

        :param tail: the last of these bytes, which are written again.
        """
        descriptor = self._open(path, os.O_WRONLY)
        try:
            view = memoryview(tail)
            while view:
                view = view[os.pwrite(descriptor, view, size - len(view)) :]
            os.ftruncate(descriptor, size)
            os.fsync(descriptor)
        finally:
            self._close(descriptor)

    def read(self, path: str) -> bytes:
        """The content of a file."""
        descriptor = self._open(path, os.O_RDONLY)
        try:
            with open(descriptor, "rb", closefd=False) as file:
                return file.read()
        finally:
            self._close(descriptor)

    def link(self, old: str, new: str) -> None:
        """Give a file a second name, which must be free."""
        os.link(old, new)

    def read_part(self, path: str, position: int, count: int) -> bytes:
        """At most `count` bytes of a file, from a position on; fewer only at its end."""
        descriptor = self._open(path, os.O_RDONLY)
        try:
            with open(descriptor, "rb", closefd=False) as file:
                file.seek(position)
                return file.read(count)
        finally:
            self._close(descriptor)

    def length(self, path: str) -> int:
        """The length of a file in bytes."""
        return os.stat(path).st_size

    def space(self, directory: str) -> tuple[int, int]:
        """The free and the total space, in bytes, of the disk that holds a directory."""
        found = os.statvfs(directory)
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize

    def is_same(self, one: str, other: str) -> bool:
        """Whether two paths name the same file."""
        return os.path.samefile(one, other)

    def rename(self, old: str, new: str) -> None:
        """Rename a file, in place of any of the new name."""
        os.replace(old, new)

    def remove(self, path: str) -> None:
        """Remove a file."""
        os.unlink(path)

    def names(self, directory: str) -> list[str]:
        """The names in a directory, sorted."""
        return sorted(self._opened(os.listdir, directory))

    def make_directory(self, path: str) -> None:
        """Make a directory and its missing parents, and sync their names."""
        if os.path.isdir(path):
            return
        above = os.path.dirname(path)
        self.make_directory(above)
        with suppress(PermissionError):
            # A process may have made the parent, and been killed before it synced its name.
            self.sync_directory(os.path.dirname(above))
        os.mkdir(path)
        self.sync_directory(above)

    def sync_directory(self, path: str) -> None:
        """Return when the names in a directory are on disk as they are now."""
        descriptor = self._open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            self._close(descriptor)
