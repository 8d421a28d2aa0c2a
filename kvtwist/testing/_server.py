"""A server of the native profile within a test's process."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred

from kvtwist.client import Client
from kvtwist.engine import Store
from kvtwist.engine.timeline import Timeline
from kvtwist.profiles import PROFILES, Settings
from kvtwist.testing._pairs import agent_of
from kvtwist.testing._time import ManualTime
from kvtwist.web import Dispatcher, FrontSite
from kvtwist.web.request_memory import RequestMemory

_REQUEST_MEMORY = 128 * 2**20


class MemoryServer:
    """
    A store in memory, empty, and a server of its native profile. It serves at once, and until `stop`.

    :ivar site: Twisted's factory of the server's connections.
    """

    def __init__(
        self, *, time: ManualTime | None = None, settings: Settings | None = None, reactor: Any = None
    ) -> None:
        """
        :param time: by which keys expire and clients wait; else the time is real.
        :param settings: the limits of the profile.
        :param reactor: Twisted's, if it is not given.
        """
        if reactor is None:
            from twisted.internet import reactor
        self._reactor: Any = reactor
        self._clock: Any = time or reactor
        timeline = Timeline() if time is None else Timeline(time.seconds, time.seconds)
        self._store = Store(self._clock, timeline)
        self._store.open()
        self._store.start()
        profile = PROFILES["native"](self._store, settings or Settings())
        self.site = FrontSite(Dispatcher([profile], self._clock), self._clock, RequestMemory(_REQUEST_MEMORY))
        self.site.doStart()
        self._ports: list[Any] = []
        self._stopped: Deferred[None] | None = None

    def client(self, **options: Any) -> Client:
        """A client of it, over pairs of sockets, without a port; :param options: of `Client`."""
        return Client("http://memory", reactor=self._clock, agent=agent_of(self._reactor, self.site), **options)

    def listen(self, port: int = 0) -> str:
        """Serve on a port of 127.0.0.1 as well, a free one for 0; returns the URL."""
        self._ports.append(self._reactor.listenTCP(port, self.site, interface="127.0.0.1"))
        return f"http://127.0.0.1:{self._ports[-1].getHost().port}"

    def cut(self) -> None:
        """Close all connections, in the middle of what they are doing: clients have to come again."""
        self.site.abort_all()

    def stop(self) -> Deferred[None]:
        """Close everything; fires when nothing is left."""
        if self._stopped is None:
            self._stopped = Deferred.fromCoroutine(self._stop())
        return self._stopped

    async def _stop(self) -> None:
        for port in self._ports:
            await maybeDeferred(port.stopListening)
        self.site.doStop()
        drained = self.site.drain()
        self.site.abort_all()
        await drained
        await self._store.close()

    async def __aenter__(self) -> MemoryServer:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
