"""
Pages: the records of a checkpoint, in key order, about 64 KiB to a page, one DirDBM entry to a page.

A page is never overwritten. A checkpoint writes the pages that changed under new numbers; the old ones go once a
manifest names the new ones. On disk a page is eight bytes that say so, a CRC-32 and a MessagePack array of keyspace,
keys and records.

What `twisted.persisted.dirdbm` leaves open is closed here: it does not sync, and it calls every I/O error a missing
key. It is not thread-safe, so one thread owns the directory.
"""

from __future__ import annotations

import os
import struct
import zlib
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import AnyStr

import msgspec
from twisted.persisted.dirdbm import DirDBM
from twisted.python.filepath import FilePath

from kvtwist.engine.disk import Disk
from kvtwist.model import Record, StoreDamaged, StoreError

PAGE_SIZE = 64 * 1024
PAGE_HEADER = b"kvtpage1"
_CHECKSUM = struct.Struct("<I")


class PageRef(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """
    What a manifest says of a page.

    :ivar number: its name.
    :ivar first: its first key. It covers all keys from there to the next page's first.
    :ivar size: bytes of its keys and values.
    :ivar expires_ms: when the first of its records expires, None for never.
    """

    number: int
    first: bytes
    records: int
    size: int
    expires_ms: int | None


class Page(msgspec.Struct, frozen=True, array_like=True):
    """Records in key order: `records[i]` is under `keys[i]`."""

    keyspace: str
    keys: list[bytes]
    records: list[Record]

    def get(self, key: bytes) -> Record | None:
        """The record under a key, if it is here."""
        at = bisect_left(self.keys, key)
        return self.records[at] if at < len(self.keys) and self.keys[at] == key else None

    def range(self, start: bytes, stop: bytes | None, reverse: bool = False) -> Iterator[tuple[bytes, Record]]:
        """(key, record) with start <= key < stop, in order."""
        low = bisect_left(self.keys, start)
        high = len(self.keys) if stop is None else bisect_left(self.keys, stop)
        for at in range(high - 1, low - 1, -1) if reverse else range(low, high):
            yield self.keys[at], self.records[at]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Page).decode


def split(items: Iterable[tuple[bytes, Record]]) -> Iterator[tuple[list[bytes], list[Record], int]]:
    """Cut records in key order into (keys, records, size) of about a page each."""
    keys: list[bytes] = []
    records: list[Record] = []
    size = 0
    for key, record in items:
        weight = len(key) + len(record.value)
        if keys and size + weight > PAGE_SIZE:
            yield keys, records, size
            keys, records, size = [], [], 0
        keys.append(key)
        records.append(record)
        size += weight
    if keys:
        yield keys, records, size


class _SyncedDirDBM(DirDBM):
    """A DirDBM whose entries are on the disk when `__setitem__` returns; the directory is synced by who writes many."""

    def __init__(self, name: str, disk: Disk) -> None:
        self._disk = disk
        super().__init__(os.fsencode(name))

    def _writeFile(self, path: FilePath[AnyStr], data: bytes) -> None:
        self._disk.save(os.fsdecode(path.path), data)

    def _readFile(self, path: FilePath[AnyStr]) -> bytes:
        name = os.fsdecode(path.path)
        try:
            return self._disk.read(name)
        except OSError as error:  # anything but a missing key, which a manifest's page never is
            raise StoreDamaged(f"{name}: cannot be read ({error.strerror})") from error


class PageDirectory:
    """All pages of a store, by number. Not thread-safe; every call blocks, and may raise `OSError`."""

    def __init__(self, disk: Disk, path: str) -> None:
        self.path = path
        self._disk = disk
        self._entries = _SyncedDirDBM(path, disk)

    def write(self, number: int, page: Page) -> None:
        """Store a page, synced, under a number that none had before."""
        payload = _encode(page)
        self._entries[b"%d" % number] = PAGE_HEADER + _CHECKSUM.pack(zlib.crc32(payload)) + payload

    def read(self, number: int) -> Page:
        """:raises StoreDamaged: when it is not there, or not what was written."""
        content = self._entries[b"%d" % number]
        start = len(PAGE_HEADER) + _CHECKSUM.size
        payload = content[start:]
        if content[:start] != PAGE_HEADER + _CHECKSUM.pack(zlib.crc32(payload)):
            raise StoreDamaged(f"{self.file_of(number)}: page {number} is damaged")
        return _decode(payload)

    def remove(self, numbers: Iterable[int]) -> None:
        """:raises StoreError: when one cannot be removed."""
        for number in numbers:
            try:
                del self._entries[b"%d" % number]
            except KeyError:
                raise StoreError(f"{self.file_of(number)}: cannot be removed") from None

    def numbers(self) -> set[int]:
        """The pages that are there."""
        return {int(key) for key in self._entries.keys()}  # noqa: SIM118 - DirDBM is not iterable

    def sync(self) -> None:
        """Return once the names of all pages are on the disk."""
        self._disk.sync_directory(self.path)

    def file_of(self, number: int) -> str:
        """The path of a page's file."""
        return os.path.join(self.path, os.fsdecode(self._entries._encode(b"%d" % number)))


class PageCache:
    """
    Pages in memory, the least recently used given up first.

    :param limit: bytes of keys and values that it may hold; one page is held even if it is larger.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pages: OrderedDict[int, tuple[Page, int]] = OrderedDict()
        self.size = 0

    def get(self, number: int) -> Page | None:
        """The page, if it is here."""
        held = self._pages.get(number)
        if held is None:
            return None
        self._pages.move_to_end(number)
        return held[0]

    def put(self, ref: PageRef, page: Page) -> None:
        """Hold a page."""
        self.discard(ref.number)
        self._pages[ref.number] = (page, ref.size)
        self.size += ref.size
        while self.size > self._limit and len(self._pages) > 1:
            _, (_, size) = self._pages.popitem(last=False)
            self.size -= size

    def discard(self, number: int) -> None:
        """Hold it no longer."""
        held = self._pages.pop(number, None)
        if held is not None:
            self.size -= held[1]
