"""Each phase of a connection times each event: the table at the top of `kvtwist.web.connection`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from tests.support.fronts import Fronted, statuses
from tests.support.net import Peer
from tests.support.wire import head
from tests.unit.web.probe import Probe, probed

BODY: Final = head("PUT", "/echo", "Content-Length: 10") + b"12345"
LIMIT: Final = 2**22

STATES: Final[dict[str, tuple[bytes, str]]] = {
    "nothing came": (b"", "reading"),
    "a head": (b"GET", "reading"),
    "a body": (BODY, "reading"),
    "answering": (head("GET", "/wait/a"), "answering"),
    "closing": (b"BAD\r\n\r\n", "closing"),
    "nothing came, blocked": (head("GET", "/large"), "reading"),
    "answering, blocked": (head("GET", "/stream"), "answering"),
    "closing, blocked": (head("GET", "/large", "Connection: close"), "closing"),
}
"""What a client sends to bring a connection into a state, and the phase that this is."""


def no_memory(fronted: Fronted, peer: Peer) -> None:
    """Let a byte arrive that cannot be kept."""
    fronted.memory.take(LIMIT - fronted.memory.held)
    peer.send(b"1")


def answered(fronted: Fronted, peer: Peer) -> None:
    """Let the handler that waits go on."""
    [probe] = fronted.dispatcher.router.profiles
    assert isinstance(probe, Probe)
    probe.waiting.pop("a").callback(b"")
    fronted.net.settle()


EVENTS: Final[dict[str, Callable[[Fronted, Peer], object]]] = {
    "a byte": lambda fronted, peer: peer.send(b"\r"),
    "a fault": lambda fronted, peer: peer.send(b"\0\r\n\r\n"),
    "answered": answered,
    "unblocked": lambda fronted, peer: peer.take(None),
    "finish": lambda fronted, peer: peer.finish(),
    "deadline": lambda fronted, peer: fronted.net.pass_time(62),
    "drain": lambda fronted, peer: (fronted.site.drain(), fronted.net.settle()),
    "no memory": no_memory,
    "abort": lambda fronted, peer: (peer.protocol.abort(), fronted.net.settle()),
    "leave": lambda fronted, peer: peer.leave(),
}

EXPECTED: Final[dict[str, dict[str, tuple[str, str, list[int]]]]] = {
    "nothing came": {
        "a byte": ("reading", "open", []),
        "a fault": ("closing", "half", [400]),
        "finish": ("gone", "closed", []),
        "deadline": ("gone", "closed", []),
        "drain": ("gone", "closed", []),
        "no memory": ("closing", "half", [503]),
        "abort": ("gone", "reset", []),
        "leave": ("gone", "closed", []),
    },
    "a head": {
        "a byte": ("closing", "half", [400]),
        "a fault": ("closing", "half", [400]),
        "finish": ("gone", "closed", []),
        "deadline": ("gone", "reset", [408]),
        "drain": ("reading", "open", []),
        "no memory": ("closing", "half", [503]),
        "abort": ("gone", "reset", []),
        "leave": ("gone", "closed", []),
    },
    "a body": {
        "a byte": ("reading", "open", []),
        "finish": ("gone", "closed", []),
        "deadline": ("gone", "reset", [408]),
        "drain": ("reading", "open", []),
        "no memory": ("closing", "half", [503]),
        "abort": ("gone", "reset", []),
        "leave": ("gone", "closed", []),
    },
    "answering": {
        "a byte": ("answering", "open", []),
        "a fault": ("answering", "open", []),
        "answered": ("reading", "open", [200]),
        "finish": ("gone", "closed", []),
        "deadline": ("answering", "open", []),
        "drain": ("answering", "open", []),
        "no memory": ("gone", "reset", []),
        "abort": ("gone", "reset", []),
        "leave": ("gone", "closed", []),
    },
    "closing": {
        "a byte": ("closing", "half", [400]),
        "a fault": ("closing", "half", [400]),
        "finish": ("gone", "closed", [400]),
        "deadline": ("gone", "reset", [400]),
        "drain": ("closing", "half", [400]),
        "no memory": ("closing", "half", [400]),
        "abort": ("gone", "reset", [400]),
        "leave": ("gone", "closed", [400]),
    },
    "nothing came, blocked": {
        "a byte": ("reading", "open", []),
        "a fault": ("reading", "open", []),
        "unblocked": ("reading", "open", [200]),
        "finish": ("closing", "open", []),
        "deadline": ("gone", "reset", []),
        "drain": ("closing", "open", []),
        "no memory": ("gone", "reset", []),
        "abort": ("gone", "reset", []),
        "leave": ("gone", "closed", []),
    },
    "answering, blocked": {
        "a byte": ("answering", "open", []),
        "a fault": ("answering", "open", []),
        "unblocked": ("reading", "open", [200]),
        "finish": ("closing", "open", []),
        "deadline": ("gone", "reset", []),
        "drain": ("answering", "open", []),
        "no memory": ("gone", "reset", []),
        "abort": ("gone", "reset", []),
        "leave": ("gone", "closed", []),
    },
    "closing, blocked": {
        "a byte": ("closing", "open", []),
        "a fault": ("closing", "open", []),
        "unblocked": ("gone", "closed", [200]),
        "finish": ("closing", "open", []),
        "deadline": ("gone", "reset", []),
        "drain": ("closing", "open", []),
        "no memory": ("closing", "open", []),
        "abort": ("gone", "reset", []),
        "leave": ("gone", "closed", []),
    },
}
"""By state and event: the phase after it, the client's view of the connection, and the statuses that were sent."""


class PhaseTests(SynchronousTestCase):
    def begin(self, state: str) -> tuple[Fronted, Peer]:
        sent, phase = STATES[state]
        _, fronted = probed(max_in_flight=LIMIT)
        peer = fronted.connect()
        peer.take(0 if state.endswith("blocked") else None)
        peer.send(sent)
        self.assertEqual(peer.protocol._phase.value, phase, state)
        return fronted, peer

    def test_each_event_in_each_state(self) -> None:
        for state, events in EXPECTED.items():
            for event, expected in events.items():
                fronted, peer = self.begin(state)
                EVENTS[event](fronted, peer)
                got = statuses(peer) if peer.end.room is None else []
                self.assertEqual((peer.protocol._phase.value, peer.fate, got), expected, f"{state}: {event}")
                self.assertEqual(fronted.net.faults, [])
                self.assertIs(peer.end.closed, not fronted.site._connections)

    def test_the_table_has_each_event_that_can_happen(self) -> None:
        for state, events in EXPECTED.items():
            missing = set(EVENTS) - set(events)
            self.assertLessEqual(missing, {"a fault", "answered", "unblocked"}, state)
            self.assertEqual("unblocked" in events, state.endswith("blocked"), state)
            self.assertEqual("answered" in events, state == "answering", state)
