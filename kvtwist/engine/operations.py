"""The properties of single operations: whether they fit, how large they are, whether they free disk space."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from kvtwist.engine.frame import Change, Transaction
from kvtwist.engine.memtable import Entry
from kvtwist.engine.page import MAX_KEY
from kvtwist.model import DATA, Append, Clear, Delete, Get, Operation, Put, Range, Record, Restore

_VERSIONSTAMP = struct.Struct(">QQ")


class Expire(Delete, frozen=True, gc=False):
    """
    Remove a record if it has expired. Until then it takes memory, and no read shows it; removing it gives its expiry a
    revision, for those who watch it.
    """


def has_valid_key(operation: Operation) -> bool:
    """Return whether a page can hold the key that an operation writes."""
    if isinstance(operation, Put):
        return len(operation.key) <= MAX_KEY
    return not isinstance(operation, Append) or len(operation.prefix) + _VERSIONSTAMP.size <= MAX_KEY


def returns_records(operations: Sequence[Operation]) -> bool:
    """Return whether some operations return whole records."""
    return any(type(operation) is Get or type(operation) is Range for operation in operations)


def size_of(operation: Operation) -> int:
    """About how many bytes of the journal an operation takes."""
    if isinstance(operation, Put):
        return len(operation.key) + len(operation.value)
    if isinstance(operation, Append):
        return len(operation.prefix) + len(operation.value)
    return len(operation.key) if isinstance(operation, Delete) else 0


def change_of(operation: Put | Append | Delete | Clear, revision: int, now_ms: int) -> Change:
    """What the journal records of an operation: the key and the times that depend on its transaction are filled in."""
    if isinstance(operation, Put):
        key = operation.key
        if type(operation) is Restore:
            expires_ms, modified_ms = operation.expires_ms, operation.modified_ms
            return Change(operation.keyspace, key, operation.value, operation.media_type, expires_ms, modified_ms)
    elif isinstance(operation, Delete):
        return Change(operation.keyspace, operation.key)
    elif isinstance(operation, Clear):
        return Change(operation.keyspace, None)
    else:
        key = operation.prefix + _VERSIONSTAMP.pack(now_ms, revision)
    expires_ms = None if operation.ttl_ms is None else now_ms + operation.ttl_ms
    return Change(operation.keyspace, key, operation.value, operation.media_type, expires_ms)


def expiry_of(operation: Expire, entry: Entry | None, now_ms: int) -> Change | None:
    """The removal of an expired record; None if the entry is no record, or has not expired."""
    if not isinstance(entry, Record) or entry.expires_ms is None or entry.expires_ms > now_ms:
        return None
    return Change(operation.keyspace, operation.key, expires_ms=entry.expires_ms)


def frees_space(operations: Sequence[Operation]) -> bool:
    """
    Return whether a transaction takes no more disk space than it frees: it removes at least as many records as it
    writes, or it stages such a change. Its space is free after the next checkpoint.
    """
    return _frees_space(
        (type(operation) is Clear, type(operation) is Delete, _writes(operation)) for operation in operations
    )


def all_free_space(transactions: Sequence[Transaction]) -> bool:
    """Return whether each of some transactions on their way to the journal `frees_space`."""
    return all(
        _frees_space(
            (change.key is None, change.value is None, bool(change.value) or change.keyspace == DATA)
            for change in transaction.changes
        )
        for transaction in transactions
    )


def _writes(operation: Operation) -> bool:
    # An empty value in another keyspace stages a deletion.
    return isinstance(operation, (Put, Append)) and (bool(operation.value) or operation.keyspace == DATA)


def _frees_space(changes: Iterable[tuple[bool, bool, bool]]) -> bool:
    """:param changes: for each, whether it clears a keyspace, removes a record, writes a record."""
    gain = 0
    for clears, removes, writes in changes:
        if clears:
            return True
        gain += 1 if removes else -1 if writes else 0
    return gain >= 0
