"""The poller: which events it watches, and how it handles those of each kind."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableDescriptor
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from kvtwist.web.poller import Poller


class FakeReactor(Clock):
    """The methods of a reactor that a poller uses."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        if reader in self.readers:
            self.readers.remove(reader)


class Descriptor:
    """A transport over one end of a socket pair, controlled by a test."""

    reactor: Any = None
    connected = True

    def __init__(self, case: SynchronousTestCase) -> None:
        self.socket, self.peer = socket.socketpair()
        self.socket.setblocking(False)
        self.protocol = self
        self.fileno = self.socket.fileno
        self.happened: list[str] = []
        self.outcome: Exception | None = None
        case.addCleanup(self.socket.close)
        case.addCleanup(self.peer.close)

    def doRead(self) -> Exception | None:
        try:
            data = self.socket.recv(100)
        except BlockingIOError:
            return None
        if data:
            self.dataReceived(data)
        return self.outcome or (None if data else ConnectionDone())

    def dataReceived(self, data: bytes) -> None:
        self.happened.append(f"read {data.decode()}")

    def doWrite(self) -> Exception | None:
        self.happened.append("write")
        self.reactor.removeWriter(self)
        return self.outcome

    def startReading(self) -> None:
        self.reactor.addReader(self)

    def stopReading(self) -> None:
        self.reactor.removeReader(self)

    def connectionLost(self, reason: Failure) -> None:
        self.happened.append(f"lost: {reason.type.__name__}")
        self.connected = False
        self.socket.close()


@implementer(IHalfCloseableDescriptor)
class HalfCloseable(Descriptor):
    def readConnectionLost(self, reason: Failure) -> None:
        self.happened.append("nothing more to read")

    def writeConnectionLost(self) -> None: ...


class PollerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.polls = 0
        self.poller = Poller(self.reactor, self.poll_ended)
        self.assertFalse(self.poller.polling)
        self.addCleanup(self.poller.close)

    def poll_ended(self) -> None:
        self.assertFalse(self.poller.polling)
        self.polls += 1

    def adopted(self, kind: type[Descriptor] = Descriptor) -> Descriptor:
        descriptor = kind(self)
        descriptor.reactor = self.reactor
        self.reactor.addReader(descriptor)
        self.poller.adopt(descriptor)
        return descriptor

    def test_the_reactor_watches_the_poller_and_the_poller_the_connections(self) -> None:
        first, second = self.adopted(), self.adopted()
        self.assertEqual(self.reactor.readers, [self.poller])
        self.assertCountEqual(self.poller.getReaders(), [first, second])
        self.assertGreater(self.poller.fileno(), 0)
        first.peer.send(b"1")
        second.peer.send(b"2")
        self.poller.doRead()
        self.assertEqual((first.happened, second.happened, self.polls), (["read 1"], ["read 2"], 1))
        self.poller.close()
        self.assertEqual((self.reactor.readers, self.poller.getReaders(), self.poller.fileno()), ([], [], -1))

    def test_it_can_be_closed_and_used_again(self) -> None:
        self.adopted()
        self.poller.close()
        self.poller.close()
        again = self.adopted()
        again.peer.send(b"1")
        self.poller.doRead()
        self.assertEqual(again.happened, ["read 1"])

    def test_a_transport_that_stopped_reading_is_not_read(self) -> None:
        descriptor = self.adopted()
        descriptor.peer.send(b"1")
        self.poller.removeReader(descriptor)
        self.poller.removeReader(descriptor)
        self.poller.doRead()
        self.assertEqual((descriptor.happened, self.poller.getReaders()), ([], []))
        self.poller.addReader(descriptor)
        self.poller.addReader(descriptor)
        self.poller.doRead()
        self.assertEqual(descriptor.happened, ["read 1"])

    def test_writing(self) -> None:
        descriptor = self.adopted()
        self.poller.addWriter(descriptor)
        self.assertEqual((self.poller.getReaders(), self.poller.getWriters()), ([descriptor], [descriptor]))
        descriptor.peer.send(b"1")
        self.poller.doRead()
        self.assertEqual(descriptor.happened, ["read 1", "write"])
        self.assertEqual((self.poller.getReaders(), self.poller.getWriters()), ([descriptor], []))
        self.poller.removeReader(descriptor)
        self.poller.addWriter(descriptor)
        self.poller.doRead()
        self.assertEqual(descriptor.happened, ["read 1", "write", "write"])

    def test_reading_or_writing_can_end_a_connection(self) -> None:
        for wants_to_write in (False, True):
            for outcome, lost in ((ConnectionDone(), "ConnectionDone"), (ConnectionLost(), "ConnectionLost")):
                descriptor = self.adopted()
                descriptor.outcome = outcome
                if wants_to_write:
                    self.poller.addWriter(descriptor)
                else:
                    descriptor.peer.shutdown(socket.SHUT_WR)
                self.poller.doRead()
                self.assertEqual(descriptor.happened[-1], f"lost: {lost}")
                self.assertEqual((self.poller.getReaders(), self.poller.getWriters()), ([], []))

    def test_a_client_that_has_finished_sending_can_be_sent_to(self) -> None:
        descriptor = self.adopted(HalfCloseable)
        self.poller.addWriter(descriptor)
        descriptor.outcome = ConnectionDone()
        descriptor.peer.shutdown(socket.SHUT_WR)
        self.poller.doRead()
        self.assertEqual(descriptor.happened, ["nothing more to read"])
        self.assertEqual((self.poller.getReaders(), self.poller.getWriters()), ([], [descriptor]))
        descriptor.outcome = ConnectionLost()
        self.poller.doRead()
        self.assertEqual(descriptor.happened[1:], ["write", "lost: ConnectionLost"])

    def test_a_client_that_is_only_sent_to_and_closes_is_lost(self) -> None:
        descriptor = self.adopted(HalfCloseable)
        self.poller.removeReader(descriptor)
        self.poller.addWriter(descriptor)
        descriptor.outcome = ConnectionLost()
        descriptor.peer.close()
        self.poller.doRead()
        self.assertEqual(descriptor.happened[-1], "lost: ConnectionLost")
        self.assertEqual(self.poller.getWriters(), [])

    def test_a_transport_that_is_done_after_sending_is_lost_whatever_it_has_read(self) -> None:
        descriptor = self.adopted(HalfCloseable)
        self.patch(descriptor, "doWrite", ConnectionDone)
        self.poller.addWriter(descriptor)
        descriptor.peer.send(b"1")
        self.poller.doRead()
        self.assertEqual(descriptor.happened, ["read 1", "lost: ConnectionDone"])

    def test_a_fault_while_one_is_lost_is_no_fault_of_the_others(self) -> None:
        def fail(reason: Failure) -> None:
            raise ZeroDivisionError

        bad, good = self.adopted(), self.adopted()
        self.patch(bad, "connectionLost", fail)
        bad.peer.close()
        good.peer.send(b"1")
        self.poller.doRead()
        self.assertEqual((good.happened, self.polls), (["read 1"], 1))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_reactor_that_has_given_it_up_is_asked_to_watch_it_again(self) -> None:
        self.adopted()
        self.reactor.removeReader(self.poller)
        self.poller.connectionLost(Failure(ConnectionLost()))
        again = self.adopted()
        self.assertEqual(self.reactor.readers, [self.poller])
        again.peer.send(b"1")
        self.poller.doRead()
        self.assertEqual(again.happened, ["read 1"])

    def test_a_fault_ends_one_connection_and_is_logged(self) -> None:
        good = self.adopted()

        def fail(*_: object) -> None:
            raise ZeroDivisionError

        for poll, name in enumerate(("dataReceived", "doWrite"), 1):
            bad = self.adopted()
            self.patch(bad, name, fail)
            if name == "doWrite":
                self.poller.addWriter(bad)
            good.peer.send(b"1")
            bad.peer.send(b"1")
            self.poller.doRead()
            self.assertEqual((bad.happened[-1], good.happened), ("lost: ZeroDivisionError", ["read 1"] * poll))
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
            self.assertEqual(self.polls, poll)

    def test_a_transport_that_is_lost_gets_no_more_events_of_the_poll(self) -> None:
        descriptors = [self.adopted() for _ in range(3)]

        def lose_all(data: bytes) -> None:
            for descriptor in descriptors:
                self.poller.removeReader(descriptor)
                descriptor.connectionLost(Failure(ConnectionLost()))

        for descriptor in descriptors:
            self.patch(descriptor, "dataReceived", lose_all)
            descriptor.peer.send(b"1")
        self.poller.doRead()
        self.assertEqual([descriptor.happened for descriptor in descriptors], [["lost: ConnectionLost"]] * 3)

    def test_an_event_without_data_is_left_to_the_transport(self) -> None:
        first, second = self.adopted(), self.adopted()
        first.peer.send(b"1")
        second.peer.send(b"2")
        receive = first.socket.recv

        def receive_both(size: int) -> bytes:
            second.socket.recv(100)
            return receive(size)

        self.patch(first, "socket", SimpleNamespace(recv=receive_both, close=first.socket.close))
        self.poller.doRead()
        self.assertEqual((first.happened, second.happened), (["read 1"], []))
        self.assertCountEqual(self.poller.getReaders(), [first, second])

    def test_a_poll_handles_a_limited_number_of_events(self) -> None:
        descriptors = [self.adopted() for _ in range(100)]
        for descriptor in descriptors:
            descriptor.peer.send(b"1")
        self.poller.doRead()
        self.assertLess(sum(len(descriptor.happened) for descriptor in descriptors), 100)
        while not all(descriptor.happened for descriptor in descriptors):
            self.poller.doRead()
        self.assertTrue(all(descriptor.happened == ["read 1"] for descriptor in descriptors))

    def test_the_end_of_the_reactor_is_that_of_all_connections(self) -> None:
        first, second = self.adopted(), self.adopted(HalfCloseable)
        self.poller.addWriter(second)
        self.poller.connectionLost(Failure(ConnectionLost()))
        self.assertEqual((first.happened, second.happened), (["lost: ConnectionLost"], ["lost: ConnectionLost"]))

    def test_a_poll_that_fails_is_over(self) -> None:
        def fail(timeout: float, most: int) -> None:
            raise OSError

        descriptor = self.adopted(HalfCloseable)
        epoll: Any = self.poller._epoll
        self.patch(self.poller, "_epoll", SimpleNamespace(poll=fail, unregister=epoll.unregister, close=epoll.close))
        self.assertRaises(OSError, self.poller.doRead)
        self.poller.connectionLost(Failure(ConnectionDone()))
        self.assertEqual((descriptor.happened, self.poller.polling), (["lost: ConnectionDone"], False))

    def test_time_is_the_reactors(self) -> None:
        called: list[int] = []
        self.poller.callLater(3, called.append, 1)
        self.reactor.advance(3)
        self.assertEqual(called, [1])
