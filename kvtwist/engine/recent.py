"""The latest transactions, kept in memory for those who watch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kvtwist.engine.commit import CHANGE_COST
from kvtwist.engine.frame import Transaction


class Recent:
    """
    The latest transactions, without a gap.

    :param limit: about how many bytes of memory they may take.
    :ivar size: about how many they take.
    :ivar first: the revision of the first one; if there is none, one more than `last`.
    :ivar last: the revision of the last one.
    """

    def __init__(self, limit: int) -> None:
        self.size = 0
        self.first = 1
        self._limit = limit
        self._transactions: list[Transaction] = []

    def add(self, transactions: Sequence[Transaction]) -> None:
        """Add transactions, which follow those before them; drop the oldest ones beyond the limit."""
        kept = self._transactions
        if not kept:
            self.first = transactions[0].revision
        kept += transactions
        self.size += sum(map(_size_of, transactions))
        if self.size <= self._limit:
            return
        dropped = 0
        while self.size > self._limit - self._limit // 8:
            self.size -= _size_of(kept[dropped])
            dropped += 1
        del kept[:dropped]
        self.first += dropped

    @property
    def last(self) -> int:
        """See above."""
        return self.first + len(self._transactions) - 1

    def clear(self, last: int = 0) -> None:
        """Drop all, up to revision `last`."""
        self._transactions, self.size, self.first = [], 0, last + 1

    def has_next(self, revision: int) -> bool:
        """Whether the transaction after a revision is among them."""
        return self.first - 1 <= revision < self.last

    def after(self, revision: int) -> Iterator[Transaction]:
        """Those after a revision, the next one of which is among them."""
        return (self._transactions[at] for at in range(revision + 1 - self.first, len(self._transactions)))


def _size_of(transaction: Transaction) -> int:
    """About how many bytes of memory a transaction takes."""
    size = CHANGE_COST
    for change in transaction.changes:
        size += CHANGE_COST + len(change.key or b"") + len(change.value or b"")
    return size
