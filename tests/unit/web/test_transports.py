"""What is read of Twisted's transports: how much they have not sent, and how much a client has not taken."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.trial.unittest import SynchronousTestCase

from kvtwist.web import transports


class Lowest(SimpleNamespace):
    """A transport with a socket."""

    def __init__(self, **attributes: Any) -> None:
        values = {"dataBuffer": b"12345", "offset": 2, "_tempDataLen": 40, "producer": self, "producerPaused": False}
        super().__init__(**{**values, **attributes})
        self.pauses = 0

    def pauseProducing(self) -> None:
        self.pauses += 1


def wrapped(transport: object) -> ProtocolWrapper:
    """A layer over a transport."""
    layer = ProtocolWrapper(WrappingFactory(Factory.forProtocol(Protocol)), Protocol())
    layer.transport = transport
    return layer


class TransportTests(SynchronousTestCase):
    def test_twisted_has_the_attributes(self) -> None:
        transports.check()

    def test_what_is_unsent_is_what_the_lowest_layer_has(self) -> None:
        self.assertEqual(transports.unsent(Lowest()), 43)
        self.assertEqual(transports.unsent(wrapped(wrapped(Lowest(offset=5)))), 40)

    def test_what_is_untaken_is_in_the_kernel_as_well(self) -> None:
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            self.addCleanup(end.close)
        transport = wrapped(Lowest(socket=ours))
        self.assertEqual(transports.untaken(transport), 43)
        ours.send(b"x" * 1000)
        self.assertGreaterEqual(transports.untaken(transport), 1043)
        theirs.recv(1000)
        self.assertEqual(transports.untaken(transport), 43)
        ours.close()
        self.assertEqual(transports.untaken(transport), 43)

    def test_a_producer_is_paused_once_while_anything_is_unsent(self) -> None:
        for transport, pauses in (
            (Lowest(), 1),
            (Lowest(producerPaused=True), 0),
            (Lowest(dataBuffer=b"", offset=0, _tempDataLen=0), 0),
            (Lowest(producer=None), 0),
        ):
            for _ in range(2):
                transports.pause_if_unsent(transport)
                transports.pause_if_unsent(wrapped(transport))
            self.assertEqual(transport.pauses, pauses)
