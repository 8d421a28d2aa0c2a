"""What changed since the last checkpoint, in key order: one table for each keyspace."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from msgspec import Struct
from sortedcontainers import SortedDict, SortedList

from kvtwist.model import Record


class Tombstone(Struct, frozen=True, gc=False):
    """In place of a record that was removed, so that an older one in a page does not show."""

    revision: int


class Trace(Record, frozen=True, array_like=True, gc=False):
    """
    In place of a record that was looked for by a transaction that has no use for its value, which may be large.

    :ivar size: how many bytes the value has.
    """

    size: int = 0


Entry = Record | Tombstone
_LARGE = 256
"""A value of more bytes is not kept for those that have no use for it."""


def traced(entry: Entry | None) -> Entry | None:
    """An entry without its value, if that is large."""
    if type(entry) is not Record or len(entry.value) <= _LARGE:
        return entry
    return Trace(b"", entry.media_type, entry.revision, entry.modified_ms, entry.expires_ms, len(entry.value))


def alive(entry: Entry | None, now_ms: Callable[[], int]) -> Record | None:
    """The record, unless it was removed or has expired. `now_ms` is called only for a record that expires."""
    if not isinstance(entry, Record):
        return None
    return entry if entry.expires_ms is None or entry.expires_ms > now_ms() else None


def value_size(record: Record) -> int:
    """How many bytes the value of a record has, left out or not."""
    return record.size if type(record) is Trace else len(record.value)


ENTRY_COST = 400
"""Memory that an entry takes beside its key and value: objects, dictionary and order; measured, rounded up."""
_replace: Callable[[Any, bytes, Entry], None] = dict.__setitem__
"""For a key that is in order already: a sorted dictionary would look once more whether it is."""


class Memtable:
    """
    Newest entry by key.

    :ivar records: by how many records the keyspace has grown (or shrunk) through this table.
    :ivar weight: by how many bytes of keys and values it has.
    :ivar cost: about how many bytes of memory it takes.
    """

    def __init__(self) -> None:
        self._entries: SortedDict[bytes, Entry] = SortedDict()
        self._expiries: SortedList[tuple[int, bytes]] = SortedList()
        self.records = 0
        self.weight = 0
        self.cost = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> Entry | None:
        """The entry of a key, if this table has one."""
        return self._entries.get(key)

    def set(self, key: bytes, entry: Entry | None) -> Entry | None:
        """Replace the entry of a key (None: have none for it); returns the one before."""
        entries = self._entries
        before: Entry | None = entries.get(key)
        if type(before) is Record:
            self.cost -= len(before.value)
            if before.expires_ms is not None:
                self._expiries.remove((before.expires_ms, key))
        if entry is None:
            if before is not None:
                self.cost -= ENTRY_COST + len(key)
                del entries[key]
            return before
        if before is None:
            self.cost += ENTRY_COST + len(key)
            entries[key] = entry
        else:
            _replace(entries, key, entry)
        if type(entry) is Record:
            self.cost += len(entry.value)
            if entry.expires_ms is not None:
                self._expiries.add((entry.expires_ms, key))
        return before

    def range(self, start: bytes, stop: bytes | None, reverse: bool = False) -> Iterator[tuple[bytes, Entry]]:
        """(key, entry) with start <= key < stop, in order. The table must not change meanwhile."""
        entries = self._entries
        for key in entries.irange(start, stop, inclusive=(True, False), reverse=reverse):
            yield key, entries[key]

    def expired(self, now_ms: int, limit: int) -> list[bytes]:
        """Keys of records that have expired, the earliest first."""
        keys = []
        for expires_ms, key in self._expiries[:limit]:
            if expires_ms > now_ms:
                break
            keys.append(key)
        return keys
