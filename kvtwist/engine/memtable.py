"""Memtables: the records of a keyspace that changed since the last checkpoint, in key order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from msgspec import Struct
from sortedcontainers import SortedDict, SortedList

from kvtwist.model import Record


class Tombstone(Struct, frozen=True, gc=False):
    """The entry of a removed record. It hides older records in pages."""

    revision: int


class Trace(Record, frozen=True, array_like=True, gc=False):
    """
    A record without its large value, for transactions that do not use the value.

    :ivar size: the length of the value in bytes.
    """

    size: int = 0


Entry = Record | Tombstone
_LARGE = 256
"""A longer value is left out of a `Trace`."""


def traced(entry: Entry | None) -> Entry | None:
    """An entry without its value if that is large."""
    if type(entry) is not Record or len(entry.value) <= _LARGE:
        return entry
    return Trace(b"", entry.media_type, entry.revision, entry.modified_ms, entry.expires_ms, len(entry.value))


def alive(entry: Entry | None, now_ms: Callable[[], int]) -> Record | None:
    """The record, unless it was removed or has expired. `now_ms` is called only for a record that expires."""
    if not isinstance(entry, Record):
        return None
    return entry if entry.expires_ms is None or entry.expires_ms > now_ms() else None


def value_size(record: Record) -> int:
    """The length of a record's value in bytes, also if it is left out."""
    return record.size if type(record) is Trace else len(record.value)


ENTRY_COST = 400
"""Memory of an entry besides its key and value: objects, dictionary and order; measured, rounded up."""
_replace: Callable[[Any, bytes, Entry], None] = dict.__setitem__
"""Replaces the entry of a key that is there: `SortedDict.__setitem__` would look for the key once more."""


class Memtable:
    """
    The newest entry of each changed key.

    :ivar records: the records by which the keyspace has grown through this table; may be negative.
    :ivar weight: the bytes of keys and values by which it has.
    :ivar cost: about how many bytes of memory the table takes.
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
        """The entry of a key; None if this table has none."""
        return self._entries.get(key)

    def set(self, key: bytes, entry: Entry | None) -> Entry | None:
        """Set the entry of a key, or remove it (None); return the previous one."""
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
        """(key, entry) with start <= key < stop, in order. The table must not change during the iteration."""
        entries = self._entries
        for key in entries.irange(start, stop, inclusive=(True, False), reverse=reverse):
            yield key, entries[key]

    @property
    def first_expiry(self) -> int | None:
        """When the first record expires, in ms since the epoch; None for never."""
        return self._expiries[0][0] if self._expiries else None

    def expired(self, now_ms: int, limit: int) -> list[bytes]:
        """At most `limit` keys of expired records, in the order in which they expired."""
        keys = []
        for expires_ms, key in self._expiries[:limit]:
            if expires_ms > now_ms:
                break
            keys.append(key)
        return keys
