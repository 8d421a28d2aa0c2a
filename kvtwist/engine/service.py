"""The store as a service of the application: opened before the reactor runs, closed last."""

from __future__ import annotations

import shlex

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from kvtwist.engine.store import Store
from kvtwist.model import StoreDamaged
from kvtwist.words import counted

log = Logger(namespace="kvtwist.store")


class StoreService(Service):
    """:param place: its name in the log: its directory, or "memory"."""

    def __init__(self, store: Store, place: str) -> None:
        self.store = store
        self._place = place

    def privilegedStartService(self) -> None:
        """
        Open the store. It blocks: the reactor does not run yet.

        :raises StoreError: the store cannot be used; the message says why in one line.
        """
        super().privilegedStartService()
        try:
            recovery = self.store.open()
        except StoreDamaged as error:
            raise StoreDamaged(f"{error}; run: kvtwist check {shlex.quote(self._place)}") from error
        log.info(
            "store in {place}: {replayed} replayed from {journal} ({bytes})",
            place=self._place,
            replayed=counted(recovery.transactions, "transaction"),
            journal=counted(recovery.segments, "journal segment"),
            bytes=counted(recovery.size, "byte"),
        )
        if recovery.torn_bytes:
            log.warn(
                "an unfinished frame at the end of the journal was cut off ({torn}); nothing in it was acknowledged",
                torn=counted(recovery.torn_bytes, "byte"),
            )

    def startService(self) -> None:
        """Start the threads: from here on nothing can prevent the start of the server."""
        super().startService()
        self.store.start()

    def stopService(self) -> Deferred[None]:
        """Close the store. Fires when it is closed."""
        super().stopService()
        return Deferred.fromCoroutine(self.store.close())
