"""
A reactor without a kernel: connections whose other end is in the test's hands, and time that passes when told to.

The transport is Twisted's own, over a socket that is a few buffers. So all that Twisted does between a protocol and a
socket is done: pausing and resuming producers, closing behind what is unsent, half-closing, aborting. What a kernel
does is said here: how much a `send` takes, when nothing can be read, and when a connection is gone.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.posixbase import _DisconnectSelectableMixin
from twisted.internet.task import Clock
from twisted.internet.tcp import Server

_RESET = struct.pack("ii", 1, 0)
EPOCH = 1_700_000_000.0


class FakeSocket:
    """
    The server's end.

    :ivar room: how many bytes the client's end still takes; None for any number.
    :ivar at_most: how many bytes one `send` takes.
    """

    def __init__(self) -> None:
        self.arrived = bytearray()
        self.sent = bytearray()
        self.room: int | None = None
        self.at_most: int | None = None
        self.sends = 0
        self.ended = self.broken = False
        """Whether the client has finished, or is gone."""
        self.finished = self.closed = self.reset = False
        """Whether the server has finished, closed, or hung up."""

    def recv(self, size: int) -> bytes:
        if self.broken:
            raise ConnectionResetError(errno.ECONNRESET, "the client is gone")
        if not self.arrived and not self.ended:
            raise BlockingIOError(errno.EAGAIN, "nothing to read")
        data = bytes(self.arrived[:size])
        del self.arrived[:size]
        return data

    def send(self, data: bytes | memoryview) -> int:
        assert not self.finished and not self.closed, "sent behind the end"
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

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        if (level, option, value) == (socket.SOL_SOCKET, socket.SO_LINGER, _RESET):
            self.reset = True

    def setblocking(self, blocking: bool) -> None:
        pass

    def fileno(self) -> int:
        return -1

    def getsockname(self) -> tuple[str, int]:
        return "192.0.2.2", 80

    @property
    def readable(self) -> bool:
        return bool(self.arrived) or self.ended or self.broken

    @property
    def writable(self) -> bool:
        return self.room != 0 or self.broken


class Net(_DisconnectSelectableMixin, Clock):
    """
    The reactor.

    :ivar faults: what has escaped from a protocol.
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

    def reads(self, transport: Any) -> bool:
        """Whether it would read from a transport."""
        return transport in self._readers

    def connect(self, factory: IProtocolFactory) -> Peer:
        """A new connection."""
        end = FakeSocket()
        protocol: Any = factory.buildProtocol(None)  # type: ignore[arg-type]
        transport = Server(end, protocol, ("192.0.2.1", 50_000), None, 0, self)  # type: ignore[arg-type]
        protocol.makeConnection(transport)
        return Peer(self, end, protocol, transport)

    def settle(self) -> None:
        """Do all that can be done now."""
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
        """Let time pass, a second or what is left of it at a time, as a reactor's is looked at."""
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
        """Send bytes; each piece is read on its own."""
        for piece in pieces:
            if not self.end.closed:
                self.end.arrived += piece
                self.net.settle()

    def finish(self) -> None:
        """Send no more, and go on reading."""
        self.end.ended = True
        self.net.settle()

    def leave(self) -> None:
        """Be gone."""
        self.end.broken = True
        self.net.settle()

    def take(self, size: int | None) -> None:
        """Read so many bytes more; None: all that ever comes."""
        self.end.room = size
        self.net.settle()

    @property
    def received(self) -> bytes:
        """All that has come."""
        return bytes(self.end.sent)

    @property
    def fate(self) -> str:
        """What the server has done with the connection: left it `open`, or `half` closed; `closed` or `reset` it."""
        if self.end.closed:
            return "reset" if self.end.reset else "closed"
        return "half" if self.end.finished else "open"

    @property
    def reads(self) -> bool:
        """Whether the server reads what is sent."""
        return self.net.reads(self.transport)
