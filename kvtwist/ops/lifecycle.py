"""The order in which the parts of a server start and stop."""

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

    It is also an `Exception`: when twistd daemonizes, it reports only those to the process that waits for the start.
    """


class OrderedServices(MultiService):
    """
    Services that depend on each other: started in order, and stopped one after the other in reverse order.

    (`MultiService` stops all at once, but a store must outlive the requests that use it.) If a service cannot start,
    one line says why.
    """

    def privilegedStartService(self) -> None:
        """:raises StartFailed: in place of `OperatorError`, whose message has been printed."""
        try:
            super().privilegedStartService()
        except OperatorError as error:
            print(f"kvtwist: {error}", file=sys.__stderr__)
            log.critical("{error}", error=error, **{PRINTED: True})  # a daemon has no standard error
            failed = StartFailed(str(error))
            failed.code = 1
            raise failed from None

    def stopService(self) -> Deferred[None]:
        """Stop the services; fires when all have stopped."""
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        for service in reversed(list(self)):
            try:
                await maybeDeferred(service.stopService)
            except Exception:
                log.failure("could not stop {service}", service=service)
