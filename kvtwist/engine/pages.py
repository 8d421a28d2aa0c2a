"""
Page storage: a DirDBM with one entry for each page, and a cache of pages in memory.

A page is never overwritten. New pages get new numbers; old pages are removed after a manifest names the new ones.

`twisted.persisted.dirdbm` does not sync, and reports every I/O error as a missing key; both are corrected here. It is
not thread-safe: one thread writes and removes pages. Any thread may read one, which only reads a file.
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
    """A DirDBM on a `Disk`. `__setitem__` syncs the entry, but not its name: see `PageDirectory.sync`."""

    def __init__(self, name: str, disk: Disk) -> None:
        """
        Make the directory if it is missing, and remove unfinished entries.

        The constructor of DirDBM is not called: it removes every file whose name ends with `.new`, also foreign ones.
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
        """The path of the file of an entry."""
        return os.path.join(os.fsdecode(self.dname), os.fsdecode(self._encode(key)))

    def _readFile(self, path: FilePath[AnyStr]) -> bytes:
        name = os.fsdecode(path.path)
        try:
            return self._disk.read(name)
        except OSError as error:  # a missing page of a manifest is damage, too
            raise _unreadable(error) from error


def _unreadable(error: OSError) -> StoreError:
    reason = f"cannot be read ({error.strerror})"
    return StoreUnavailable(f"a page {reason}") if is_passing(error) else StoreDamaged(reason)


def page_file(number: int) -> str:
    """The file name of a page in a DirDBM."""
    return base64.b64encode(b"%d" % number).decode("ascii") + "_"


def page_number(name: str) -> int | None:
    """The number of the page with a file name; None if it is not the name of a page."""
    try:
        number = int(base64.b64decode(name.rstrip("_").encode()))
    except ValueError:
        return None
    return number if number >= 0 and page_file(number) == name else None


def is_unfinished(name: str) -> bool:
    """Whether a file name is that of a page before its final rename."""
    return name.endswith(".new") and page_number(name.removesuffix(".new")) is not None


_DAMAGE = {errno.EIO, errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EBADMSG}
_DAMAGE.add(getattr(errno, "EUCLEAN", errno.EIO))  # Linux alone has it


def passing_error(error: BaseException | None) -> OSError | None:
    """
    The `OSError` that caused an error, if it says nothing about the file that was read: the process may not read it, or
    has no memory or no descriptor for it. Else None.
    """
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__
    return None if error is None or error.errno in _DAMAGE else error


class PageReader:
    """
    Reads the pages of a store, by number. Every call blocks, and may raise `OSError`.
    """

    def __init__(self, disk: Disk, path: str) -> None:
        self.path = os.path.abspath(path)
        self._disk = disk

    def content(self, number: int) -> bytes:
        """
        The bytes of a page, which may be damaged.

        :raises StoreDamaged: they cannot be read.
        :raises StoreUnavailable: no more files can be opened now.
        """
        try:
            return self._disk.read(self.file_of(number))
        except OSError as error:
            raise _unreadable(error) from error

    def read(self, ref: PageRef, file: int | None = None) -> Page:
        """
        A page that a manifest names.

        :param file: the page in whose file it is, if not in its own.
        :raises StoreDamaged: it is missing, or not the page that the manifest names.
        """
        return self._checked(ref.number if file is None else file, ref.fault)

    def read_loose(self, number: int) -> Page:
        """
        The page in the file of a number, without a manifest.

        :raises StoreDamaged: it is damaged, or has another number.
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
        """(number of the page, number of the file) of each page that seems to be in the file of another."""
        for file in numbers:
            with suppress(OSError):
                number = number_of(self._disk.read_part(self.file_of(file), 0, HEAD))
                if number not in (None, file):
                    yield number, file

    def numbers(self) -> set[int]:
        """The numbers of the pages in the directory. Other files are ignored."""
        numbers = map(page_number, self._disk.names(self.path))
        return {number for number in numbers if number is not None}

    def file_of(self, number: int) -> str:
        """The path of a page's file."""
        return os.path.join(self.path, page_file(number))


def _misnamed(page: Page, number: int) -> str | None:
    return None if page.number in (None, number) else f"it is page {page.number}"


class PageDirectory(PageReader):
    """Reads and writes the pages of a store. Not thread-safe."""

    def __init__(self, disk: Disk, path: str) -> None:
        super().__init__(disk, path)
        self._entries = _SyncedDirDBM(path, disk)

    def write(self, number: int, content: bytes) -> None:
        """Write and sync an encoded page, under a number that is new."""
        self._entries[b"%d" % number] = content

    def content(self, number: int) -> bytes:
        """See `PageReader.content`."""
        return self._entries[b"%d" % number]

    def remove(self, numbers: Iterable[int]) -> None:
        """Remove pages. :raises StoreError: one cannot be removed."""
        for number in numbers:
            try:
                with suppress(IsADirectoryError):  # a page is a file, so this is not ours
                    del self._entries[b"%d" % number]
            except OSError as error:
                raise StoreError(f"{self.file_of(number)}: cannot be removed ({error.strerror})") from error

    def sync(self) -> None:
        """Return when the names of all pages are on disk."""
        self._disk.sync_directory(self.path)


class Borrower(Protocol):
    """Uses memory that the page cache does not use."""

    def give_back(self) -> None:
        """Release memory until `PageCache.borrowed` is at most `PageCache.lendable`."""


class PageCache:
    """
    Pages in memory. The least recently used one is dropped first.

    :param limit: bytes that the pages may take; one page is kept even if it is larger.
    :ivar size: bytes that the pages take, with their large records that were decoded.
    :ivar borrowers: they use memory that the pages do not use yet.
    :ivar borrowed: the bytes that they use.
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
        How many bytes may be borrowed: at most half of the limit, because Python does not return to the system all the
        memory of many small objects.
        """
        return min(self.limit - self.size, self.limit // 2)

    def get(self, number: int) -> Page | None:
        """The page; None if it is not in the cache."""
        page = self._pages.get(number)
        if page is not None:
            self._pages.move_to_end(number)
        return page

    def put(self, number: int, page: Page) -> None:
        """Keep a page."""
        self.discard(number)
        self._pages[number] = page
        page.on_share = self._grow
        self._grow(page.size + page.shared)

    def resize(self, limit: int) -> None:
        """Change the limit."""
        self.limit = limit
        self._grow(0)

    def discard(self, number: int) -> None:
        """Drop a page."""
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
        page.on_share = None  # a read that still uses the page may make it grow
        self.size -= page.size + page.shared
