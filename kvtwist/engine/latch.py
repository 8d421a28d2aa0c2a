"""
The latch: held while memory holds half of a transaction.

A large transaction is applied, and taken back, in steps between which the reactor goes on. All work that looks at more
than one record, or changes one, waits until the latch is free. The read of one record does not wait for the latch, but
for the transaction that wrote the record, if that is not durable yet.
"""

from __future__ import annotations

from kvtwist.engine.waiters import Waiters


class Latch:
    """
    May be held several times at once: a batch may fail while a transaction is being applied.

    :ivar held: how many times it is held; 0 if it is free.
    """

    def __init__(self) -> None:
        self.held = 0
        self._released = Waiters()

    def hold(self) -> None:
        """Hold the latch until `release`."""
        self.held += 1

    def release(self) -> None:
        """Release the latch once. When it is free, the waiting work goes on in order."""
        self.held -= 1
        if not self.held:
            self._released.fire()

    async def free(self) -> None:
        """Return when the latch is free."""
        while self.held:
            await self._released.add()
