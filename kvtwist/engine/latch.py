"""
What keeps others from memory that is between two transactions.

A large transaction is applied in slices, and taken back in slices, so that the reactor has its turn in between.
Whatever looks at more than one record, or changes any, waits until the latch is free. The read of one record does not:
it waits for the transaction that wrote the record, if for anything.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred


class Latch:
    """
    May be held several times at once: a batch may fail while a transaction is being applied.

    :ivar held: how many times it is held; 0: memory is whole.
    """

    def __init__(self) -> None:
        self.held = 0
        self._waiting: list[Deferred[None]] = []

    def hold(self) -> None:
        """Hold it, until `release`."""
        self.held += 1

    def release(self) -> None:
        """Hold it no longer. If nobody else does, all that wait look again, in order."""
        self.held -= 1
        if not self.held:
            waiting, self._waiting = self._waiting, []
            for released in waiting:
                released.callback(None)

    async def free(self) -> None:
        """Return once nobody holds it."""
        while self.held:
            released: Deferred[None] = Deferred()
            self._waiting.append(released)
            await released
