"""
Where pages live: on disk one DirDBM entry to a page, in memory a cache.

A page is never overwritten. What is new is written under new numbers; old pages go once a manifest names the new ones.

What `twisted.persisted.dirdbm` leaves open is closed here: it does not sync, and it calls every I/O error a missing
key. It is not thread-safe: one thread writes and removes; any may read, which touches nothing but the file.
"""

from __future__ import annotations

import base64
import errno
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import AnyStr, Protocol

from twisted.persisted.dirdbm import DirDBM
from twisted.python.filepath import FilePath

from kvtwist.engine.disk import Disk, is_passing
from kvtwist.engine.page import HEAD, NONSENSE, Page, number_of
from kvtwist.engine.sorted_run import PageRef
from kvtwist.model import StoreDamaged, StoreError, StoreUnavailable


class _SyncedDirDBM(DirDBM):
    """A DirDBM on a `Disk`. An entry is synced when `__setitem__` returns; who writes many syncs the directory."""

    def __init__(self, name: str, disk: Disk) -> None:
        """
        Makes the directory where there is none, and removes what a crash has left of an entry.

        The constructor above would remove every file whose name ends with `.new`, whoever has put it there.
        """
        self._disk = disk
        self.dname = os.path.abspath(os.fsencode(name))
        self._dnamePath = FilePath(self.dname)
        disk.make_directory(name)
        for entry in disk.names(name):
            if is_unfinished(entry):
                with suppress(IsADirectoryError):
                    disk.remove(os.path.join(name, entry))

    def __setitem__(self, key: bytes, value: bytes) -> None:
        path = self.path_of(key)
        self._disk.save(path + ".new", value)
        try:
            self._disk.rename(path + ".new", path)
        except OSError:
            self._disk.remove(path + ".new")
            raise

    def __delitem__(self, key: bytes) -> None:
        self._disk.remove(self.path_of(key))

    def path_of(self, key: bytes) -> str:
        """The file of an entry."""
        return os.path.join(os.fsdecode(self.dname), os.fsdecode(self._encode(key)))

    def _readFile(self, path: FilePath[AnyStr]) -> bytes:
        name = os.fsdecode(path.path)
        try:
            return self._disk.read(name)
        except OSError as error:  # anything but a missing key, which a manifest's page never is
            raise _unreadable(error) from error


def _unreadable(error: OSError) -> StoreError:
    reason = f"cannot be read ({error.strerror})"
    return StoreUnavailable(f"a page {reason}") if is_passing(error) else StoreDamaged(reason)


def page_file(number: int) -> str:
    """The name that a DirDBM gives to the file of a page."""
    return base64.b64encode(b"%d" % number).decode("ascii") + "_"


def page_number(name: str) -> int | None:
    """The number of the page in a file of that name, None if it is the file of none."""
    try:
        number = int(base64.b64decode(name.rstrip("_").encode()))
    except ValueError:
        return None
    return number if number >= 0 and page_file(number) == name else None


def is_unfinished(name: str) -> bool:
    """Whether a file of that name is a page that has not got its name yet."""
    return name.endswith(".new") and page_number(name.removesuffix(".new")) is not None


_DAMAGE = {errno.EIO, errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EBADMSG}
_DAMAGE.add(getattr(errno, "EUCLEAN", errno.EIO))  # Linux alone has it


def passing_error(error: BaseException | None) -> OSError | None:
    """
    The error of the disk that caused another one, if it says nothing of the file that was to be read: this process may
    not read it, or has no memory or no descriptor for it.
    """
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__
    return None if error is None or error.errno in _DAMAGE else error


class PageReader:
    """
    All pages of a store, by number, for whoever only reads them.

    Every call blocks, and may raise `OSError`.
    """

    def __init__(self, disk: Disk, path: str) -> None:
        self.path = os.path.abspath(path)
        self._disk = disk

    def content(self, number: int) -> bytes:
        """
        The bytes of a page, whatever they are.

        :raises StoreDamaged: when they cannot be read.
        :raises StoreUnavailable: when no file can be opened just now.
        """
        try:
            return self._disk.read(self.file_of(number))
        except OSError as error:
            raise _unreadable(error) from error

    def read(self, ref: PageRef, file: int | None = None) -> Page:
        """
        A page that a manifest names.

        :param file: the number of the page in whose file it is, if not in its own.
        :raises StoreDamaged: when it is not there, or not the one that the manifest means.
        """
        return self._checked(ref.number if file is None else file, ref.fault)

    def read_loose(self, number: int) -> Page:
        """
        The page in the file of a number, of which no manifest says anything.

        :raises StoreDamaged: when it is not a whole page, or says itself that it is another one.
        """
        return self._checked(number, lambda page: _misnamed(page, number))

    def _checked(self, number: int, fault: Callable[[Page], str | None]) -> Page:
        try:
            page = Page(self.content(number))
            wrong = fault(page)
        except (StoreDamaged, *NONSENSE) as error:
            raise StoreDamaged(f"{self.file_of(number)}: page {number}: {error}") from error
        if wrong is not None:
            raise StoreDamaged(f"{self.file_of(number)}: page {number}: {wrong}")
        return page

    def strays(self, numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
        """(its own number, that of the file) of each page that seems to be in the file of another."""
        for file in numbers:
            with suppress(OSError):
                number = number_of(self._disk.read_part(self.file_of(file), 0, HEAD))
                if number not in (None, file):
                    yield number, file

    def numbers(self) -> set[int]:
        """The pages that are there. What else is there is somebody else's."""
        numbers = map(page_number, self._disk.names(self.path))
        return {number for number in numbers if number is not None}

    def file_of(self, number: int) -> str:
        """The path of a page's file."""
        return os.path.join(self.path, page_file(number))


def _misnamed(page: Page, number: int) -> str | None:
    return None if page.number in (None, number) else f"it is page {page.number}"


class PageDirectory(PageReader):
    """All pages of a store, to read and to write. Not thread-safe."""

    def __init__(self, disk: Disk, path: str) -> None:
        super().__init__(disk, path)
        self._entries = _SyncedDirDBM(path, disk)

    def write(self, number: int, content: bytes) -> None:
        """Store an encoded page, synced, under a number that none had before."""
        self._entries[b"%d" % number] = content

    def content(self, number: int) -> bytes:
        """See `PageReader.content`."""
        return self._entries[b"%d" % number]

    def remove(self, numbers: Iterable[int]) -> None:
        """:raises StoreError: when one cannot be removed."""
        for number in numbers:
            try:
                with suppress(IsADirectoryError):  # not ours: a page is a file
                    del self._entries[b"%d" % number]
            except OSError as error:
                raise StoreError(f"{self.file_of(number)}: cannot be removed ({error.strerror})") from error

    def sync(self) -> None:
        """Return once the names of all pages are on the disk."""
        self._disk.sync_directory(self.path)


class Borrower(Protocol):
    """Somebody who uses memory that the cache of pages leaves."""

    def give_back(self) -> None:
        """Give back what is more than that."""


class PageCache:
    """
    Pages in memory, the least recently used given up first.

    :param limit: bytes that pages may take; one page is held even if it is larger.
    :ivar size: bytes that they take, with the large records that were asked for.
    :ivar borrowers: who uses what it does not, until it does.
    :ivar lent: how many bytes they use.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._pages: OrderedDict[int, Page] = OrderedDict()
        self.size = 0
        self.borrowers: list[Borrower] = []
        self.borrowed = 0

    @property
    def lendable(self) -> int:
        """
        How many bytes others may use. Python does not give back to the system all that many small objects have taken:
        so pages that come later have half of the limit for sure.
        """
        return min(self.limit - self.size, self.limit // 2)

    def get(self, number: int) -> Page | None:
        """The page, if it is here."""
        page = self._pages.get(number)
        if page is not None:
            self._pages.move_to_end(number)
        return page

    def put(self, number: int, page: Page) -> None:
        """Hold a page."""
        self.discard(number)
        self._pages[number] = page
        page.on_share = self._grow
        self._grow(page.size + page.shared)

    def resize(self, limit: int) -> None:
        """Hold so much at most from now on."""
        self.limit = limit
        self._grow(0)

    def discard(self, number: int) -> None:
        """Hold it no longer."""
        page = self._pages.pop(number, None)
        if page is not None:
            self._let_go(page)

    def _grow(self, count: int) -> None:
        self.size += count
        while self.size > self.limit and len(self._pages) > 1:
            _, given_up = self._pages.popitem(last=False)
            self._let_go(given_up)
        for guest in self.borrowers:
            guest.give_back()

    def _let_go(self, page: Page) -> None:
        page.on_share = None  # who still reads it may make it grow, and that is no matter of ours any more
        self.size -= page.size + page.shared
