"""The store as a part of an application: open before the reactor runs, closed as the last thing."""

from __future__ import annotations

import shlex

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from kvtwist.engine.store import Store
from kvtwist.model import StoreDamaged

log = Logger(namespace="kvtwist.store")


class StoreService(Service):
    """:param place: what the log calls it: its directory, or "memory"."""

    def __init__(self, store: Store, place: str) -> None:
        self.store = store
        self._place = place

    def privilegedStartService(self) -> None:
        """
        Open the store. It blocks, and nothing is served yet: the reactor does not run.

        :raises StoreError: with one line that says why it cannot be used.
        """
        super().privilegedStartService()
        try:
            recovery = self.store.open()
        except StoreDamaged as error:
            raise StoreDamaged(f"{error}; run: kvtwist check {shlex.quote(self._place)}") from error
        log.info(
            "store in {place}: {transactions} transactions replayed from {segments} journal segments ({size} bytes)",
            place=self._place,
            transactions=recovery.transactions,
            segments=recovery.segments,
            size=recovery.size,
        )
        if recovery.torn_bytes:
            log.warn(
                "the last {torn} bytes of the journal were not whole and have been cut off: a crash came before they "
                "could be acknowledged",
                torn=recovery.torn_bytes,
            )

    def startService(self) -> None:
        """Start the threads: only now, when nothing can keep the server from starting any more."""
        super().startService()
        self.store.start()

    def stopService(self) -> Deferred[None]:
        """Close the store; fires when that is done."""
        super().stopService()
        return Deferred.fromCoroutine(self.store.close())
