"""The HTTP front as a part of an application: at its end it lets what is in flight finish."""

from __future__ import annotations

import os

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from kvtwist.model import OperatorError
from kvtwist.web.front import FrontSite

log = Logger(namespace="kvtwist.web")

DRAIN_SECONDS = 2.0


class CannotServe(OperatorError):
    """The server cannot listen where it was told to."""


class HTTPService(Service):
    """
    :param endpoint: where to listen, as Twisted's server endpoint strings say it.
    :param title: what the log calls it.
    :param optional: whether the server goes on without it when it cannot listen.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        endpoint: str,
        site: FrontSite,
        title: str = "Server",
        optional: bool = False,
    ) -> None:
        self._reactor = reactor
        self._endpoint = endpoint
        self._site = site
        self._title = title
        self._optional = optional
        self._port: IListeningPort | None = None

    def privilegedStartService(self) -> None:
        """
        Listen. Requests are answered once the reactor runs.

        :raises CannotServe: with one line that says why.
        """
        super().privilegedStartService()
        try:
            self._listen()
        except CannotServe as error:
            if not self._optional:
                raise
            log.warn("{title}: {error}", title=self._title, error=error)

    def _listen(self) -> None:
        refused: list[Failure] = []
        try:
            listening = serverFromString(self._reactor, self._endpoint).listen(self._site)
        except Exception as error:  # of whatever kind the endpoint's plugin raises: a missing file, an unknown option
            raise CannotServe(f"no endpoint: {self._endpoint} ({error})") from None
        listening.addCallbacks(self._listens, refused.append)
        if refused:
            raise CannotServe(f"cannot listen on {self._endpoint}: {_reason(refused[0].value)}")

    def _listens(self, port: IListeningPort) -> None:
        self._port = port
        log.info("{title} listening on {address}", title=self._title, address=_readable(port.getHost()))

    def addresses(self) -> list[IAddress]:
        """Where it listens."""
        return [] if self._port is None else [self._port.getHost()]

    def stopService(self) -> Deferred[None]:
        """Accept no more, finish what is in flight, and hang up on what takes longer than two seconds."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._port is not None:
            try:
                await maybeDeferred(self._port.stopListening)
            except OSError as error:  # a socket in a directory that has become read-only
                log.warn("{title}: {error}", title=self._title, error=error)
        too_long = self._reactor.callLater(DRAIN_SECONDS, self._site.hang_up)
        await self._site.drained()
        if too_long.active():
            too_long.cancel()


def _reason(error: object) -> str:
    if isinstance(error, CannotListenError):
        error = error.socketError
    return getattr(error, "strerror", None) or str(error)


def _readable(address: object) -> str:
    if isinstance(address, IPv4Address):
        return f"{address.host}:{address.port}"
    if isinstance(address, IPv6Address):
        return f"[{address.host}]:{address.port}"
    if isinstance(address, UNIXAddress):
        return os.fsdecode(address.name or b"")
    return str(address)
