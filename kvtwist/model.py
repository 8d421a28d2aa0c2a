"""
The nouns that every room shares: records, operations, conditions, outcomes and the errors a store may answer with.

A store is a set of *keyspaces*; a keyspace is an ordered map from key (bytes) to `Record`. Everything that changes a
store is one transaction: a list of conditions, and a list of operations that happen together, or not at all.
Keys order by their bytes. Times are milliseconds since the Unix epoch, on the store's own timeline, which never
runs backwards. A *revision* is the number of the transaction that wrote a record: 1 for the first of a store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

DATA: Final = "data"
"""What clients have written: every dialect reads and writes here."""
STAGED: Final = "staged"
"""Changes of the `transactional` dialect that wait for `POST /commit`, by the key that they change."""
HISTORY: Final = "history"
"""Write events of the `history` dialect, in the order in which they happened, by key."""

JSON: Final = "application/json"
TEXT: Final = "text/plain"
OCTETS: Final = "application/octet-stream"


class Record(Struct, frozen=True, array_like=True, gc=False):
    """
    One value as the store holds it.

    :ivar value: the bytes that were written, unchanged.
    :ivar media_type: what the writer said that they are (`JSON`, `TEXT`, `OCTETS`, or a profile's own).
    :ivar revision: the transaction that wrote it.
    :ivar modified_ms: when that was.
    :ivar expires_ms: from when on the record does not exist, or None for never.
    """

    value: bytes
    media_type: str
    revision: int
    modified_ms: int
    expires_ms: int | None = None


class Slice(Struct, frozen=True):
    """
    A bounded piece of a scan.

    :ivar items: (key, record) in key order, or in descending order for a reverse scan. There may be none although the
        range holds more: a slice also ends after looking at so many removed records.
    :ivar resume: where the scan goes on: the next slice's `start`, or its `stop` for a reverse scan; None at the end.
    :ivar revision: the last transaction that it shows the work of.
    :ivar rollbacks: how many times transactions that failed had been taken back by then.
    """

    items: Sequence[tuple[bytes, Record]]
    resume: bytes | None = None
    revision: int = 0
    rollbacks: int = 0


# Operations and conditions cannot be parts of a cycle: Python need not search them for garbage, however many there are.

# --- operations -------------------------------------------------------------------------------------------------------


class Get(Struct, frozen=True, gc=False):
    """Read a record as it stands just before the operations behind this one. Its result is the `Record`, or None."""

    keyspace: str
    key: bytes


class Peek(Get, frozen=True, gc=False):
    """
    Find out whether there is a record, and of which media type and revision, as `Get` does.

    The value of its result is left out where it is large: a transaction may peek at any number of keys.
    """


class Put(Struct, frozen=True, gc=False):
    """
    Write a record.

    :ivar ttl_ms: for how long it exists, counted from the transaction's time; None for ever.
    """

    keyspace: str
    key: bytes
    value: bytes
    media_type: str
    ttl_ms: int | None = None


class Restore(Put, frozen=True, gc=False):
    """
    Write a record as it was in another store, or at another time: with its own times in place of the transaction's.

    :ivar ttl_ms: of no meaning here.
    :ivar modified_ms: when it was written.
    :ivar expires_ms: from when on it does not exist, or None for never.
    """

    modified_ms: int = 0
    expires_ms: int | None = None


class Append(Struct, frozen=True, gc=False):
    """
    Write a record under `prefix` followed by the transaction's time and revision, 8 big-endian bytes each: later
    transactions sort behind earlier ones. (FoundationDB calls such keys versionstamped.)
    """

    keyspace: str
    prefix: bytes
    value: bytes
    media_type: str
    ttl_ms: int | None = None


class Delete(Struct, frozen=True, gc=False):
    """Remove a record; removing one that is not there changes nothing."""

    keyspace: str
    key: bytes


class Clear(Struct, frozen=True, gc=False):
    """Remove every record of a keyspace."""

    keyspace: str


Operation = Get | Put | Append | Delete | Clear


# --- conditions -------------------------------------------------------------------------------------------------------


class Exists(Struct, frozen=True, gc=False):
    """Holds when there is a record under the key."""

    keyspace: str
    key: bytes


class Unchanged(Struct, frozen=True, gc=False):
    """Holds when the record under the key is still the one of that revision; 0 means that there was none."""

    keyspace: str
    key: bytes
    revision: int


class UnchangedSince(Struct, frozen=True, gc=False):
    """
    Holds when no transaction behind that revision has changed anything in the keyspace.

    :ivar rollbacks: of the slice that it is about: nor has anything been taken back since; None: that does not matter.
    """

    keyspace: str
    revision: int
    rollbacks: int | None = None


class Room(Struct, frozen=True, gc=False):
    """
    Holds when a keyspace takes at most `limit` bytes once there is a record of that size under the key.

    :ivar size: of the record's value, in bytes.
    :ivar overhead: how many bytes each record counts for beside its key and value.
    """

    keyspace: str
    key: bytes
    size: int
    overhead: int
    limit: int


Condition = Exists | Unchanged | UnchangedSince | Room


class Outcome(Struct, frozen=True):
    """
    What became of a transaction.

    :ivar committed: False when a condition did not hold, and so nothing was done.
    :ivar results: one for each operation: what `Get` found, None for the others. Empty when not committed.
    """

    committed: bool
    results: Sequence[Record | None] = ()


class Usage(Struct, frozen=True):
    """
    How much a keyspace holds.

    Both figures are exact for what was read before it was changed, as staged changes are. A write that did not look
    at what was there before counts as a new record until the next checkpoint has seen both.

    :ivar records: number of records, those included that have expired and were not swept yet.
    :ivar size: bytes of their keys and values.
    """

    records: int
    size: int


class Figures(Struct, frozen=True):
    """
    What a store tells its operator. Counts and seconds are since the start.

    :ivar keyspaces: usage by keyspace.
    :ivar journal_bytes: written since the last checkpoint began; what a start after a crash would have to replay.
    :ivar sync_seconds: spent on writing batches of the journal, each until it was durable.
    :ivar failed_batches: batches that could not be written.
    :ivar checkpointed_ms: when the last checkpoint ended; None before the first.
    :ivar read_only: whether the store writes no more until it is started anew.
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


# --- what happened over HTTP -----------------------------------------------------------------------------------------


LEFT: Final = 499
"""In place of a status, as nginx has it: the client left before it had its answer."""


class Exchange(Struct, frozen=True, gc=False):
    """
    One request and its response, for whoever logs and counts.

    :ivar route: the route as the dialect wrote it, empty where none matched.
    :ivar method: as it was sent, as are target and version.
    :ivar target: the request target.
    :ivar status: `LEFT` when the client left before it had all of the answer.
    :ivar seconds: from the end of the request to the end of the response.
    :ivar size: bytes of the response's body.
    :ivar ended: in seconds since the epoch.
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
    """Something that an operator can put right; the message says in one line what it is."""


class StoreError(OperatorError):
    """What a store cannot do."""


class StoreUnavailable(StoreError):
    """The store cannot write now (read-only after a failed sync, or closing). A client may try again later."""


class NoRoom(StoreError):
    """There is no room for what was to be written; nothing of it was kept."""


class StoreDamaged(StoreError):
    """What is on disk is not what was written there. The message names the file and the place in it."""


class StoreInUse(StoreError):
    """Another process has the directory open."""
