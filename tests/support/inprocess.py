"""The whole service inside the test's own reactor, and treq to talk to it: for ordinary requests."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping
from typing import Any

from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.task import deferLater
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH

from kvtwist.interfaces import IStore
from kvtwist.profiles.native import Native
from kvtwist.tap import Options, makeService
from tests.support.answer import Answer, checked
from tests.support.server import PATIENCE


class Client:
    """
    Asks one server, over connections that stay open.

    :ivar base: its URL.
    """

    def __init__(self, service: Any, address: Any) -> None:
        self._service = service
        self.base = f"http://{address.host}:{address.port}"
        self._pool = HTTPConnectionPool(reactor)
        self._treq = HTTPClient(Agent(reactor, pool=self._pool))

    async def __call__(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request whose target needs no special care, and receive all of the response."""
        sent = Headers({name: [value] for name, value in (headers or {}).items()})
        response = await self._treq.request(method, self.base + target, data=body, headers=sent, allow_redirects=False)
        pairs = tuple(
            (name.decode("ascii").lower(), value.decode("latin-1"))
            for name, values in response.headers.getAllRawHeaders()
            for value in values
        )
        length = None if response.length is UNKNOWN_LENGTH or response.code in (204, 304) else response.length
        return checked(Answer(response.code, pairs, await response.content(), length))

    async def watch(self, query: str = "", headers: Mapping[str, str] | None = None) -> Any:
        """
        Begin a watch; returns treq's response. `deliverBody` of its `original` delivers the stream; closing the
        transport of that protocol ends it.
        """
        sent = Headers({name: [value] for name, value in (headers or {}).items()})
        return await self._treq.request("GET", f"{self.base}/v1/watch{query}", headers=sent, unbuffered=True)

    def store(self) -> IStore:
        """The server's store."""
        [native] = [p for p in self._service._http._site.dispatcher.router.profiles if isinstance(p, Native)]
        return native._store

    def active_requests(self) -> int:
        """How many requests the server is answering."""
        active: int = self._service._http._site.dispatcher.active_requests
        return active

    async def stop(self) -> None:
        """Stop the service as twistd would, and close all connections."""
        await self._pool.closeCachedConnections()
        await (self._service.stopService() or succeed(None))


async def start(*arguments: str) -> Client:
    """Start the service that the command line would start, on a free port, and return when it listens."""
    options = Options()
    options.parseOptions(["--port", "0", *arguments])
    service = makeService(options)
    service.privilegedStartService()
    service.startService()
    await _listening(service)
    return Client(service, service.addresses()[0])


async def at_once(requests: Iterable[Coroutine[Deferred[Any], Any, Answer]]) -> list[Answer]:
    """Send requests without waiting for each other's answers, and receive all of them."""
    answers: list[Answer] = await gatherResults([Deferred.fromCoroutine(request) for request in requests])
    return answers


async def _listening(service: Any) -> None:
    deadline = reactor.seconds() + PATIENCE
    while not service.addresses():
        assert reactor.seconds() < deadline, "the service does not listen"
        await deferLater(reactor, 0)
