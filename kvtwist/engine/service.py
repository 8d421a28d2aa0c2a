"""The store as a part of an application: open before the reactor runs, closed as the last thing."""

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
            "store in {place}: {replayed} replayed from {journal} ({bytes})",
            place=self._place,
            replayed=counted(recovery.transactions, "transaction"),
            journal=counted(recovery.segments, "journal segment"),
            bytes=counted(recovery.size, "byte"),
        )
        if recovery.torn_bytes:
            log.warn(
                "the last frames of the journal were not whole and have been cut off ({torn}): a crash came before "
                "they could be acknowledged",
                torn=counted(recovery.torn_bytes, "byte"),
            )

    def startService(self) -> None:
        """Start the threads: only now, when nothing can keep the server from starting any more."""
        super().startService()
        self.store.start()

    def stopService(self) -> Deferred[None]:
        """Close the store; fires when that is done."""
        super().stopService()
        return Deferred.fromCoroutine(self.store.close())
