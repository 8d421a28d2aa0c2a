"""The HTTP front as a Twisted service. When it stops, active requests are finished first."""

from __future__ import annotations

import os
import re
from ipaddress import ip_address

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
    """The server cannot listen on its endpoint."""


class HTTPService(Service):
    """
    :param endpoint: where to listen: an endpoint, or a server endpoint string of Twisted's. Only its owner may open a
        socket in the file system, unless the string gives a `mode`.
    :param title: the service's name in the log.
    :param optional: whether the server starts even if this service cannot listen.
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

        :raises CannotServe: the message is one line that says why.
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
        except Exception as error:  # an endpoint's parser may raise anything: for a missing file, an unknown option
            raise CannotServe(f"invalid endpoint {self._endpoint}: {error}") from None
        listening.addCallbacks(self._listens, refused.append)
        if refused:
            raise CannotServe(f"cannot listen on {self._endpoint}: {_reason(refused[0].value)}")

    def _resolved(self) -> IStreamServerEndpoint:
        if isinstance(self._endpoint, SocketEndpoint):
            return self._endpoint
        text = self._endpoint
        if _UNIX.match(text):
            # By default Twisted lets every user connect, and its lock file names a process: after a kill that number
            # may belong to another process, above all in a container.
            given = _ARGUMENT.findall(text)
            text += "".join(f":{name}={value}" for name, value in _UNIX_DEFAULTS.items() if name not in given)
        endpoint: IStreamServerEndpoint = serverFromString(self._reactor, text)
        if isinstance(endpoint, UNIXServerEndpoint):
            remove_stale(transports.unix_path(endpoint))
        return endpoint

    def _listens(self, port: IListeningPort) -> None:
        self._port = port
        self._site.origins.is_loopback = not self.is_exposed

    @property
    def is_exposed(self) -> bool:
        """Whether it listens where other machines, or other users, may reach it."""
        host = None if self._port is None else self._port.getHost()
        if isinstance(host, (IPv4Address, IPv6Address)):
            return not ip_address(host.host.partition("%")[0]).is_loopback
        return False

    def addresses(self) -> list[IAddress]:
        """The addresses that it listens on."""
        return [] if self._port is None else [self._port.getHost()]

    def address(self) -> str | None:
        """The address that it listens on, `host:port` or the path of a socket; None if it does not listen."""
        if self._port is None:
            return None
        return str(self._endpoint) if isinstance(self._endpoint, SocketEndpoint) else _readable(self._port.getHost())

    def url(self) -> str:
        """The address for a client on this machine: a URL, or `unix:` and the path of a socket."""
        if self._port is None:  # the endpoint does not listen yet
            return str(self._endpoint)
        host = self._port.getHost()
        if isinstance(host, UNIXAddress):
            return f"unix:{self.address()}"
        scheme = "https" if _TLS.match(str(self._endpoint)) else "http"
        if isinstance(host, (IPv4Address, IPv6Address)) and host.host in _LOCALHOST:
            return f"{scheme}://localhost:{host.port}{_LOCALHOST[host.host]}"
        return f"{scheme}://{self.address()}"

    def stopService(self) -> Deferred[None]:
        """Accept no connections, finish active requests, and abort those that take longer than `DRAIN_SECONDS`."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._port is not None:
            try:
                await maybeDeferred(self._port.stopListening)
            except OSError as error:  # the socket's directory has become read-only
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
"""Addresses that a client on this machine reaches as localhost, and a note on each for the log."""


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
        return os.fsdecode(address.name or b"").replace("\0", "@")  # an abstract socket
    return str(address)
