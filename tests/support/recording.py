"""
The real disk, with every change written down: what a power loss at any moment would have left can be made of that.

Contents of files are a `Platter`'s. Names are kept here, by directory and not by path, since commands give other names to
directories with all that is in them, and move files from one to another. Either is one change, which a sync of the
directory of the new name stores; else it is kept or lost, as `Platter` says of names.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from kvtwist.cli.files import Files
from tests.support.powerloss import Cut, Link, Pick, Platter, Sync, SyncDirectory, Write

Forgotten = Callable[[str, str], bool]
"""Whether a sync is left out, by the name of the call and the path."""
Place = tuple[int, str]
"""A directory, by its number, and a name in it."""
_ROOT = -1


@frozen
class Renamed:
    """
    Something has got a name, lost one, or both at once.

    :ivar node: what: a file has a positive number, a directory a negative one.
    """

    node: int
    new: Place | None = None
    old: Place | None = None

    def is_stored_by(self, directory: int) -> bool:
        """Whether a sync of that directory stores it."""
        place = self.new or self.old
        return place is not None and place[0] == directory

    def replay(self, names: dict[Place, int]) -> None:
        """Let it happen."""
        if self.old is not None and names.get(self.old) == self.node:
            del names[self.old]
        if self.new is not None:
            names[self.new] = self.node


@frozen
class SyncedNames:
    """A directory was synced."""

    directory: int


Change = Write | Cut | Sync | Renamed | SyncedNames


class Volume:
    """A file system: what is on it, and what a power loss leaves of it."""

    def __init__(self) -> None:
        self.names: dict[Place, int] = {}
        """What processes see."""
        self._contents = Platter()
        self._stored: dict[Place, int] = {}
        self._pending: list[Renamed] = []

    def copy(self) -> Volume:
        """One that goes its own way from here."""
        other = Volume()
        other.names, other._stored, other._pending = dict(self.names), dict(self._stored), list(self._pending)
        other._contents = self._contents.copy()
        return other

    def size(self, file: int) -> int:
        """How long a file is."""
        return len(self._contents.content(file))

    def store(self) -> None:
        """Let all of it be on the disk itself."""
        self._stored = dict(self.names)
        self._pending.clear()
        for file in {node for node in self.names.values() if node > 0}:
            self._contents.apply(Sync(file))

    def apply(self, change: Change) -> None:
        """Let something happen."""
        if isinstance(change, Renamed):
            if change.node > 0 and change.new is not None:  # the platter has each file under its number, for good
                self._contents.apply(Link("", str(change.node), change.node))
                self._contents.apply(SyncDirectory(""))
            change.replay(self.names)
            self._pending.append(change)
        elif isinstance(change, SyncedNames):
            for pending in self._pending:
                if pending.is_stored_by(change.directory):
                    pending.replay(self._stored)
            self._pending = [pending for pending in self._pending if not pending.is_stored_by(change.directory)]
        else:
            self._contents.apply(change)

    def crash(self, pick: Pick, ordered: bool) -> dict[str, bytes | None]:
        """
        What a power loss leaves: the content of every file by its path, None for a directory.

        :param ordered: whether changes of names are kept in order.
        """
        names = dict(self._stored)
        kept = pick(len(self._pending) + 1) if ordered else 0
        for number, change in enumerate(self._pending):
            if number < kept if ordered else pick(2):
                change.replay(names)
        contents = self._contents.crash(pick)
        left: dict[str, bytes | None] = {}

        def walk(directory: int, path: str) -> None:
            for (above, name), node in names.items():
                if above == directory:
                    left[path + name] = None if node < 0 else bytes(contents.content(node))
                    if node < 0:
                        walk(node, f"{path}{name}/")

        walk(_ROOT, "")
        return left


def write_down(left: dict[str, bytes | None], root: Path) -> None:
    """Make a directory of what a power loss has left."""
    root.mkdir()
    for path, content in sorted(left.items()):
        if content is None:
            (root / path).mkdir()
        else:
            (root / path).write_bytes(content)


def digest_of(left: dict[str, bytes | None]) -> bytes:
    """The same for all that look the same."""
    digest = hashlib.blake2b(digest_size=8)
    for path, content in sorted(left.items()):
        digest.update(repr((path, content is None, len(content or b""))).encode())
        digest.update(content or b"")
    return digest.digest()


class RecordingDisk(Files):
    """
    :param root: everything below it is watched.
    :param forgotten: syncs that it claims to have done.
    :ivar begin: what was there.
    :ivar log: every change since.
    """

    def __init__(self, root: Path, forgotten: Forgotten = lambda call, path: False) -> None:
        super().__init__()
        self._root = str(root)
        self._forgotten = forgotten
        self._live = Volume()
        self._next = 1
        self._nodes: dict[int, int] = {}
        """What each descriptor is of."""
        self.log: list[Change] = []
        self._adopt(self._root, _ROOT)
        self._live.store()
        self.begin = self._live.copy()
        self.log.clear()

    def _record(self, change: Change) -> None:
        self._live.apply(change)
        self.log.append(change)

    def _new(self) -> int:
        self._next += 1
        return self._next

    def _adopt(self, path: str, directory: int) -> None:
        """Know of files and directories that somebody else has made."""
        for name in sorted(os.listdir(path)):
            below = os.path.join(path, name)
            if os.path.isdir(below):
                if (directory, name) not in self._live.names:
                    self._record(Renamed(-self._new(), (directory, name)))
                self._adopt(below, self._live.names[directory, name])
            elif (directory, name) not in self._live.names and not self.log_begun:
                file = self._new()
                self._record(Renamed(file, (directory, name)))
                self._record(Write(file, 0, Path(below).read_bytes()))

    @property
    def log_begun(self) -> bool:
        """Whether what is there at the beginning is known: what comes later by another way is a lock, and left out."""
        return hasattr(self, "begin")

    def _is_inside(self, path: str) -> bool:
        return path == self._root or path.startswith(self._root + "/")

    def _directory(self, path: str) -> int:
        node = _ROOT
        so_far = self._root
        for name in os.path.relpath(path, self._root).split("/"):
            if name != ".":
                if (node, name) not in self._live.names:
                    self._adopt(so_far, node)
                node = self._live.names[node, name]
                so_far = os.path.join(so_far, name)
        return node

    def _place(self, path: str) -> Place:
        directory, name = os.path.split(path)
        return self._directory(directory), name

    # --- what `Files` says ------------------------------------------------------------------------------------------

    def claim(self, path: str) -> int:
        descriptor = super().claim(path)
        self._has_opened(descriptor, path)
        return descriptor

    def create(self, path: str) -> int:
        descriptor = super().create(path)
        if self._place(path) in self._live.names:
            self._record(Cut(self._live.names[self._place(path)], 0))
        self._has_opened(descriptor, path)
        return descriptor

    def reopen(self, path: str) -> int:
        descriptor = super().reopen(path)
        self._has_opened(descriptor, path)
        return descriptor

    def _has_opened(self, descriptor: int, path: str) -> None:
        place = self._place(path)
        if place not in self._live.names:
            self._record(Renamed(self._new(), place))
        self._nodes[descriptor] = self._live.names[place]

    def extend(self, descriptor: int, size: int) -> None:
        file = self._nodes[descriptor]
        self._record(Write(file, self._live.size(file), bytes(size)))
        super().extend(descriptor, size)

    def write(self, descriptor: int, data: bytes) -> None:
        if descriptor in self._nodes:
            self._record(Write(self._nodes[descriptor], os.lseek(descriptor, 0, os.SEEK_CUR), bytes(data)))
        super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        if not self._forgotten("sync", os.readlink(f"/proc/self/fd/{descriptor}")):
            self._record(Sync(self._nodes[descriptor]))

    def cut(self, descriptor: int, size: int) -> None:
        self._record(Cut(self._nodes[descriptor], size))
        super().cut(descriptor, size)

    def close(self, descriptor: int) -> None:
        super().close(descriptor)
        del self._nodes[descriptor]

    def cut_file(self, path: str, size: int, tail: bytes = b"") -> None:
        file = self._live.names[self._place(path)]
        if tail:
            self._record(Write(file, size - len(tail), bytes(tail)))
        self._record(Cut(file, size))
        super().cut_file(path, size, tail)
        if not self._forgotten("cut_file", path):
            self._record(Sync(file))

    def link(self, old: str, new: str) -> None:
        super().link(old, new)
        self._record(Renamed(self._live.names[self._place(old)], self._place(new)))

    def rename(self, old: str, new: str) -> None:
        before, after = self._place(old), self._place(new)
        super().rename(old, new)
        self._record(Renamed(self._live.names[before], after, before))

    def remove(self, path: str) -> None:
        place = self._place(path)
        super().remove(path)
        self._record(Renamed(self._live.names[place], None, place))

    def remove_directory(self, path: str) -> None:
        place = self._place(path)
        super().remove_directory(path)
        self._record(Renamed(self._live.names[place], None, place))

    def sync_directory(self, path: str) -> None:
        super().sync_directory(path)
        if self._is_inside(path):
            self._adopt(path, self._directory(path))  # of directories that were made since
            if not self._forgotten("sync_directory", path):
                self._record(SyncedNames(self._directory(path)))
