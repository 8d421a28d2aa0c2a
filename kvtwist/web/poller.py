"""
An epoll within the reactor that watches the sockets of connections.

For every event, Twisted's reactor looks up a log context and goes through five function calls, which takes as long as
reading and answering a short request. So the reactor watches one descriptor only, our own epoll; that watches the
connections, and one loop handles all their events: a *poll*. Connections remain Twisted's transports; they get this
`IReactorFDSet` in place of the reactor's.

A poll has three parts: first all that has arrived is received, then each connection handles its bytes, at the end all
responses are sent. Batches keep the processor's caches warm, which alternating between the kernel and Python does not,
and a client that several responses wake finds them all at once.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableDescriptor,
    IReactorFDSet,
    IReadDescriptor,
    IWriteDescriptor,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

log = Logger(namespace="kvtwist.web")

_IN = 0x001
_OUT = 0x004
_MOST = 64
"""Events of one poll. With more, the first clients wait longer for their responses; with fewer, polls cost more."""
_READ = 64 * 1024


def can_poll(reactor: object) -> bool:
    """Whether a `Poller` works within that reactor, on this platform."""
    return hasattr(select, "epoll") and IReactorFDSet.providedBy(reactor)


@implementer(IReactorFDSet, IReadDescriptor)
class Poller:
    """
    Watches Twisted's transports of stream sockets.

    :param reactor: watches the epoll.
    :param poll_ended: called at the end of every poll.
    :ivar polling: whether a poll is under way.
    """

    connected = True
    disconnected = False

    def __init__(self, reactor: Any, poll_ended: Callable[[], None]) -> None:
        self.polling = False
        self._reactor = reactor
        self._turn_ended = poll_ended
        self._epoll: select.epoll | None = None
        self._watched: dict[int, tuple[Any, int]] = {}
        """Each transport and the events it waits for, by file descriptor."""

    def adopt(self, transport: Any) -> None:
        """Watch a connection in the reactor's place: the transport uses this `IReactorFDSet` from now on."""
        transport.stopReading()
        transport.reactor = self
        transport.startReading()

    def close(self) -> None:
        """Watch nothing any more, until another connection is adopted."""
        if self._epoll is not None:
            self._reactor.removeReader(self)
            self._epoll.close()
            self._epoll = None
            self._watched.clear()

    # --- called by transports, as a reactor -----------------------------------------------------------------------

    def addReader(self, reader: IReadDescriptor) -> None:
        """See `IReactorFDSet`."""
        self._watch(reader, _IN, 0)

    def addWriter(self, writer: IWriteDescriptor) -> None:
        """See `IReactorFDSet`."""
        self._watch(writer, _OUT, 0)

    def removeReader(self, reader: IReadDescriptor) -> None:
        """See `IReactorFDSet`."""
        self._watch(reader, 0, _IN)

    def removeWriter(self, writer: IWriteDescriptor) -> None:
        """See `IReactorFDSet`."""
        self._watch(writer, 0, _OUT)

    def removeAll(self) -> list[IReadDescriptor | IWriteDescriptor]:
        """See `IReactorFDSet`."""
        watched = [descriptor for descriptor, _ in self._watched.values()]
        for descriptor in watched:
            self._watch(descriptor, 0, _IN | _OUT)
        return [*watched]

    def getReaders(self) -> list[IReadDescriptor]:
        """See `IReactorFDSet`."""
        return [descriptor for descriptor, events in self._watched.values() if events & _IN]

    def getWriters(self) -> list[IWriteDescriptor]:
        """See `IReactorFDSet`."""
        return [descriptor for descriptor, events in self._watched.values() if events & _OUT]

    def callLater(self, delay: float, function: Callable[..., Any], *args: Any, **kwargs: Any) -> IDelayedCall:
        """See `IReactorTime`: transports end aborted connections by it."""
        later: IDelayedCall = self._reactor.callLater(delay, function, *args, **kwargs)
        return later

    def _watch(self, descriptor: Any, add: int, remove: int) -> None:
        fd = descriptor.fileno()
        _, before = self._watched.get(fd, (None, 0))
        events = (before | add) & ~remove
        if events == before:
            return
        if self._epoll is None:
            self._epoll = select.epoll()
            self._reactor.addReader(self)
        if not events:
            del self._watched[fd]
            self._epoll.unregister(fd)
            return
        if before:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._watched[fd] = descriptor, events

    # --- called by the reactor, as a descriptor -------------------------------------------------------------------

    def fileno(self) -> int:
        """See `IFileDescriptor`."""
        return -1 if self._epoll is None else self._epoll.fileno()

    def logPrefix(self) -> str:
        """See `ILoggingContext`."""
        return "connections"

    def connectionLost(self, reason: Failure) -> None:
        """Called by the reactor when it stops, and if a poll fails. Connections may be adopted again after that."""
        for descriptor in self.removeAll():
            self._lose(descriptor, reason, reading=False)
        self.close()
        self.polling = False

    def doRead(self) -> None:
        """Do one poll; called by the reactor when there are events."""
        assert self._epoll is not None
        self.polling = True
        arrived = []
        watched = self._watched
        for fd, event in self._epoll.poll(0, _MOST):
            found = watched.get(fd)
            if found is None:  # closed earlier in this poll
                continue
            descriptor, awaited = found
            if event == _IN:
                try:
                    data = descriptor.socket.recv(_READ)
                except OSError:  # the transport will get the same error, and handle it
                    data = b""
                if data:
                    arrived.append((descriptor, data))
                    continue
            self._serve(descriptor, event, awaited)
        for descriptor, data in arrived:
            if not descriptor.connected:  # closed earlier in this poll
                continue
            try:
                descriptor.protocol.dataReceived(data)
            except Exception as error:
                log.failure("a connection has failed")
                self._lose(descriptor, Failure(error), reading=True)
        self.polling = False
        self._turn_ended()

    def _serve(self, descriptor: Any, event: int, awaited: int) -> None:
        """Let a transport handle an event that is not just bytes to be read."""
        why: Exception | None = None
        reading = bool(awaited & _IN and event != _OUT)
        try:
            if event & _IN:
                why = descriptor.doRead()
            elif event & ~_OUT:  # closed, and all that came before was read
                why = ConnectionDone() if reading else ConnectionLost()
            if why is None and event & _OUT and descriptor.fileno() != -1:
                reading = False
                why = descriptor.doWrite()
        except Exception as error:
            log.failure("a connection has failed")
            why = error
        if why is not None:
            self._lose(descriptor, Failure(why), reading)

    def _lose(self, descriptor: Any, reason: Failure, reading: bool) -> None:
        """End a connection as Twisted's reactors do: a client that has finished sending can still be sent to."""
        self.removeReader(descriptor)
        try:
            if reading and reason.check(ConnectionDone) and IHalfCloseableDescriptor.providedBy(descriptor):
                descriptor.readConnectionLost(reason)
            else:
                self.removeWriter(descriptor)
                descriptor.connectionLost(reason)
        except Exception:
            log.failure("a connection could not be ended")
