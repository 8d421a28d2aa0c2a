"""
Every file access of the engine, so that a test can put faults where a disk would have them.

The calls are the kernel's and block: only the engine's own threads make them, and the main thread before the reactor
runs. Each may raise `OSError`.

A server holds a few descriptors in reserve, so that connections cannot take the store's: where the process, or the
system, may open no more files, one of the reserve is closed, and the call is made again. What is closed after that
goes back to the reserve at once, by `dup2`: were it free for a moment, the next connection would have it.
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
"""How many a server holds in reserve. Each of three threads has at most two open for a moment."""
_NOTHING = os.O_RDONLY | os.O_CLOEXEC
_EXHAUSTED = {errno.EMFILE, errno.ENFILE}


def is_passing(error: OSError) -> bool:
    """Whether an error tells nothing about the disk: too many files are open just now."""
    return error.errno in _EXHAUSTED


class Disk:
    """
    The real one.

    :param reserve: how many descriptors it holds in reserve, once it has been used.
    """

    def __init__(self, reserve: int = 0) -> None:
        self._wanted = reserve
        self._reserve: list[int] = []

    def _opened(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a call that takes a descriptor, one of the reserve if there is no other."""
        with suppress(OSError):  # what was given up before is taken back when there are some again
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
        """Open a new, empty file for writing, in place of any of that name. Returns its descriptor."""
        return self._open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def reopen(self, path: str) -> int:
        """Open a file that is there to write over what it holds, from its beginning. Returns its descriptor."""
        return self._open(path, os.O_WRONLY)

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
        self._close(descriptor)

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
        """The whole of a file."""
        descriptor = self._open(path, os.O_RDONLY)
        try:
            with open(descriptor, "rb", closefd=False) as file:
                return file.read()
        finally:
            self._close(descriptor)

    def link(self, old: str, new: str) -> None:
        """Give a file a second name, that none has yet."""
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
        """How long a file is."""
        return os.stat(path).st_size

    def space(self, directory: str) -> tuple[int, int]:
        """How many bytes are free on the disk that a directory is on, and how many it has."""
        found = os.statvfs(directory)
        return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize

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
        return sorted(self._opened(os.listdir, directory))

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
        descriptor = self._open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            self._close(descriptor)
