"""The server's HTTP front over a store in memory and a `Net`, and its responses parsed by h11."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from unittest.mock import patch

import h11
from twisted.internet.task import Cooperator

from kvtwist.engine import Limits, Store
from kvtwist.engine.timeline import Timeline
from kvtwist.interfaces import IProfile
from kvtwist.profiles import PROFILES, Settings, _steps
from kvtwist.web.dispatch import Dispatcher, Observer, Request
from kvtwist.web.front import FrontSite
from kvtwist.web.limits import WebLimits
from kvtwist.web.request_memory import RequestMemory
from kvtwist.web.routing import Route
from tests.support.answer import Answer
from tests.support.net import Net, NetPoller, Peer
from tests.support.profiles import MAX_VALUE

_STEP = 4096


@contextmanager
def without_threads() -> Iterator[None]:
    """Run work in steps at once: the reactor, which would run the later steps, does not run."""
    hasty = Cooperator(lambda: lambda: False, lambda work: work())
    with patch.object(_steps, "cooperate", hasty.cooperate):
        yield


def memory_store(net: Net) -> Store:
    """An open store in memory."""
    store = Store(net, Timeline(net.seconds, net.seconds), None, Limits())  # type: ignore[arg-type]
    store.open()
    return store


def profiles_over(store: Store, profiles: Iterable[str | IProfile]) -> list[IProfile]:
    """Profiles over a store, made of their names; instances are returned as they are."""
    settings = Settings(max_value=MAX_VALUE)
    return [PROFILES[profile](store, settings) if isinstance(profile, str) else profile for profile in profiles]


class Fronted:
    """
    A front with its dispatcher and store.

    :cvar polled: whether it polls its connections itself.
    :ivar methods: the methods of all answered requests, in the order in which they ended.
    """

    polled = False

    def __init__(
        self,
        profiles: Sequence[str | IProfile] = ("lsfr",),
        limits: WebLimits | None = None,
        observers: Iterable[Observer] = (),
        max_in_flight: int = 2**27,
    ) -> None:
        self.net = Net()
        self.store = memory_store(self.net)
        self.methods: list[bytes] = []
        known = profiles_over(self.store, profiles)
        self.dispatcher = Dispatcher(known, self.net, [self._note, *observers])  # type: ignore[arg-type]
        self.memory = RequestMemory(max_in_flight)
        self.site = FrontSite(self.dispatcher, self.net, self.memory, limits)  # type: ignore[arg-type]
        if self.polled:
            self.site.poller = NetPoller(self.net, self.site._flush)
        self.site.startFactory()

    def _note(self, request: Request, route: Route, seconds: float) -> None:
        self.methods.append(request.method)

    def connect(self) -> Peer:
        """A new connection."""
        return self.net.connect(self.site)

    def ask(self, data: bytes) -> Peer:
        """A new connection on which these bytes are sent."""
        peer = self.connect()
        peer.send(data)
        return peer


def responses(data: bytes, methods: Iterable[bytes | str] = ()) -> list[Answer]:
    """
    All responses in the bytes that a server has sent, interim ones included.

    :param methods: of the requests; GET if there are more responses.
    :raises h11.RemoteProtocolError: the bytes are not a sequence of whole responses.
    """
    asked = iter(methods)
    answers: list[Answer] = []
    at = 0
    while at < len(data):
        found, at = _response(data, at, next(asked, b"GET"))
        answers += found
        closes = (answers[-1].header("connection") or "").lower() == "close"
        assert at == len(data) or not closes, f"bytes after the last response: {data[at:]!r}"
    return answers


def _response(data: bytes, at: int, method: bytes | str) -> tuple[list[Answer], int]:
    """A response, with the interim ones before it, and where the next one begins."""
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=2**20)
    asked = "HEAD" if method in (b"HEAD", "HEAD") else "GET"  # other methods do not affect the framing
    parser.send(h11.Request(method=asked, target="/", headers=[("Host", "localhost")]))
    parser.send(h11.EndOfMessage())
    answers = []
    body = b""
    head: h11.Response | None = None
    while True:
        event = parser.next_event()
        if event is h11.NEED_DATA:
            if at == len(data) and head is None and answers:
                return answers, at  # only `100 Continue` so far
            parser.receive_data(data[at : at + _STEP])
            at = min(at + _STEP, len(data))
        elif isinstance(event, h11.InformationalResponse):
            answers.append(Answer.parsed(event, b""))
        elif isinstance(event, h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            return [*answers, Answer.parsed(head, body)], at - len(parser.trailing_data[0])
        else:
            raise AssertionError(f"expected a response, got {event!r}")


def statuses(peer: Peer, methods: Iterable[bytes | str] = ()) -> list[int]:
    """The status of every response on a connection."""
    return [answer.status for answer in responses(peer.received, methods)]
