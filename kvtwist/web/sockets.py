"""
Sockets in the file system: one that a process left behind when it was killed, and paths that are too long for one.
"""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from zope.interface import implementer

MAX_PATH = 107
"""What the system takes as the path of a socket, in bytes."""


def short_path(path: str) -> str:
    """
    A path of the same socket that the system takes however long the path is.

    A longer one goes by way of a descriptor of the directory, which stays open.
    """
    if len(os.fsencode(path)) <= MAX_PATH:
        return path
    directory, name = os.path.split(path)
    descriptor = os.open(directory or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{descriptor}/{name}"


def remove_stale(path: str | bytes) -> None:
    """Remove a socket that nobody listens on. Anything else of that name stays, and is in the way."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
    except (OSError, ValueError):  # there is none; a name that is in no file system
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            with suppress(OSError):
                os.remove(path)
        except OSError:
            return


@implementer(IStreamServerEndpoint)
class SocketEndpoint:
    """
    A socket for the owner of the process alone, in a directory that no other process listens in.

    Its path may be of any length, and hold what has a meaning in an endpoint string.
    """

    def __init__(self, reactor: object, path: str) -> None:
        self._reactor = reactor
        self._path = path

    def __str__(self) -> str:
        return self._path

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Called to listen."""
        path = short_path(self._path)
        remove_stale(path)
        with suppress(OSError):  # former versions left a lock beside it, a link to the number of their process
            os.remove(f"{path}.lock")
        listening: Deferred[IListeningPort] = UNIXServerEndpoint(self._reactor, path, mode=0o600).listen(factory)
        return listening
