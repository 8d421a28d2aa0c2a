"""
What is fuzzed: the server's own front in this process, over every profile, with a store in memory and a client whose
every move is read from the input.

The first bytes of an input say who is asked, how the bytes are cut, and how the client behaves; the rest is what it
sends. In that, 255 and a number stand for a piece of a request, so that changing a byte can change a header.

Whatever comes: nothing escapes, nothing is logged as a fault, all that is sent is a sequence of responses as h11 reads
them, every connection comes to an end, and nothing is left of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import h11
from twisted.logger import LogEvent, LogLevel, globalLogPublisher

from kvtwist.model import DATA, HISTORY, STAGED, Clear
from kvtwist.ops.access import FORMATS
from kvtwist.web.heads import BadHead, Head, HeadReader
from kvtwist.web.limits import WebLimits
from kvtwist.web.refusal import Refused
from kvtwist.web.routing import Route, Router
from tests.support.fronts import Fronted, responses, without_threads
from tests.support.net import Peer
from tests.support.profiles import ALL_PROFILES
from tests.support.requests import CHUNKED, HEADERS, KEY, LINES, corpus, cut_at
from tests.support.wire import head

SMALL, FINISH, WAIT, DRIBBLE, STOP, POLL, SECOND = 1, 2, 4, 8, 16, 32, 64
"""
How a client behaves: it reads little, it finishes sending, it waits, its socket takes little at a time. And a stop;
whether the front watches its connections itself; and whether there is a second client, who asks at the same time.
"""
LIMITS = WebLimits(head=4096, target=1024, head_seconds=3, body_seconds=3, idle_seconds=5)
_ENOUGH = 60.0
"""Seconds in which every connection is over."""

PIECES = [
    *(f"{line.format(k=KEY)}\r\n".encode("latin-1") for line in LINES.values()),
    *(f"{header}\r\n".encode("latin-1") for header in HEADERS),
    *(body.encode("latin-1") for body in CHUNKED),
    *(b"\r\n", b"Host: a\r\n", b"x" * 1000, b"PUT /", b" HTTP/1.1\r\nHost: a\r\n", b"/kv/", b"/keys", b"?limit=1"),
    *(head("GET", profile.target(KEY)) for profile in ALL_PROFILES),
    *(b"PUT /v1/kv/key", b"GET /v1/kv", b"POST /v1/txn", b"DELETE /v1/kv?", b"prefix=k", b"&all=true", b"&limit=1"),
    *(b"If-None-Match: *\r\n", b"If-Match: *\r\n", b"Range: bytes=1-\r\n", b"Accept: application/x-ndjson\r\n"),
    *(b"Content-Type: application/json\r\n", b"Content-Type: a/b\r\n", b"?ttl=1", b"&return=previous"),
    *(b'{"if":[', b'{"key":"key","exists":true}', b'],"then":[', b'{"put":{"key":"key","value":""}}', b'],"else":['),
    *(b'{"delete":{"key":"key"}}', b'{"get":{"key":"key"}}', b'{"range":{}}', b',"revision":0', b',"value_base64":'),
]


class Unexpected(Exception):
    """What must not happen has happened."""


class Doubtful(HeadReader):
    """Reads every head twice: with what is remembered, and as if it were the first one."""

    def __init__(self, router: Router) -> None:
        super().__init__(router)
        self._router = router

    def read(self, data: bytes) -> Head:
        """See `HeadReader.read`."""
        found = _read(super().read, data)
        self._compare(found, data)
        if found is None:
            raise BadHead
        return found

    def read_request(self, data: bytes) -> tuple[Head, bytes] | None:
        """See `HeadReader.read_request`."""
        found = super().read_request(data)
        if found is not None:
            head, body = found
            self._compare(head, data.removesuffix(body))
            if head[2].length != len(body):
                raise Unexpected(f"{data!r} has a body of {len(body)} bytes")
        return found

    def _compare(self, found: Head | None, data: bytes) -> None:
        first = _read(HeadReader(self._router).read, data)
        if found is None and first is None:
            return
        if not (found and first) or (*found[:3], found[3][1]) != (*first[:3], first[3][1]):
            raise Unexpected(f"{data!r} is {found}, and would have been {first} at first")


def _read(read: Callable[[bytes], Head], data: bytes) -> Head | None:
    try:
        return read(data)
    except BadHead:
        return None


class Polled(Fronted):
    """With a front that watches its connections itself."""

    polled = True


class Target:
    """The fronts, which stay, and what they have told."""

    def __init__(self) -> None:
        self._faults: list[str] = []
        self._methods: dict[object, list[bytes]] = {}
        self._fronted = [[self._new(kind, profile.name) for profile in ALL_PROFILES] for kind in (Fronted, Polled)]

    def _new(self, kind: type[Fronted], profile: str) -> Fronted:
        fronted = kind([profile], LIMITS, [self._over])
        fronted.site.heads = Doubtful(fronted.dispatcher.router)
        return fronted

    def _over(self, request: Any, route: Route, seconds: float) -> None:
        exchange = request.exchange(route, seconds)
        for name, lines in FORMATS.items():
            assert len(lines([exchange]).splitlines()) == 1, f"not a line of the access log: {name}"
        if not isinstance(request, Refused):
            self._methods.setdefault(request._connection, []).append(request.method)

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
        sent = expanded(data[3:])
        fronts, number = self._fronted[bool(how & POLL)], who % len(ALL_PROFILES)
        fronted = fronts[number]
        fronted.store.transact([], [Clear(DATA), Clear(STAGED), Clear(HISTORY)])
        fronted.methods.clear()
        self._methods.clear()
        peers = [fronted.connect() for _ in range(2 if how & SECOND else 1)]
        peer = peers[0]
        peer.end.room = 500 if how & SMALL else None
        peer.end.at_most = 7 if how & DRIBBLE else None
        step = 1 + cut % 100
        pieces = cut_at(sent, *range(step, len(sent), step)) if 0 < cut < 250 and len(sent) < 50 * step else [sent]
        for count, piece in enumerate(pieces, 1):
            if how & SMALL and not how & WAIT and count == len(pieces):
                peer.end.room = None  # and it reads again at the moment at which it sends
            for other in peers[1:]:
                other.end.arrived += piece  # and is read when the piece of the first one is
            peer.send(piece)
        if how & WAIT:
            fronted.net.pass_time(4)
        if how & FINISH:
            peer.finish()
        if how & STOP:
            fronted.site.drain()
            fronted.net.settle()
        if any(one.protocol.outbox._pieces for one in peers):
            raise Unexpected("an answer is there, and nobody sends it")
        if peer.fate == "open":
            fronted.net.pass_time(_ENOUGH)
        else:
            for one in peers:
                one.leave()
        self._check(fronted, peers)
        if how & STOP:
            fronts[number] = self._new(type(fronted), ALL_PROFILES[number].name)

    def _check(self, fronted: Fronted, peers: list[Peer]) -> None:
        faults = [*self._faults, *map(repr, fronted.net.faults)]
        self._faults.clear()
        fronted.net.faults.clear()
        if faults:
            raise Unexpected(f"faults: {faults}")
        left = (
            fronted.memory.held,
            fronted.dispatcher.active_requests,
            len(fronted.net.calls) - (not fronted.site.draining),
        )
        closed = [peer.end.closed for peer in peers]
        if not all(closed) or any(left):
            raise Unexpected(f"something is left: {left}, closed: {closed}")
        if any(peer.end.reset and peer.end.room is None and not peer.end.finished for peer in peers):
            raise Unexpected("a client that has read everything is closed")
        for peer in peers:
            try:
                if peer.end.room is None:
                    responses(peer.received, self._methods.get(peer.protocol, []))
            except (AssertionError, h11.RemoteProtocolError) as error:
                received = peer.received
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
    """Inputs to begin with: the corpus, answers that nobody reads at first, and the pieces."""
    found = [
        bytes((number, 0, 0)) + data
        for number, profile in enumerate(ALL_PROFILES)
        for data in corpus(profile).values()
        if len(data) < 5000
    ]
    found += [bytes((seed[0], 0, POLL | SECOND)) + seed[3:] for seed in found]
    unread = head("GET", "/") * 8 + head("GET", "/", "Connection: close")
    found += [bytes((number, 60, SMALL | POLL)) + unread for number in range(len(ALL_PROFILES))]
    return [*found, *(bytes((2, 50, 0, 255, 0, 255, number, 255, number + 1, 13, 10)) for number in range(0, 200, 3))]
