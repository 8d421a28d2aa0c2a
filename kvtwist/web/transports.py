"""
Private attributes of Twisted: how many bytes a transport has not sent yet, and the path of a UNIX endpoint.

Twisted has no interface for either. When a release of Twisted moves one of these attributes, `check` fails at the start
of a server, and not in the middle of a request.
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
    """:raises AttributeError: this release of Twisted has moved an attribute."""
    probe = FileDescriptor()
    assert not probe.dataBuffer and not probe.offset and not probe._tempDataBuffer and not probe._tempDataLen
    assert probe.producer is None and not probe.producerPaused
    assert unix_path(UNIXServerEndpoint(None, "path")) == "path"


def unix_path(endpoint: UNIXServerEndpoint) -> str:
    """The path of the socket that an endpoint would listen on."""
    path: str = endpoint._address
    return path


def layers(transport: Any) -> list[Any]:
    """A transport and those that it wraps; the last one has the socket."""
    found = [transport]
    while isinstance(found[-1], ProtocolWrapper):
        found.append(found[-1].transport)
    return found


def socket_of(transport: Any) -> Any:
    """The socket of a transport; None where a layer, such as TLS, changes the bytes before they are sent."""
    return transport.socket if isinstance(transport, Connection) else None


def is_tls(transport: Any) -> bool:
    """Whether what is sent is encrypted."""
    return any(isinstance(layer, TLSMemoryBIOProtocol) for layer in layers(transport))


def unsent(transport: Any) -> int:
    """How many bytes the transport has not given to the kernel yet."""
    lowest = layers(transport)[-1]
    size: int = len(lowest.dataBuffer) - lowest.offset + lowest._tempDataLen
    return size


def untaken(transport: Any) -> int:
    """How many bytes of what was sent the client has not acknowledged: those unsent, and those in the kernel."""
    size = unsent(transport)
    with suppress(OSError, ValueError, AttributeError):  # the socket may be gone
        in_kernel = fcntl.ioctl(layers(transport)[-1].socket.fileno(), termios.TIOCOUTQ, bytes(4))
        size += int.from_bytes(in_kernel, sys.byteorder)
    return size


def pause_if_unsent(transport: Any) -> None:
    """
    Pause the producer if anything is unsent; the transport resumes it once all is sent.

    (Twisted itself pauses it only if 64 KiB are unsent.)
    """
    lowest = layers(transport)[-1]
    if lowest.producer is not None and not lowest.producerPaused and unsent(transport):
        lowest.producerPaused = True
        lowest.producer.pauseProducing()
