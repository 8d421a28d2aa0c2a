"""What the benchmark asks of a store: one small face, so that every contender does the same work in the same loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from attrs import frozen
from twisted.internet.defer import Deferred

SLICE: int = 1000
"""Records that a scan returns at a time."""


class Slice(Protocol):
    """A piece of a scan."""

    @property
    def items(self) -> Sequence[tuple[bytes, Any]]:
        """(key, what was found under it), in key order."""

    @property
    def resume(self) -> bytes | None:
        """Where the scan goes on; None at the end."""


@frozen
class Piece:
    """A `Slice` for who has none of its own."""

    items: Sequence[tuple[bytes, bytes]]
    resume: bytes | None


class Contender(Protocol):
    """
    A store in a directory. All of it is called from the reactor thread.

    A Deferred may have fired already: who can answer at once does, and pays no turn of the reactor for it.
    """

    def open(self) -> int:
        """Open it, making it if it is not there; how many transactions had to be replayed. Blocks."""

    def get(self, key: bytes) -> Deferred[Any]:
        """What is found under a key, or None."""

    def value(self, found: Any) -> bytes:
        """The value in what was found."""

    def put(self, key: bytes, value: bytes) -> Deferred[Any]:
        """Write a record; fires when it is as durable as the store makes it."""

    def put_all(self, records: Sequence[tuple[bytes, bytes]], ttl_ms: int | None = None) -> Deferred[Any]:
        """Write many in one transaction, if it can to expire after a time."""

    def scan(self, start: bytes, stop: bytes | None = None) -> Deferred[Slice]:
        """Up to `SLICE` records from a key on."""

    def clear(self) -> Deferred[Any]:
        """Remove everything."""

    def count(self) -> int:
        """How many records it believes to hold."""

    def checkpoint(self) -> Deferred[Any]:
        """Move what waits in a journal to where it belongs."""

    def close(self) -> Deferred[Any]:
        """End in good order, with nothing left to replay."""
