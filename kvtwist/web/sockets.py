"""
Sockets in the file system: removing those that a killed process left, and paths longer than the system allows.
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
"""The longest path of a socket that the system takes, in bytes."""


def short_path(path: str) -> str:
    """
    A path of the same socket that is short enough for the system.

    For a path that is too long it leads through a descriptor of the directory, which stays open.
    """
    if len(os.fsencode(path)) <= MAX_PATH:
        return path
    directory, name = os.path.split(path)
    descriptor = os.open(directory or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{descriptor}/{name}"


def remove_stale(path: str | bytes) -> None:
    """Remove a socket on which no process listens. Anything else of that name stays, and listening fails."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
    except (OSError, ValueError):  # no such file; an abstract socket, whose name contains a null byte
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
    A socket that only the owner of the process may open, in a directory where no other process listens.

    Its path may be of any length, and may contain characters that endpoint strings would interpret.
    """

    def __init__(self, reactor: object, path: str) -> None:
        self._reactor = reactor
        self._path = path

    def __str__(self) -> str:
        return self._path

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """See `IStreamServerEndpoint`."""
        path = short_path(self._path)
        remove_stale(path)
        with suppress(OSError):  # earlier versions left a lock file beside it, a link that names their process
            os.remove(f"{path}.lock")
        listening: Deferred[IListeningPort] = UNIXServerEndpoint(self._reactor, path, mode=0o600).listen(factory)
        return listening
