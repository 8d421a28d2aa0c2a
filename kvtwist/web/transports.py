"""
What the front needs to know of Twisted's transports and they do not tell: how much of what they were given is unsent.

All private attributes of Twisted's transports are read here. When a release of Twisted moves one, `check` fails, at the
start of a server and not in the middle of a request.
"""

from __future__ import annotations

import fcntl
import sys
import termios
from contextlib import suppress
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.tcp import Connection
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOProtocol


def check() -> None:
    """:raises AttributeError: this release of Twisted keeps its buffers elsewhere."""
    probe = FileDescriptor()
    assert not probe.dataBuffer and not probe.offset and not probe._tempDataBuffer and not probe._tempDataLen
    assert probe.producer is None and not probe.producerPaused
    assert unix_path(UNIXServerEndpoint(None, "path")) == "path"


def unix_path(endpoint: UNIXServerEndpoint) -> str:
    """The path of the socket that an endpoint would listen on."""
    path: str = endpoint._address
    return path


def layers(transport: Any) -> list[Any]:
    """A transport and those that it is made of, the one with the socket last."""
    found = [transport]
    while isinstance(found[-1], ProtocolWrapper):
        found.append(found[-1].transport)
    return found


def socket_of(transport: Any) -> Any:
    """The socket that a transport would send to, byte for byte; None where a layer changes what is sent."""
    return transport.socket if isinstance(transport, Connection) else None


def is_tls(transport: Any) -> bool:
    """Whether what is sent is encrypted."""
    return any(isinstance(layer, TLSMemoryBIOProtocol) for layer in layers(transport))


def unsent(transport: Any) -> int:
    """How many bytes are still here of what the transport has to send, those in the kernel not counted."""
    lowest = layers(transport)[-1]
    size: int = len(lowest.dataBuffer) - lowest.offset + lowest._tempDataLen
    return size


def untaken(transport: Any) -> int:
    """How many bytes the client has not taken yet, of what was sent: here, and in the kernel."""
    size = unsent(transport)
    with suppress(OSError, ValueError, AttributeError):  # the socket may be gone
        in_kernel = fcntl.ioctl(layers(transport)[-1].socket.fileno(), termios.TIOCOUTQ, bytes(4))
        size += int.from_bytes(in_kernel, sys.byteorder)
    return size


def pause_if_unsent(transport: Any) -> None:
    """
    Pause the producer if anything is unsent; it is resumed when all of it has been sent.

    (Twisted does so itself from 64 KiB on.)
    """
    lowest = layers(transport)[-1]
    if lowest.producer is not None and not lowest.producerPaused and unsent(transport):
        lowest.producerPaused = True
        lowest.producer.pauseProducing()
