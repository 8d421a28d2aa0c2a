"""What a watch is told of transactions."""

from __future__ import annotations

from collections.abc import Iterable

from kvtwist.engine.frame import Change, Transaction
from kvtwist.model import CLEAR, DELETE, EXPIRE, PUT, Changes, Event, Position, Record, Watched

PIECE = 64 * 1024
"""A watch is told of changes until their keys and values take so many bytes."""
_MOST = 500
"""How many changes a watch is told of at a time."""
LOOK = 4000
"""About how many changes are looked at before the reactor goes on."""


def collected(transactions: Iterable[Transaction], position: Position, watched: Watched) -> Changes:
    """The changes in the transactions that follow a position, as far as they fit a piece."""
    found: list[tuple[Transaction, Change]] = []
    size = looked = 0
    for transaction in transactions:
        before = len(found)
        for index in range(position.told, len(transaction.changes)):
            change = transaction.changes[index]
            looked += 1
            is_wanted = _is_of(change, watched)
            is_full = is_wanted and (size >= PIECE or len(found) >= _MOST)
            # If some of a transaction was found, whether more follows has to be known.
            if is_full or (looked > LOOK and len(found) == before):
                return Changes(_events(found, transaction), Position(transaction.revision - 1, index))
            if is_wanted:
                found.append((transaction, change))
                size += len(change.key or b"") + len(change.value or b"")
        position = Position(transaction.revision)
    return Changes(_events(found, None), position)


def _is_of(change: Change, watched: Watched) -> bool:
    if change.keyspace != watched.keyspace:
        return False
    key = change.key
    return key is None or (key.startswith(watched.key) if watched.is_prefix else key == watched.key)


def _events(found: list[tuple[Transaction, Change]], unfinished: Transaction | None) -> list[Event]:
    following = [transaction for transaction, _ in found[1:]]
    return [
        _event(transaction, change, transaction is not follower)
        for (transaction, change), follower in zip(found, [*following, unfinished], strict=False)
    ]


def _event(transaction: Transaction, change: Change, is_last: bool) -> Event:
    revision, time_ms = transaction.revision, transaction.time_ms
    if change.key is None:
        return Event(CLEAR, b"", None, revision, time_ms, is_last)
    if change.value is None:
        kind = DELETE if change.expires_ms is None else EXPIRE
        return Event(kind, change.key, None, revision, time_ms, is_last)
    modified_ms = time_ms if change.modified_ms is None else change.modified_ms
    record = Record(change.value, change.media_type, revision, modified_ms, change.expires_ms)
    return Event(PUT, change.key, record, revision, time_ms, is_last)
