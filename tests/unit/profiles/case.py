"""A profile on a store whose clock and journal a test controls."""

from __future__ import annotations

from io import BytesIO
from typing import ClassVar

from klein import Response
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from werkzeug.exceptions import HTTPException

from kvtwist.model import DATA, JSON, Put
from kvtwist.profiles import PROFILES, Settings
from kvtwist.web.routing import Router
from tests.support.engine import Engine, EngineCase, FaultyDisk, SteppedWorker, result_of


class Request:
    """The part of a request that the handlers use."""

    conditional = False

    def __init__(self, method: bytes, uri: bytes, body: bytes = b"") -> None:
        self.method = method
        self.uri = uri
        self.content = BytesIO(body)

    def hold(self, size: int) -> None:
        """Do nothing: request memory is not tested here."""


class ProfileCase(EngineCase):
    """:ivar profile: its name."""

    profile: ClassVar[str]

    def make_engine(self) -> Engine:
        self.journal_jobs = SteppedWorker()
        return Engine(self.path / "store", disk=FaultyDisk(), journal=self.journal_jobs)

    def setUp(self) -> None:
        super().setUp()
        self.use(Settings())

    def use(self, settings: Settings) -> None:
        """Go on with other settings."""
        self.router = Router([PROFILES[self.profile](self.engine.store, settings)])

    def begin(self, method: str, target: str, body: bytes = b"") -> Deferred[Response]:
        """Send a request."""
        route, key = self.router.find(method.encode(), target)
        assert route.handler is not None
        request = Request(method.encode(), target.encode(), body)
        if key is None:
            return Deferred.fromCoroutine(route.called(request))
        return Deferred.fromCoroutine(route.handler(route.profile, request, key))

    def ask(self, method: str, target: str, body: bytes = b"") -> Response:
        """The response, once all is written to the journal."""
        return self.finished(self.begin(method, target, body))

    def finished(self, done: Deferred[Response]) -> Response:
        """The answer to a request that was begun."""
        for _ in range(1000):
            if done.called:
                break
            self.journal_jobs.finish()
            reactor.iterate(0)
        return result_of(done)

    def status(self, method: str, target: str, body: bytes = b"") -> int:
        """The status of the answer."""
        try:
            return self.ask(method, target, body).code
        except HTTPException as error:
            assert error.code is not None
            return error.code

    def put(self, *keys: str) -> None:
        """Write some keys."""
        self.engine.store.transact([], [Put(DATA, key.encode(), b"1", JSON) for key in keys])
        self.journal_jobs.finish()

    def keys(self) -> list[str]:
        """All that there are."""
        return [key.decode() for key, _ in self.engine.items()]
