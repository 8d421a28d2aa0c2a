"""What a watch tells, element by element."""

from __future__ import annotations

from attrs import frozen

from kvtwist.client.records import Record


@frozen
class Put:
    """A key was written, or is part of the listing after a `Reset`."""

    record: Record

    @property
    def key(self) -> str:
        """The key."""
        return self.record.key

    @property
    def revision(self) -> int:
        """The transaction that wrote it."""
        return self.record.revision


@frozen
class Delete:
    """A key was deleted; :ivar modified_ms: when."""

    key: str
    revision: int
    modified_ms: int


@frozen
class Expire:
    """A key has expired; :ivar modified_ms: when."""

    key: str
    revision: int
    modified_ms: int


@frozen
class Clear:
    """Every key was deleted; :ivar modified_ms: when."""

    revision: int
    modified_ms: int


@frozen
class Reset:
    """
    The server no longer has the changes since the last one that was told: forget every key.

    What follows is a listing: a `Put` for each key that there is, then `Listed`.
    """


@frozen
class Listed:
    """
    The listing after a `Reset` is complete.

    :ivar revision: the store's when the listing began. Changes after that follow; those that the listing already shows
        do not.
    """

    revision: int


Change = Put | Delete | Expire | Clear
Told = Change | Reset | Listed
