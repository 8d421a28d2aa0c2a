"""
A disk in memory that the engine opens as if it were a real one, and that remembers every change in order.

All that the engine does with files goes through `Disk`, but for the lock, for which there is a real directory that is
empty otherwise.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from attrs import define

from kvtwist.engine import Store
from kvtwist.engine.recovery import Recovery
from kvtwist.engine.storage import Storage
from kvtwist.engine.timeline import Timeline
from tests.support.engine import Engine, FaultyDisk, new_directory
from tests.support.powerloss import (
    DIRECTORY,
    Change,
    Cut,
    Link,
    Platter,
    Rename,
    Sync,
    SyncDirectory,
    Unlink,
    Write,
)

Forgotten = Callable[[str, str], bool]
"""Whether a sync is left out, by the name of the call and the path."""


class Death(BaseException):
    """The process ends here. It is no `Exception`, as nothing in the process can do anything about it."""


class MemoryDisk(FaultyDisk):
    """
    :param root: a real directory, above everything that this disk is asked for.
    :ivar log: every change, with what `note` returned just before it.
    :ivar forgotten: syncs that it claims to have done.
    """

    def __init__(self, root: str, platter: Platter, note: Callable[[], Any] = lambda: None) -> None:
        super().__init__()
        self.platter = platter
        self.log: list[tuple[Change, Any]] = []
        self.forgotten: Forgotten | None = None
        self._root = root
        self._note = note
        self._files: dict[int, tuple[int, int]] = {}
        """By descriptor: the file, and where in it the next write goes."""
        self._next_descriptor = 1
        self._changes_left = -1
        self._dead = False

    # --- the process that uses it ---------------------------------------------------------------------------------

    def die_after(self, changes: int) -> None:
        """Let the process die when it has made so many more changes."""
        self._changes_left = changes

    def abandon(self) -> None:
        """Forget what a process that has died had open. The next one may use the disk."""
        self._files.clear()
        self.paths.clear()
        self._changes_left = -1
        self._dead = False

    def _change(self, change: Change) -> None:
        if self._dead:
            raise Death
        if self._changes_left >= 0:
            if self._changes_left == 0:
                if isinstance(change, Write) and (torn := change.torn(0.5)) is not None:
                    self._record(torn)
                self._dead = True
                raise Death
            self._changes_left -= 1
        self._record(change)

    def _change_half(self, write: Write) -> None:
        torn = write.torn(0.5)
        if torn is not None:
            self._change(torn)

    def _record(self, change: Change) -> None:
        self.log.append((change, self._note()))
        self.platter.apply(change)

    # --- what `Disk` says -----------------------------------------------------------------------------------------

    def create(self, path: str) -> int:
        self.before("create", path)
        directory, name = self._split(path)
        entries = self.platter.names[directory]
        if name in entries:
            file = entries[name]
            self._change(Cut(file, 0))
        else:
            file = self.platter.new_file()
            self._change(Link(directory, name, file))
        return self._open(file, path)

    def reopen(self, path: str) -> int:
        self.before("reopen", path)
        return self._open(self._file(path), path)

    def size(self, descriptor: int) -> int:
        return len(self.platter.content(self._files[descriptor][0]))

    def extend(self, descriptor: int, size: int) -> None:
        """One that fails has extended by half of it."""
        file, _ = self._files[descriptor]
        end = len(self.platter.content(file))
        try:
            self.before("extend", self.paths[descriptor])
        except OSError:
            self._change_half(Write(file, end, bytes(size)))
            raise
        self._change(Write(file, end, bytes(size)))

    def write(self, descriptor: int, data: bytes) -> None:
        """A write that fails has written half of the data, as the real one may have."""
        file, offset = self._files[descriptor]
        write = Write(file, offset, bytes(data))
        try:
            self.before("write", self.paths[descriptor])
        except OSError:
            self._change_half(write)
            raise
        self._change(write)
        self._files[descriptor] = (file, offset + len(data))

    def sync(self, descriptor: int) -> None:
        file, _ = self._files[descriptor]
        self._sync(file, "sync", self.paths[descriptor])

    def _sync(self, file: int, call: str, path: str) -> None:
        try:
            self.before(call, path)
        except OSError:
            self._change(Sync(file, failed=True))
            raise
        if self.forgotten is None or not self.forgotten(call, path):
            self._change(Sync(file))

    def cut(self, descriptor: int, size: int) -> None:
        self.before("cut", self.paths[descriptor])
        file, _ = self._files[descriptor]
        self._change(Cut(file, size))
        self._files[descriptor] = (file, size)

    def close(self, descriptor: int) -> None:
        self.before("close", self.paths[descriptor])
        del self._files[descriptor], self.paths[descriptor]

    def cut_file(self, path: str, size: int, tail: bytes = b"") -> None:
        self.before("cut_file", path)
        file = self._file(path)
        if tail:
            self._change(Write(file, size - len(tail), bytes(tail)))
        if len(self.platter.content(file)) != size:
            self._change(Cut(file, size))
        self._sync(file, "cut_file", path)

    def read(self, path: str) -> bytes:
        self.before("read", path)
        return bytes(self.platter.content(self._file(path)))

    def read_part(self, path: str, position: int, count: int) -> bytes:
        return self.read(path)[position : position + count]

    def length(self, path: str) -> int:
        return len(self.platter.content(self._file(path)))

    def is_same(self, one: str, other: str) -> bool:
        return self._file(one) == self._file(other)

    def link(self, old: str, new: str) -> None:
        self.before("link", new)
        self._change(Link(*self._split(new), self._file(old)))

    def rename(self, old: str, new: str) -> None:
        self.before("rename", new)
        directory, name = self._split(new)
        from_directory, old_name = self._split(old)
        file, replaced = self._file(old), self.platter.names[directory].get(name)
        if directory != from_directory:  # a power loss may leave one of the names, both, or none
            assert replaced is None
            self._change(Link(directory, name, file))
            self._change(Unlink(from_directory, old_name, file))
            return
        if file == replaced:
            return  # two names of one file: both stay, says POSIX
        self._change(Rename(directory, old_name, name, file, replaced is not None))
        self.paths.update({descriptor: new for descriptor, path in self.paths.items() if path == old})

    def remove(self, path: str) -> None:
        self.before("remove", path)
        self._change(Unlink(*self._split(path), self._file(path)))

    def names(self, directory: str) -> list[str]:
        self.before("names", directory)
        return sorted(self.platter.names[self._inside(directory)])

    def make_directory(self, path: str) -> None:
        if path == self._root or self.has_directory(path):
            return
        above = os.path.dirname(path)
        self.make_directory(above)
        if above != self._root:
            self.sync_directory(os.path.dirname(above))
        self.add_directory(path)
        self.sync_directory(above)

    def has_directory(self, path: str) -> bool:
        """Whether there is a directory."""
        return self._inside(path) in self.platter.names

    def add_directory(self, path: str) -> None:
        """Make a directory, and sync nothing."""
        directory, name = self._split(path)
        self._change(Link(directory, name, DIRECTORY))

    def sync_directory(self, path: str) -> None:
        self.before("sync_directory", path)
        if self.forgotten is None or not self.forgotten("sync_directory", path):
            self._change(SyncDirectory(self._inside(path)))

    # --- how ------------------------------------------------------------------------------------------------------

    def _open(self, file: int, path: str) -> int:
        descriptor = self._next_descriptor
        self._next_descriptor += 1
        self._files[descriptor] = (file, 0)
        self.paths[descriptor] = path
        return descriptor

    def _inside(self, path: str) -> str:
        return _relative(self._root, path)

    def _split(self, path: str) -> tuple[str, str]:
        return _split(self._root, path)

    def _file(self, path: str) -> int:
        directory, name = self._split(path)
        try:
            return self.platter.names[directory][name]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None


@lru_cache(1024)
def _relative(root: str, path: str) -> str:
    assert path == root or path.startswith(root + "/"), path
    return path[len(root) + 1 :]


@lru_cache(1024)
def _split(root: str, path: str) -> tuple[str, str]:
    directory, _, name = _relative(root, path).rpartition("/")
    return directory, name


@define
class MemoryEngine(Engine):
    """
    An `Engine` on a `MemoryDisk`.

    :ivar path: a real directory that stays empty; see `new_place`.
    """

    def open(self) -> Recovery:
        """See `Engine.open`."""
        timeline = Timeline(lambda: self.clock.seconds() + self.wall, self.clock.seconds)
        self.storage = Storage(str(self.path), self.disk, self.journal, self.pages, self.sync, reserve=self.reserve)
        self.store = Store(self.clock, timeline, self.storage, self.limits)
        self.recovery = self.store.open()
        self.store.start()
        return self.recovery


@contextmanager
def new_place() -> Iterator[Path]:
    """A directory for a `MemoryEngine`, to lock: `data/store` below the root of the disk."""
    root = new_directory()
    place = root / "data" / "store"
    (place / "pages").mkdir(parents=True)
    try:
        yield place
    finally:
        shutil.rmtree(root, ignore_errors=True)


def root_of(place: Path) -> str:
    """The root of the disk that a place is on."""
    return str(place.parents[1])
