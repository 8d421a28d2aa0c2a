"""
Group commit for the peers, by kvtwist's own rule, so that none is slower only for want of it.

One thread writes; at most one batch is on its way; what arrives meanwhile is the next batch, one transaction with one
sync at its end, and all who wait for it hear of it together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

Records = Sequence[tuple[bytes, bytes]]


class GroupWriter:
    """:param write: writes records in one durable transaction; called in the thread."""

    def __init__(self, reactor: Any, write: Callable[[Records], None]) -> None:
        self._reactor = reactor
        self._write = write
        self._pool = ThreadPool(minthreads=1, maxthreads=1, name="writer")
        self._gathering: list[tuple[bytes, bytes]] = []
        self._waiting: list[Deferred[None]] = []
        self._flying = False
        self._pool.start()

    def put(self, records: Records) -> Deferred[None]:
        """Fires when the batch that they went with is durable."""
        done: Deferred[None] = Deferred()
        self._gathering.extend(records)
        self._waiting.append(done)
        if not self._flying:
            self._fly()
        return done

    def run(self, job: Callable[[], Any]) -> Deferred[Any]:
        """Run something else in the thread, behind the batch that is on its way."""
        return deferToThreadPool(self._reactor, self._pool, job)

    def stop(self) -> None:
        """End the thread."""
        self._pool.stop()

    def _fly(self) -> None:
        records, waiting = self._gathering, self._waiting
        self._gathering, self._waiting = [], []
        self._flying = True
        self.run(lambda: self._write(records)).addBoth(self._landed, waiting)

    def _landed(self, result: Failure | None, waiting: list[Deferred[None]]) -> None:
        self._flying = False
        if self._gathering:
            self._fly()
        for done in waiting:
            done.callback(result)
