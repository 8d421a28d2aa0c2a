"""The boundaries between rooms: what a dialect may ask of a store, and what the web room may ask of a dialect."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from klein import Klein
from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from kvtwist.model import Condition, Figures, Operation, Outcome, Record, Slice, Usage


class IStore(Interface):
    """
    Ordered keyspaces with atomic, conditional, expiring transactions.

    Nobody sees what a crash could take back: every Deferred here fires only when all that its answer rests on is as
    durable as the store was told to make it. Every one may fail with `StoreUnavailable`.
    Cancelling a read gives it up; a transaction that was accepted runs to its end, cancelled or not.
    """

    def get(keyspace: str, key: bytes) -> Deferred[Record | None]:
        """The record under a key, or None when there is none or it has expired."""

    def scan(
        keyspace: str,
        start: bytes = b"",
        stop: bytes | None = None,
        limit: int = 1000,
        reverse: bool = False,
        settled: bool = True,
    ) -> Deferred[Slice]:
        """
        Records with start <= key < stop (None: to the end), ascending, or descending from the end of the range.

        A slice holds at most `limit` records and, so that large values do not pile up, about a mebibyte.
        It is one moment's view; what changes between two slices may be seen or not.

        Not `settled`, it may show what a crash or a full disk can still take back: nobody may hear of it, but a
        transaction may build on it, on condition that the keyspace is `UnchangedSince`.
        """

    def transact(conditions: Sequence[Condition], operations: Sequence[Operation]) -> Deferred[Outcome]:
        """
        If all conditions hold, do all operations, in order, at one instant; else do nothing.

        Fails with `NoRoom` when there is no room on the disk for it, and then nothing was done.
        """

    def usage(keyspace: str) -> Usage:
        """How much a keyspace holds right now."""

    def figures() -> Figures:
        """What an operator wants to know about it."""


class IBackup(Interface):
    """A copy of a store at one moment, while it can be read. `close` it in the end."""

    revision: int = Attribute("The last revision that it holds.")
    size: int = Attribute("How long the archive is, in bytes.")

    def archive() -> AsyncGenerator[bytes, None]:
        """A tar archive, piece by piece. Raises `OSError` or `StoreError` when it cannot be read to its end."""

    async def close() -> None:
        """Let go of it."""


class IBackups(Interface):
    """What can be copied while it goes on working."""

    async def backup() -> IBackup | None:
        """
        Begin a copy of all that is durable by now. None: there is nothing on disk to be kept.

        :raises StoreUnavailable: it is not known what is on disk, or the store is closing.
        """


class IProfile(Interface):
    """One HTTP dialect: Klein routes over an `IStore`."""

    app: Klein = Attribute("The routes. Handlers return `klein.Response`; path variables arrive percent-encoded.")
    name: str = Attribute("What `--profile` calls it.")
    max_body: int = Attribute("The largest request body, in bytes, that any of its routes takes.")
    urgent: frozenset[str] = Attribute(
        "Routes, as in `app`, that are answered even when there is no room for requests."
    )
