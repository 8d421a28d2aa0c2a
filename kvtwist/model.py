"""
The types that every package shares: records, operations, conditions, outcomes, and the errors of a store.

A store is a set of *keyspaces*; a keyspace is a map from key (bytes) to `Record`, in the order of the keys' bytes. All
changes are made by transactions: conditions, and operations that are done together or not at all.
Times are milliseconds since the Unix epoch on the store's own timeline, which never runs backwards. A *revision* is the
number of the transaction that wrote a record; the first transaction of a store has revision 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

DATA: Final = "data"
"""The records that clients read and write, in every profile."""
STAGED: Final = "staged"
"""Changes of the `transactional` profile that wait for `POST /commit`, under the key that they change."""
HISTORY: Final = "history"
"""Write events of the `history` profile: those of one key are in the order of their transactions."""

JSON: Final = "application/json"
TEXT: Final = "text/plain"
OCTETS: Final = "application/octet-stream"


class Record(Struct, frozen=True, array_like=True, gc=False):
    """
    A value and its properties.

    :ivar value: the bytes that were written, unchanged.
    :ivar media_type: their type by the writer (`JSON`, `TEXT`, `OCTETS`, or a profile's own).
    :ivar revision: the transaction that wrote it.
    :ivar modified_ms: the time of that transaction.
    :ivar expires_ms: when the record stops to exist; None for never.
    """

    value: bytes
    media_type: str
    revision: int
    modified_ms: int
    expires_ms: int | None = None


class Slice(Struct, frozen=True):
    """
    A part of a scan's result.

    :ivar items: (key, record) in key order, or in descending order for a reverse scan. It may be empty before the end
        of the range: a slice also ends after a number of removed records.
    :ivar resume: where the scan goes on: the next slice's `start`, or its `stop` for a reverse scan; None at the end.
    :ivar revision: the last transaction that it shows.
    :ivar rollbacks: how many times failed transactions had been taken back by then.
    """

    items: Sequence[tuple[bytes, Record]]
    resume: bytes | None = None
    revision: int = 0
    rollbacks: int = 0


# Operations and conditions cannot be part of a reference cycle. `gc=False` saves the garbage collector their traversal.

# --- operations -------------------------------------------------------------------------------------------------------


class Read(Struct, frozen=True, gc=False):
    """An operation that changes nothing."""

    keyspace: str


class Get(Read, frozen=True, gc=False):
    """Read a record as it is before the operations that follow. The result is the `Record`, or None."""

    key: bytes


class Peek(Get, frozen=True, gc=False):
    """
    Read a record without its value, to learn whether it exists and its media type and revision.

    Small values are kept in the result. Large ones are left out, because a transaction may peek at any number of keys.
    """


class Range(Read, frozen=True, gc=False):
    """
    Read a range as it is before the transaction: the result is the `Slice` that `IStore.scan` would give, whatever the
    transaction writes.
    """

    start: bytes = b""
    stop: bytes | None = None
    limit: int = 1000
    reverse: bool = False


class Put(Struct, frozen=True, gc=False):
    """
    Write a record.

    :ivar ttl_ms: how long it exists, counted from the transaction's time; None for ever.
    """

    keyspace: str
    key: bytes
    value: bytes
    media_type: str
    ttl_ms: int | None = None


class Restore(Put, frozen=True, gc=False):
    """
    Write a record as it was in another store or at another time: with its own times instead of the transaction's.

    :ivar ttl_ms: unused.
    :ivar modified_ms: when it was written.
    :ivar expires_ms: when it stops to exist; None for never.
    """

    modified_ms: int = 0
    expires_ms: int | None = None


class Append(Struct, frozen=True, gc=False):
    """
    Write a record under `prefix` followed by the transaction's time and revision, 8 big-endian bytes each, so that
    later transactions sort after earlier ones. (FoundationDB calls such keys versionstamped.)
    """

    keyspace: str
    prefix: bytes
    value: bytes
    media_type: str
    ttl_ms: int | None = None


class Delete(Struct, frozen=True, gc=False):
    """Remove a record. Removing a missing record changes nothing."""

    keyspace: str
    key: bytes


class Clear(Struct, frozen=True, gc=False):
    """Remove every record of a keyspace."""

    keyspace: str


Operation = Get | Range | Put | Append | Delete | Clear
Result = Record | Slice | None


# --- conditions -------------------------------------------------------------------------------------------------------


class Exists(Struct, frozen=True, gc=False):
    """Holds if there is a record under the key."""

    keyspace: str
    key: bytes


class Unchanged(Struct, frozen=True, gc=False):
    """Holds if the record under the key still has that revision; 0 stands for no record."""

    keyspace: str
    key: bytes
    revision: int


class UnchangedSince(Struct, frozen=True, gc=False):
    """
    Holds if no transaction after that revision has changed the keyspace.

    :ivar rollbacks: the `Slice.rollbacks` of a slice that was not settled: holds only if nothing was taken back since.
        None for a settled slice.
    """

    keyspace: str
    revision: int
    rollbacks: int | None = None


class Room(Struct, frozen=True, gc=False):
    """
    Holds if a keyspace takes at most `limit` bytes with a record of that size under the key.

    :ivar size: length of the record's value in bytes.
    :ivar overhead: bytes that each record counts in addition to its key and value.
    """

    keyspace: str
    key: bytes
    size: int
    overhead: int
    limit: int


Condition = Exists | Unchanged | UnchangedSince | Room


class Outcome(Struct, frozen=True):
    """
    The result of a transaction.

    :ivar committed: whether all conditions held.
    :ivar results: one for each operation that was done: what a `Get` or a `Range` found, None for the others.
    :ivar revision: the revision of the transaction, which all records that it wrote have; if it changed nothing, that
        of the last transaction before it.
    """

    committed: bool
    results: Sequence[Result] = ()
    revision: int = 0

    def record(self, index: int) -> Record | None:
        """The result of a `Get`."""
        result = self.results[index]
        assert not isinstance(result, Slice)
        return result


class Watched(Struct, frozen=True, gc=False):
    """What a watch tells of: a key of a keyspace, or all keys with a prefix."""

    keyspace: str
    key: bytes
    is_prefix: bool = False


class Position(Struct, frozen=True, gc=False):
    """
    How much of a store's changes has been seen: those of all transactions up to a revision, and the first `told`
    changes of the transaction after that.
    """

    revision: int
    told: int = 0


class Event(Struct, frozen=True, gc=False):
    """
    A change that a watch tells of.

    :ivar kind: `PUT`, `DELETE`, `EXPIRE` or `CLEAR`.
    :ivar key: empty for `CLEAR`, which removes every record of the keyspace.
    :ivar record: the record that was put; None for other kinds.
    :ivar revision: of its transaction.
    :ivar time_ms: of its transaction.
    :ivar is_last: whether it is the last one of its transaction that the watch tells of.
    """

    kind: str
    key: bytes
    record: Record | None
    revision: int
    time_ms: int
    is_last: bool


PUT: Final = "put"
DELETE: Final = "delete"
EXPIRE: Final = "expire"
CLEAR: Final = "clear"


class Changes(Struct, frozen=True):
    """
    Some changes, in the order in which they were made.

    :ivar position: what has been seen with them.
    """

    events: Sequence[Event]
    position: Position


class Usage(Struct, frozen=True):
    """
    How much a keyspace holds.

    Both figures are exact if each transaction reads the records that it changes, as staging does. A write that replaces
    a record on disk without reading it counts as a new record until the two are compacted.

    :ivar records: number of records; expired ones count until they are swept.
    :ivar size: bytes of their keys and values.
    """

    records: int
    size: int


class Figures(Struct, frozen=True):
    """
    A store's figures for its operator. Counts and seconds are since the start.

    :ivar keyspaces: usage by keyspace.
    :ivar journal_bytes: written since the last checkpoint began; a start after a crash replays about as much.
    :ivar sync_seconds: time spent on writing batches until they were durable.
    :ivar failed_batches: batches that could not be written.
    :ivar checkpointed_ms: when the last checkpoint ended; None before the first.
    :ivar read_only: whether the store refuses writes until it is restarted.
    """

    keyspaces: dict[str, Usage]
    journal_bytes: int
    batches: int
    transactions: int
    sync_seconds: float
    failed_batches: int
    checkpoints: int
    failed_checkpoints: int
    checkpoint_seconds: float
    checkpointed_ms: int | None
    read_only: bool


# --- HTTP -------------------------------------------------------------------------------------------------------------


LEFT: Final = 499
"""Logged as the status, as nginx does, if the client left before it had the whole response."""


class Exchange(Struct, frozen=True, gc=False):
    """
    One request and its response, for logs and metrics.

    :ivar route: the route as the profile defines it; empty if none matched.
    :ivar method: as it was sent, like target and version.
    :ivar target: the request target.
    :ivar status: `LEFT` if the client left before it had the whole response.
    :ivar seconds: from the end of the request to the end of the response.
    :ivar size: bytes of the response's body.
    :ivar ended: seconds since the epoch.
    """

    profile: str
    route: str
    client: str
    method: bytes
    target: bytes
    version: bytes
    status: int
    seconds: float
    size: int
    ended: float


# --- errors -----------------------------------------------------------------------------------------------------------


class OperatorError(Exception):
    """An error that an operator can correct. The message is one line."""


class StoreError(OperatorError):
    """A store cannot do what it was asked to do."""


class StoreUnavailable(StoreError):
    """The store cannot write now: it is read-only after a failed sync, or closing. A client may try again later."""


class NoRoom(StoreError):
    """There is no memory or disk space for a transaction; nothing of it was kept."""


class TooMuchToRead(StoreError):
    """The records that one transaction reads take more memory than it may have."""


class StoreDamaged(StoreError):
    """A file does not hold what was written to it. The message names the file and the place in it."""


class ChangesGone(StoreError):
    """
    Changes after a position are not kept any more, or the position is later than the store.

    :ivar oldest: the earliest revision after which all changes are kept.
    """

    def __init__(self, oldest: int) -> None:
        super().__init__(f"only the changes after revision {oldest} are kept")
        self.oldest = oldest


class StoreInUse(StoreError):
    """Another process has the directory open."""
