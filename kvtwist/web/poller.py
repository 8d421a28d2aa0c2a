"""
A reactor within the reactor, for the sockets of connections alone.

Twisted's reactor looks up a log context for every event and calls what it is for through five functions, which takes as
long as reading and answering a short request. So it watches but one descriptor, an epoll of our own that watches the
connections, and their events are gone through in one loop: a *turn*. Connections remain Twisted's own, and so does all
that they do; they are given another `IReactorFDSet` to do it with.

A turn has three parts: all that has arrived is read; then it is handed to those it is for, who answer it; at the end,
all answers are sent. The first one wakes its client, and the others find it awake; and a processor that does the same
thing many times has at hand what it takes, which it has not when it goes to and fro between the kernel and Python.
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
"""Events of a turn. More of them, and those who asked first wait for long; fewer, and more is spent on turns."""
_READ = 64 * 1024


def can_poll(reactor: object) -> bool:
    """Whether there can be one within that reactor, on this platform."""
    return hasattr(select, "epoll") and IReactorFDSet.providedBy(reactor)


@implementer(IReactorFDSet, IReadDescriptor)
class Poller:
    """
    Watches transports: Twisted's own, of stream sockets.

    :param reactor: the one that it is within.
    :param poll_ended: called at the end of every turn.
    :ivar turning: whether a turn is under way.
    """

    connected = True
    disconnected = False

    def __init__(self, reactor: Any, poll_ended: Callable[[], None]) -> None:
        self.polling = False
        self._reactor = reactor
        self._turn_ended = poll_ended
        self._epoll: select.epoll | None = None
        self._watched: dict[int, tuple[Any, int]] = {}
        """What is watched, and for which events, by file descriptor."""

    def adopt(self, transport: Any) -> None:
        """Watch a connection in the reactor's place. Whatever it asks of its reactor it asks of this one now."""
        transport.stopReading()
        transport.reactor = self
        transport.startReading()

    def close(self) -> None:
        """Watch nothing any more; what is adopted later opens it again."""
        if self._epoll is not None:
            self._reactor.removeReader(self)
            self._epoll.close()
            self._epoll = None
            self._watched.clear()

    # --- what a connection asks of its reactor --------------------------------------------------------------------

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
        """See `IReactorTime`: connections that are aborted end a moment later."""
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

    # --- what the reactor asks of it ------------------------------------------------------------------------------

    def fileno(self) -> int:
        """See `IFileDescriptor`."""
        return -1 if self._epoll is None else self._epoll.fileno()

    def logPrefix(self) -> str:
        """See `ILoggingContext`."""
        return "connections"

    def connectionLost(self, reason: Failure) -> None:
        """Called by the reactor at its end, and if ever a turn fails: what is adopted later is watched again."""
        for descriptor in self.removeAll():
            self._lose(descriptor, reason, reading=False)
        self.close()
        self.polling = False

    def doRead(self) -> None:
        """One turn: called by the reactor when there are events."""
        assert self._epoll is not None
        self.polling = True
        arrived = []
        watched = self._watched
        for fd, event in self._epoll.poll(0, _MOST):
            found = watched.get(fd)
            if found is None:  # it has gone in this turn
                continue
            descriptor, awaited = found
            if event == _IN:
                try:
                    data = descriptor.socket.recv(_READ)
                except OSError:  # whatever it is, the descriptor will meet it and knows what to do
                    data = b""
                if data:
                    arrived.append((descriptor, data))
                    continue
            self._serve(descriptor, event, awaited)
        for descriptor, data in arrived:
            if not descriptor.connected:  # it has been hung up on in this turn
                continue
            try:
                descriptor.protocol.dataReceived(data)
            except Exception as error:
                log.failure("a connection has failed")
                self._lose(descriptor, Failure(error), reading=True)
        self.polling = False
        self._turn_ended()

    def _serve(self, descriptor: Any, event: int, awaited: int) -> None:
        """Let a descriptor do whatever there is to do."""
        why: Exception | None = None
        reading = bool(awaited & _IN and event != _OUT)
        try:
            if event & _IN:
                why = descriptor.doRead()
            elif event & ~_OUT:  # it is closed, and all that came before that has been read
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
        """End a connection, as Twisted's reactors do: one whose client has finished sending may still be sent to."""
        self.removeReader(descriptor)
        try:
            if reading and reason.check(ConnectionDone) and IHalfCloseableDescriptor.providedBy(descriptor):
                descriptor.readConnectionLost(reason)
            else:
                self.removeWriter(descriptor)
                descriptor.connectionLost(reason)
        except Exception:
            log.failure("a connection could not be ended")
