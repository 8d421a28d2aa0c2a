"""A request that is answered piece by piece, as fast as the test says."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer

from tests.support.engine import result_of


class Request:
    """A request whose client takes a piece when the test says so; an `eager` one takes every piece at once."""

    conditional = False

    def __init__(self, uri: bytes = b"/keys", method: bytes = b"GET", eager: bool = True) -> None:
        self.uri = uri
        self.method = method
        self.headers: dict[str | bytes, str | bytes] = {}
        self.pieces: list[bytes] = []
        self.written = 0
        self.held: list[int] = []
        self.hold = self.held.append
        self._eager = eager
        self._producer: IPushProducer | None = None

    def setHeader(self, name: str | bytes, value: str | bytes) -> None:
        self.headers[name] = value

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        assert streaming
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def write(self, piece: bytes) -> None:
        self.pieces.append(piece)
        self.written += len(piece)
        if not self._eager:
            assert self._producer is not None
            self._producer.pauseProducing()

    def take(self) -> None:
        """Let the client take the last piece."""
        self.pieces.clear()
        assert self._producer is not None
        self._producer.resumeProducing()

    @property
    def streaming(self) -> bool:
        return self._producer is not None


def finished(deferred: Deferred[Any]) -> Any:
    """The result of a handler; the reactor iterates as often as the handler needs."""
    for _ in range(1000):
        if deferred.called:
            break
        reactor.iterate(0)
    return result_of(deferred)
