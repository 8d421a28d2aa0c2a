"""The HTTP front as a part of an application: at its end it lets what is in flight finish."""

from __future__ import annotations

import os
import re

from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import UNIXServerEndpoint, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IReactorTime, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from kvtwist.model import OperatorError
from kvtwist.web import transports
from kvtwist.web.front import FrontSite
from kvtwist.web.sockets import SocketEndpoint, remove_stale

log = Logger(namespace="kvtwist.web")

DRAIN_SECONDS = 2.0


class CannotServe(OperatorError):
    """The server cannot listen where it was told to."""


class HTTPService(Service):
    """
    :param endpoint: where to listen: an endpoint, or what Twisted's server endpoint strings say. A socket in the file
        system is for its owner alone unless they give a `mode`.
    :param title: what the log calls it.
    :param optional: whether the server goes on without it when it cannot listen.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        endpoint: str | SocketEndpoint,
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
            listening = self._resolved().listen(self._site)
        except Exception as error:  # of whatever kind the endpoint's plugin raises: a missing file, an unknown option
            raise CannotServe(f"no endpoint: {self._endpoint} ({error})") from None
        listening.addCallbacks(self._listens, refused.append)
        if refused:
            raise CannotServe(f"cannot listen on {self._endpoint}: {_reason(refused[0].value)}")

    def _resolved(self) -> IStreamServerEndpoint:
        if isinstance(self._endpoint, SocketEndpoint):
            return self._endpoint
        text = self._endpoint
        if _UNIX.match(text):
            # Twisted's own defaults let everybody in, and know a socket that a kill has left behind by the number of a
            # process, which in a container is soon that of another.
            given = _ARGUMENT.findall(text)
            text += "".join(f":{name}={value}" for name, value in _UNIX_DEFAULTS.items() if name not in given)
        endpoint: IStreamServerEndpoint = serverFromString(self._reactor, text)
        if isinstance(endpoint, UNIXServerEndpoint):
            remove_stale(transports.unix_path(endpoint))
        return endpoint

    def _listens(self, port: IListeningPort) -> None:
        self._port = port

    def addresses(self) -> list[IAddress]:
        """Where it listens."""
        return [] if self._port is None else [self._port.getHost()]

    def address(self) -> str | None:
        """Where it listens: `host:port`, or the path of a socket; None: nowhere."""
        if self._port is None:
            return None
        return str(self._endpoint) if isinstance(self._endpoint, SocketEndpoint) else _readable(self._port.getHost())

    def url(self) -> str:
        """Where a client on this machine reaches it: a URL, or `unix:` and the path of a socket."""
        if self._port is None:  # an endpoint that takes its time
            return str(self._endpoint)
        host = self._port.getHost()
        if isinstance(host, UNIXAddress):
            return f"unix:{self.address()}"
        scheme = "https" if _TLS.match(str(self._endpoint)) else "http"
        if isinstance(host, (IPv4Address, IPv6Address)) and host.host in _LOCALHOST:
            return f"{scheme}://localhost:{host.port}{_LOCALHOST[host.host]}"
        return f"{scheme}://{self.address()}"

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
        too_long = self._reactor.callLater(DRAIN_SECONDS, self._site.abort_all)
        await self._site.drain()
        if too_long.active():
            too_long.cancel()


_UNIX = re.compile("(haproxy:)?unix:")
_TLS = re.compile("(haproxy:)?ssl:")
_UNIX_DEFAULTS = {"mode": "600", "lockfile": "0"}
_ARGUMENT = re.compile(r"(?<!\\):([a-z]+)=")
_LOCALHOST = {"127.0.0.1": "", "0.0.0.0": " (on every interface)", "::": " (on every interface)"}
"""Addresses that a client on this machine may call localhost, and what else there is to say of them."""


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
        return os.fsdecode(address.name or b"").replace("\0", "@")  # of a name that is in no file system
    return str(address)
