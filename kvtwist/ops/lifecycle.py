"""How the parts of a server start and stop."""

from __future__ import annotations

import sys

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger

from kvtwist.model import OperatorError
from kvtwist.ops.logs import PRINTED

log = Logger(namespace="kvtwist")


class StartFailed(SystemExit, Exception):
    """
    Ends the process with status 1.

    It is an `Exception` as well so that twistd, when it daemonizes, tells the process that waits for the outcome.
    """


class OrderedServices(MultiService):
    """
    Services that depend on each other: started in order, stopped in reverse order, one after the other.

    (`MultiService` stops all at once, but a store must outlive the requests that use it.) What keeps one from starting
    is told in one line.
    """

    def privilegedStartService(self) -> None:
        """:raises StartFailed: instead of `OperatorError`, which has been printed."""
        try:
            super().privilegedStartService()
        except OperatorError as error:
            print(f"kvtwist: {error}", file=sys.__stderr__)
            log.critical("{error}", error=error, **{PRINTED: True})  # a daemon has no standard error
            failed = StartFailed(str(error))
            failed.code = 1
            raise failed from None

    def stopService(self) -> Deferred[None]:
        """Stop the services; fires when the first one that was added has stopped, which is the last to do so."""
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        for service in reversed(list(self)):
            try:
                await maybeDeferred(service.stopService)
            except Exception:
                log.failure("{service} could not be stopped", service=service)
