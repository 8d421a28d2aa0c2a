"""
What a disk may hold after the power fails: every state that the calls made so far allow, not just the likely ones.

A `Platter` is told every change of a file system, in order. It knows what a process sees, and what of it is *stored*:
what a sync has followed. From the rest it makes up what a power loss leaves (`Platter.crash`):

- Where no sync of a file has followed a write, each of its sectors of 512 bytes holds what was stored there, or what it
  held after any of the writes since, whatever the others hold. So writes are lost, kept, torn, and overtaken by later
  ones. What was never stored reads as zeros where a later sector is kept.
- The size of a file is any that it had since its last sync, whatever became of the data: a file may have grown over
  zeros (or, with `stale`, over what another file had stored in these sectors before), and a cut may be undone.
- A sync of a file stores its data and its size, as fdatasync does; not its name.
- After a sync that failed, what it was about is kept or lost, and *no later sync changes that*: the kernel has marked it
  as clean ("fsyncgate").
- A name that was made, replaced or removed is stored by a sync of its directory, and of no other one. Until then it is
  kept or lost: on an `ordered` file system, which has a journal for its metadata, the first so many changes of all
  directories are kept; on a weaker one, any of them. A renaming is one step on the first kind. On the second one the file
  may be left with both names, or, if no other file was replaced, with none.
- A directory whose own name is lost is lost with all that is in it.

What no file system does is left out: a sector is never torn; what was stored stays as it is; a name that replaces another
is never lost together with it; a piece of data does not turn up in the wrong place.

The model is that of ALICE (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014), whose application-level
"abstract persistence model" it takes with everything allowed; states between syncs are explored as CrashMonkey does
(Mohan et al., OSDI 2018). On failed syncs see Rebello et al., "Can Applications Recover from fsync Failures?", ATC 2020.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

from attrs import Factory, define, field, frozen

SECTOR: Final = 512
DIRECTORY: Final = 0
"""Stands for a directory where a file has its number."""

Pick = Callable[[int], int]
"""Makes one choice: a number below the one it is given. 0 is to lose something, the highest one to keep it as it is."""
Names = dict[str, dict[str, int]]
"""By directory: what is in it."""


# --- changes ----------------------------------------------------------------------------------------------------------


@frozen
class Write:
    """Data was written into a file."""

    file: int
    offset: int
    data: bytes = field(repr=lambda data: f"{len(data)} bytes")

    def replay(self, content: bytearray) -> None:
        _put(content, self.offset, self.data)

    def sectors(self, size: int) -> range:
        """Where the sectors begin that it changes, in a file of some size."""
        return range(self.offset // SECTOR * SECTOR, self.offset + len(self.data), SECTOR)

    def torn(self, share: float) -> Write | None:
        """The first so many sectors of it, as a process writes that is killed meanwhile, or finds no room."""
        end = int(self.offset + len(self.data) * share) // SECTOR * SECTOR
        return Write(self.file, self.offset, self.data[: end - self.offset]) if end > self.offset else None


@frozen
class Cut:
    """The size of a file was set."""

    file: int
    size: int

    def replay(self, content: bytearray) -> None:
        _resize(content, self.size)

    def sectors(self, size: int) -> range:
        """Where the sectors begin that it changes, in a file of some size."""
        return range(self.size // SECTOR * SECTOR, size, SECTOR)


@frozen
class Sync:
    """A file was synced."""

    file: int
    failed: bool = False


@frozen
class Link:
    """A file, or a directory, has got its first name."""

    directory: str
    name: str
    file: int

    choices = 2

    def replay(self, names: Names, choice: int) -> None:
        if choice:
            _set(names, self.directory, self.name, self.file)


@frozen
class Unlink:
    """A name was removed."""

    directory: str
    name: str
    file: int

    choices = 2

    def replay(self, names: Names, choice: int) -> None:
        if choice:
            _unset(names, self.directory, self.name, self.file)


@frozen
class Rename:
    """A file has got another name in the same directory."""

    directory: str
    old: str
    new: str
    file: int
    replaces: bool

    @property
    def choices(self) -> int:
        """Lost, both names, done; and between them no name, unless that would lose another file, too."""
        return 3 if self.replaces else 4

    def replay(self, names: Names, choice: int) -> None:
        if choice in (1, self.choices - 1):
            _set(names, self.directory, self.new, self.file)
        if choice >= 2:
            _unset(names, self.directory, self.old, self.file)


@frozen
class SyncDirectory:
    """The names in a directory were synced."""

    directory: str


NameChange = Link | Unlink | Rename
Change = Write | Cut | Sync | NameChange | SyncDirectory


def _set(names: Names, directory: str, name: str, file: int) -> None:
    names.setdefault(directory, {})[name] = file


def _unset(names: Names, directory: str, name: str, file: int) -> None:
    entries = names.get(directory, {})
    if entries.get(name) == file:
        del entries[name]


# --- the disk ---------------------------------------------------------------------------------------------------------


@define
class _Unsynced:
    """
    Changes of a file's content since it was synced.

    :ivar stored: the content before them.
    :ivar content: the content after them.
    :ivar settled: of how many at the beginning no sync changes any more what becomes of them, because one has failed.
    :ivar firm: which of these are stored all the same, by a sync that came between those that failed, or after them.
    """

    stored: bytes
    content: bytearray
    changes: list[Write | Cut] = Factory(list)
    settled: int = 0
    firm: set[int] = Factory(set)
    _versions: _Versions | None = None

    def copy(self) -> _Unsynced:
        return _Unsynced(self.stored, bytearray(self.content), list(self.changes), self.settled, set(self.firm))

    def add(self, change: Write | Cut) -> None:
        change.replay(self.content)
        self.changes.append(change)
        self._versions = None

    def sync(self, failed: bool) -> None:
        """A sync that has failed, or comes after one that has."""
        if not failed:
            self.firm.update(range(self.settled, len(self.changes)))
        self.settled = len(self.changes)
        self._versions = None

    def versions(self) -> _Versions:
        """What a power loss chooses from. It is kept until the next change, since many power losses are tried."""
        if self._versions is None:
            self._versions = self._replayed()
        return self._versions

    def _replayed(self) -> _Versions:
        cached = bytearray(self.stored)
        sizes = [len(cached)]
        sectors: dict[int, list[bytes]] = {}
        firm: dict[int, int] = {}
        for index, change in enumerate(self.changes):
            for sector in change.sectors(len(cached)):
                if sector not in sectors:
                    sectors[sector] = [bytes(cached[sector : sector + SECTOR])]
            change.replay(cached)
            sizes.append(len(cached))
            for sector in change.sectors(sizes[-2]):
                sectors[sector].append(bytes(cached[sector : sector + SECTOR]))
                if index in self.firm:
                    firm[sector] = len(sectors[sector]) - 1
        return _Versions(sizes[max(self.firm, default=-1) + 1 :], sectors, firm)


@frozen
class _Versions:
    """
    :ivar sizes: those that the file may have.
    :ivar sectors: by the place of a sector, what it has held. The first version is empty where the file ended before it.
    :ivar firm: by the place of a sector, the number of its first version that can be left.
    """

    sizes: list[int]
    sectors: dict[int, list[bytes]]
    firm: dict[int, int]


class Platter:
    """
    A file system, as processes see it and as a power loss may leave it.

    :ivar names: what processes see. The empty name is a directory that has always been there.
    """

    def __init__(self) -> None:
        self.names: Names = {"": {}}
        self._stored: dict[int, bytes] = {}
        self._unsynced: dict[int, _Unsynced] = {}
        self._stored_names: Names = {"": {}}
        self._unsynced_names: list[NameChange] = []
        self._next = DIRECTORY + 1
        self._apply: dict[type[Any], Callable[[Any], None]] = {
            Write: self._change_content,
            Cut: self._change_content,
            Sync: self._sync,
            Link: self._change_names,
            Unlink: self._change_names,
            Rename: self._change_names,
            SyncDirectory: self._sync_directory,
        }

    def copy(self) -> Platter:
        """One that goes its own way from here."""
        other = Platter()
        other.names = {name: dict(entries) for name, entries in self.names.items()}
        other._stored = dict(self._stored)
        other._unsynced = {file: unsynced.copy() for file, unsynced in self._unsynced.items()}
        other._stored_names = {name: dict(entries) for name, entries in self._stored_names.items()}
        other._unsynced_names = list(self._unsynced_names)
        other._next = self._next
        return other

    def new_file(self) -> int:
        """A number that no file has had."""
        self._next += 1
        return self._next - 1

    def content(self, file: int) -> bytes | bytearray:
        """What processes read in a file."""
        unsynced = self._unsynced.get(file)
        return self._stored.get(file, b"") if unsynced is None else unsynced.content

    def digest(self) -> bytes:
        """The same for all that look the same to a process."""
        digest = hashlib.blake2b(digest_size=8)
        first_names: dict[int, bytes] = {}
        for directory, entries in sorted(self.names.items()):
            for name, file in sorted(entries.items()):
                path = f"{directory}/{name}".encode()
                content = self.content(file) if file not in first_names else first_names[file]
                if file != DIRECTORY:
                    first_names.setdefault(file, path)
                digest.update(b"%d %b %d " % (len(path), path, len(content)))
                digest.update(content)
        return digest.digest()

    @property
    def unsynced(self) -> bool:
        """Whether there is anything that a power loss may change."""
        return bool(self._unsynced or self._unsynced_names)

    # --- what happens to it ---------------------------------------------------------------------------------------

    def apply(self, change: Change) -> None:
        """Let something happen."""
        self._next = max(self._next, getattr(change, "file", 0) + 1)
        self._apply[type(change)](change)

    def _change_content(self, change: Write | Cut) -> None:
        unsynced = self._unsynced.get(change.file)
        if unsynced is None:
            stored = self._stored.get(change.file, b"")
            unsynced = self._unsynced[change.file] = _Unsynced(stored, bytearray(stored))
        unsynced.add(change)

    def _sync(self, sync: Sync) -> None:
        unsynced = self._unsynced.get(sync.file)
        if unsynced is None:
            return
        if sync.failed or unsynced.settled:
            unsynced.sync(sync.failed)
        else:
            self._stored[sync.file] = bytes(unsynced.content)
            del self._unsynced[sync.file]

    def _change_names(self, change: NameChange) -> None:
        change.replay(self.names, change.choices - 1)
        if isinstance(change, Link) and change.file == DIRECTORY:
            self.names.setdefault(f"{change.directory}/{change.name}".lstrip("/"), {})
        self._unsynced_names.append(change)

    def _sync_directory(self, sync: SyncDirectory) -> None:
        self._stored_names[sync.directory] = dict(self.names[sync.directory])
        self._unsynced_names = [c for c in self._unsynced_names if c.directory != sync.directory]

    # --- what is left of it ---------------------------------------------------------------------------------------

    def crash(self, pick: Pick, ordered: bool = False, stale: bool = False) -> Platter:
        """
        What a power loss leaves; all of it is stored then.

        :param ordered: whether changes of names are kept in order.
        :param stale: whether a file may have grown over what other files have stored.
        """
        left = Platter()
        left._next = self._next
        left.names = self._names_left(pick, ordered)
        left._stored_names = {name: dict(entries) for name, entries in left.names.items()}
        for entries in left.names.values():
            for file in entries.values():
                if file != DIRECTORY and file not in left._stored:
                    left._stored[file] = self._content_left(file, pick, stale)
        return left

    def _names_left(self, pick: Pick, ordered: bool) -> Names:
        names = {name: dict(entries) for name, entries in self._stored_names.items()}
        changes = self._unsynced_names
        if ordered:
            for change in changes[: pick(len(changes) + 1)]:
                change.replay(names, change.choices - 1)
        else:
            for change in changes:
                change.replay(names, pick(change.choices))
        left: Names = {}
        _walk("", names, left)
        return left

    def _content_left(self, file: int, pick: Pick, stale: bool) -> bytes:
        unsynced = self._unsynced.get(file)
        if unsynced is None:
            return self._stored.get(file, b"")
        filler = self._filler(file, pick) if stale else b""
        versions = unsynced.versions()
        size = versions.sizes[pick(len(versions.sizes))]
        content = bytearray(unsynced.stored)
        if size > len(content):
            content.extend(filler[len(content) : size])
        content.extend(bytes(max(0, max(versions.sectors, default=0) + SECTOR - len(content))))
        for sector, seen in versions.sectors.items():
            worst = versions.firm.get(sector, 0)
            chosen = worst + pick(len(seen) - worst)
            held = seen[chosen] if chosen or seen[0] else filler[sector : sector + SECTOR]
            content[sector : sector + SECTOR] = held.ljust(SECTOR, b"\0")
        _resize(content, size)
        return bytes(content)

    def _filler(self, file: int, pick: Pick) -> bytes:
        others = [content for other, content in self._stored.items() if other != file and content]
        choice = pick(len(others) + 1)
        return others[choice - 1] if choice else b""


def _walk(directory: str, names: Names, left: Names) -> None:
    """Take over what can be reached."""
    left[directory] = entries = names.get(directory, {})
    for name, file in entries.items():
        if file == DIRECTORY:
            _walk(f"{directory}/{name}".lstrip("/"), names, left)


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        _resize(content, offset)
    content[offset : offset + len(data)] = data


def _resize(content: bytearray, size: int) -> None:
    if size > len(content):
        content.extend(bytes(size - len(content)))
    else:
        del content[size:]
