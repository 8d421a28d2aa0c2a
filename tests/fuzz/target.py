"""
What is fuzzed: the server's own front in this process, over every dialect, with a store in memory and a client whose
every move is read from the input.

The first bytes of an input say who is asked, how the bytes are cut, and how the client behaves; the rest is what it
sends. In that, 255 and a number stand for a piece of a request, so that changing a byte can change a header.

Whatever comes: nothing escapes, nothing is logged as a fault, all that is sent is a sequence of responses as h11 reads
them, every connection comes to an end, and nothing is left of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import h11
from twisted.logger import LogEvent, LogLevel, globalLogPublisher

from kvtwist.model import DATA, HISTORY, STAGED, Clear
from kvtwist.ops.access import FORMATS
from kvtwist.web.limits import WebLimits
from tests.support.dialects import DIALECTS
from tests.support.fronts import Fronted, responses, without_threads
from tests.support.requests import CHUNKED, HEADERS, KEY, LINES, corpus, cut_at
from tests.support.wire import head

SMALL, FINISH, WAIT, DRIBBLE, STOP = 1, 2, 4, 8, 16
"""How a client behaves: it reads little, it finishes sending, it waits, its socket takes little at a time. And a stop."""
LIMITS = WebLimits(head=4096, target=1024, head_seconds=3, body_seconds=3, idle_seconds=5)
_ENOUGH = 60.0
"""Seconds in which every connection is over."""

PIECES = [
    *(f"{line.format(k=KEY)}\r\n".encode("latin-1") for line in LINES.values()),
    *(f"{header}\r\n".encode("latin-1") for header in HEADERS),
    *(body.encode("latin-1") for body in CHUNKED),
    *(b"\r\n", b"Host: a\r\n", b"x" * 1000, b"PUT /", b" HTTP/1.1\r\nHost: a\r\n", b"/kv/", b"/keys", b"?limit=1"),
    *(head("GET", dialect.target(KEY)) for dialect in DIALECTS),
]


class Unexpected(Exception):
    """What must not happen has happened."""


class Target:
    """The fronts, which stay, and what they have told."""

    def __init__(self) -> None:
        self._faults: list[str] = []
        self._fronted = {dialect.profile: self._new(dialect.profile) for dialect in DIALECTS}

    def _new(self, profile: str) -> Fronted:
        formatted = FORMATS["json"]
        return Fronted(
            "own", [profile], LIMITS, [lambda request, route, seconds: formatted(request.exchange(route, seconds), 0.0)]
        )

    def _note(self, event: LogEvent) -> None:
        if event["log_level"] in (LogLevel.error, LogLevel.critical):
            self._faults.append(str(event.get("log_failure", event)))

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Hear of all that is logged as a fault."""
        globalLogPublisher.addObserver(self._note)  # type: ignore[arg-type]
        try:
            with without_threads():
                yield
        finally:
            globalLogPublisher.removeObserver(self._note)  # type: ignore[arg-type]

    def run(self, data: bytes) -> None:
        """
        Run an input.

        :raises Unexpected: what must not happen has happened.
        """
        who, cut, how, *_ = data[:3] + b"\0\0\0"
        profile = DIALECTS[who % len(DIALECTS)].profile
        sent = expanded(data[3:])
        fronted = self._fronted[profile]
        fronted.store.transact([], [Clear(DATA), Clear(STAGED), Clear(HISTORY)])
        fronted.methods.clear()
        peer = fronted.connect()
        peer.end.room = 500 if how & SMALL else None
        peer.end.at_most = 7 if how & DRIBBLE else None
        step = 1 + cut % 100
        peer.send(*(cut_at(sent, *range(step, len(sent), step)) if 0 < cut < 250 and len(sent) < 50 * step else [sent]))
        if how & WAIT:
            fronted.net.pass_time(4)
        if how & FINISH:
            peer.finish()
        if how & STOP:
            peer.protocol.finish_up()
            fronted.net.settle()
        if how & SMALL and not how & WAIT:
            peer.take(None)
        if peer.fate == "open":
            fronted.net.pass_time(_ENOUGH)
        else:
            peer.leave()
        self._check(fronted, peer.received, peer.end.closed, whole=not how & SMALL or peer.end.room is None)

    def _check(self, fronted: Fronted, received: bytes, closed: bool, whole: bool) -> None:
        faults = [*self._faults, *map(repr, fronted.net.faults)]
        self._faults.clear()
        fronted.net.faults.clear()
        if faults:
            raise Unexpected(f"faults: {faults}")
        left = fronted.in_flight.held, fronted.dispatcher.in_flight, len(fronted.net.calls) - 1
        if not closed or any(left):
            raise Unexpected(f"something is left: {left}, closed: {closed}")
        try:
            if whole:
                responses(received, fronted.methods)
        except (AssertionError, h11.RemoteProtocolError) as error:
            raise Unexpected(f"what was sent is no sequence of responses: {error!r}: {received!r}") from error


def expanded(data: bytes) -> bytes:
    """Put the pieces in."""
    found = bytearray()
    rest = iter(data)
    for byte in rest:
        if byte == 255:
            found += PIECES[next(rest, 0) % len(PIECES)]
        else:
            found.append(byte)
    return bytes(found)


def seeds() -> list[bytes]:
    """Inputs to begin with: the corpus, and the pieces."""
    found = [
        bytes((number, 0, 0)) + data
        for number, dialect in enumerate(DIALECTS)
        for data in corpus(dialect).values()
        if len(data) < 5000
    ]
    return [*found, *(bytes((2, 50, 0, 255, 0, 255, number, 255, number + 1, 13, 10)) for number in range(0, 200, 3))]
