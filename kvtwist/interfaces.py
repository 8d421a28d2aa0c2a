"""The boundaries between packages: what a profile may ask of a store, and what `kvtwist.web` may ask of a profile."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from klein import Klein
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from kvtwist.model import Changes, Condition, Figures, Operation, Outcome, Position, Record, Slice, Usage, Watched


class IStore(Interface):
    """
    Ordered keyspaces with atomic, conditional, expiring transactions.

    No answer shows what a crash could take back: every Deferred fires only when everything that its result depends on
    is as durable as the store was configured to make it. Every Deferred may fail with `StoreUnavailable`.
    Cancelling a read stops it. A transaction that was accepted runs to its end, cancelled or not.
    """

    def get(keyspace: str, key: bytes) -> Deferred[Record | None]:
        """The record under a key; None if there is none, or it has expired."""

    def scan(
        keyspace: str,
        start: bytes = b"",
        stop: bytes | None = None,
        limit: int = 1000,
        reverse: bool = False,
        settled: bool = True,
    ) -> Deferred[Slice]:
        """
        A slice of the records with start <= key < stop (None: to the end), in ascending key order; in descending
        order, from the end of the range, if `reverse`.

        A slice holds at most `limit` records and about one mebibyte, so that large values do not pile up. It shows one
        moment; changes between two slices may be seen or not.

        If not `settled`, it may show changes that a crash or a full disk can still take back. Such a slice must not be
        shown to a client, but a transaction may build on it, on condition that the keyspace is `UnchangedSince`.
        """

    def transact(
        conditions: Sequence[Condition], operations: Sequence[Operation], otherwise: Sequence[Operation] = ()
    ) -> Deferred[Outcome]:
        """
        Do all operations, in order and at one instant, if all conditions hold; else do those of `otherwise`.

        Fails with `NoRoom` when there is no disk space for it, and with `TooMuchToRead`; then it has done nothing.
        """

    def changes(watched: Watched, after: Position, wait: float = 0.0) -> Deferred[Changes]:
        """
        The next changes of what is watched after a position, about 64 KiB at most unless it is a single one. If there
        are none, it waits for one, for so many seconds; after that (and about half a second) there are none, and the
        new position is later than the old one if other keys have changed. Cancelling it ends the wait.

        Changes are told in revision order, each once, and only when they are durable. That a record expires is a
        change, too, while its keyspace is watched: within about a second, and with a revision of its own. Deleting a
        key that did not exist may be told as well.

        Fails with `ChangesGone`.
        """

    def now_ms() -> int:
        """The time by which records expire, in ms since the epoch."""

    def usage(keyspace: str) -> Usage:
        """How much a keyspace holds now."""

    def figures() -> Figures:
        """Counts and sizes for the operator."""


class IBackup(Interface):
    """A copy of a store at one moment. It can be read until `close`, which must be called."""

    revision: int = Attribute("The last revision that it holds.")
    size: int = Attribute("The length of the archive in bytes.")

    def archive() -> AsyncGenerator[bytes, None]:
        """The pieces of a tar archive. Raises `OSError` or `StoreError` when it cannot be read to its end."""

    async def close() -> None:
        """Release the files that the copy needs."""


class IBackups(Interface):
    """A store that can be copied while it is in use."""

    async def backup() -> IBackup | None:
        """
        Begin a copy of everything that is durable now. None for a store in memory.

        :raises StoreUnavailable: the content of the disk is unknown after a failed sync, or the store is closing.
        """


class IProfile(Interface):
    """One HTTP interface: Klein routes over an `IStore`."""

    app: Klein = Attribute("The routes. Handlers return `klein.Response`; path variables arrive percent-encoded.")
    name: str = Attribute("Its name in `--profile`.")
    max_body: int = Attribute("The largest request body, in bytes, that any of its routes accepts.")
    urgent: frozenset[str] = Attribute("Routes, as in `app`, that are answered even when no request memory is left.")
