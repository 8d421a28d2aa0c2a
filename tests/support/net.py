"""
A reactor without a kernel: a test controls the other end of each connection, and the clock.

The transport is Twisted's own, over a socket that consists of a few buffers. So pausing and resuming producers, closing
after unsent bytes, half-closing and aborting are Twisted's. This module replaces the kernel: how much a `send` takes,
whether anything can be read, when a connection is lost, and the events of an epoll.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Callable
from itertools import count
from typing import Any
from weakref import WeakValueDictionary

from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.posixbase import _DisconnectSelectableMixin
from twisted.internet.task import Clock
from twisted.internet.tcp import Server

from kvtwist.web.poller import Poller

_RESET = struct.pack("ii", 1, 0)
EPOCH = 1_700_000_000.0
_IN, _OUT, _ERR, _HUP = 1, 4, 8, 16
_numbers = count(2**24)  # the kernel gives none as large
_by_number: WeakValueDictionary[int, FakeSocket] = WeakValueDictionary()


class FakeSocket:
    """
    The server's end.

    :ivar room: how many more bytes the client takes; None for any number.
    :ivar at_most: how many bytes one `send` takes.
    """

    def __init__(self) -> None:
        self._number = next(_numbers)
        _by_number[self._number] = self
        self.arrived = bytearray()
        self.sent = bytearray()
        self.options: list[tuple[int, int, int | bytes]] = []
        self.room: int | None = None
        self.at_most: int | None = None
        self.sends = 0
        self.ended = self.broken = False
        """Whether the client has finished sending, or is gone."""
        self.finished = self.closed = self.reset = False
        """Whether the server has finished sending, closed, or aborted."""

    def recv(self, size: int) -> bytes:
        if self.broken:
            raise ConnectionResetError(errno.ECONNRESET, "the client is gone")
        if not self.arrived and not self.ended:
            raise BlockingIOError(errno.EAGAIN, "nothing to read")
        data = bytes(self.arrived[:size])
        del self.arrived[:size]
        return data

    def send(self, data: bytes | memoryview) -> int:
        assert not self.finished and not self.closed, "sent after the end"
        self.sends += 1
        if self.broken:
            raise BrokenPipeError(errno.EPIPE, "the client is gone")
        if self.room == 0:
            raise BlockingIOError(errno.EAGAIN, "nothing is taken")
        taken = min(len(data), *(limit for limit in (self.room, self.at_most, len(data)) if limit is not None))
        self.sent += bytes(data[:taken])
        if self.room is not None:
            self.room -= taken
        return taken

    def shutdown(self, how: int) -> None:
        self.finished = True

    def close(self) -> None:
        self.closed = True
        _by_number.pop(self._number, None)

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        self.options.append((level, option, value))
        if (level, option, value) == (socket.SOL_SOCKET, socket.SO_LINGER, _RESET):
            self.reset = True

    def setblocking(self, blocking: bool) -> None:
        pass

    def fileno(self) -> int:
        return self._number

    def getsockname(self) -> tuple[str, int]:
        return "192.0.2.2", 80

    @property
    def readable(self) -> bool:
        return bool(self.arrived) or self.ended or self.broken

    @property
    def writable(self) -> bool:
        return self.room != 0 or self.broken


class FakeEpoll:
    """The events of fake sockets."""

    def __init__(self) -> None:
        self._awaited: dict[int, int] = {}
        self._number = next(_numbers)

    def register(self, fd: int, events: int) -> None:
        assert fd in _by_number and fd not in self._awaited, "it is closed, or watched already"
        self._awaited[fd] = events

    def modify(self, fd: int, events: int) -> None:
        assert fd in _by_number and fd in self._awaited, "it is closed, or not watched"
        self._awaited[fd] = events

    def unregister(self, fd: int) -> None:
        assert fd in _by_number, "it is closed"
        del self._awaited[fd]

    def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
        found = []
        for fd, awaited in self._awaited.items():
            end = _by_number[fd]
            gone = _ERR | _HUP if end.broken else _HUP if end.ended and end.finished else 0
            event = gone | awaited & (_IN * end.readable | _OUT * end.writable)
            if event:
                found.append((fd, event))
        return found[:most]

    def fileno(self) -> int:
        return self._number

    def close(self) -> None:
        self._awaited.clear()


class NetPoller(Poller):
    """A poller of fake sockets."""

    def _watch(self, descriptor: Any, add: int, remove: int) -> None:
        if self._epoll is None:
            self._epoll = FakeEpoll()  # type: ignore[assignment]
            self._reactor.addReader(self)
        super()._watch(descriptor, add, remove)

    @property
    def socket(self) -> NetPoller:
        """Itself: like a socket, it can be readable."""
        return self

    @property
    def readable(self) -> bool:
        return self._epoll is not None and bool(self._epoll.poll(0, 1))


class Net(_DisconnectSelectableMixin, Clock):
    """
    The reactor.

    :ivar faults: exceptions that a protocol has raised.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rightNow = EPOCH
        self.faults: list[BaseException | None] = []
        self._readers: dict[Any, None] = {}
        self._writers: dict[Any, None] = {}

    def addReader(self, reader: Any) -> None:
        self._readers[reader] = None

    def addWriter(self, writer: Any) -> None:
        self._writers[writer] = None

    def removeReader(self, reader: Any) -> None:
        self._readers.pop(reader, None)

    def removeWriter(self, writer: Any) -> None:
        self._writers.pop(writer, None)

    def getReaders(self) -> list[Any]:
        return [*self._readers]

    def connect(self, factory: IProtocolFactory) -> Peer:
        """A new connection."""
        end = FakeSocket()
        protocol: Any = factory.buildProtocol(None)  # type: ignore[arg-type]
        transport = Server(end, protocol, ("192.0.2.1", 50_000), None, 0, self)  # type: ignore[arg-type]
        protocol.makeConnection(transport)
        return Peer(self, end, protocol, transport)

    def settle(self) -> None:
        """Handle events until there are none."""
        busy = True
        while busy:
            self.advance(0)
            busy = False
            for writer in list(self._writers):
                if writer in self._writers and writer.socket.writable:
                    self._do(writer, writer.doWrite, False)
                    busy = True
            for reader in list(self._readers):
                if reader in self._readers and reader.socket.readable:
                    self._do(reader, reader.doRead, True)
                    busy = True

    def pass_time(self, seconds: float) -> None:
        """Let time pass, in steps of at most a second."""
        while seconds > 0:
            step = min(seconds, 1.0)
            self.advance(step)
            self.settle()
            seconds -= step

    def _do(self, selectable: Any, act: Callable[[], Any], is_read: bool) -> None:
        try:
            why = act()
        except BaseException:
            why = sys.exc_info()[1]
            self.faults.append(why)
        if why:
            self._disconnectSelectable(selectable, why, is_read)


class Peer:
    """The client's end of a connection."""

    def __init__(self, net: Net, end: FakeSocket, protocol: Any, transport: Server) -> None:
        self.net = net
        self.end = end
        self.protocol = protocol
        self.transport = transport

    def send(self, *pieces: bytes) -> None:
        """Send bytes; the server reads each piece on its own."""
        for piece in pieces:
            if not self.end.closed:
                self.end.arrived += piece
                self.net.settle()

    def finish(self) -> None:
        """Finish sending, and go on reading."""
        self.end.ended = True
        self.net.settle()

    def leave(self) -> None:
        """Break the connection."""
        self.end.broken = True
        self.net.settle()

    def take(self, size: int | None) -> None:
        """Read so many more bytes; None: all that come."""
        self.end.room = size
        self.net.settle()

    @property
    def received(self) -> bytes:
        """All bytes that the client has received."""
        return bytes(self.end.sent)

    @property
    def fate(self) -> str:
        """The connection as the client sees it: `open`, `half` closed by the server, `closed` or `reset`."""
        if self.end.closed:
            return "reset" if self.end.reset else "closed"
        return "half" if self.end.finished else "open"

    @property
    def reads(self) -> bool:
        """Whether the server reads from the connection."""
        return self.transport in self.transport.reactor.getReaders()  # type: ignore[comparison-overlap]
