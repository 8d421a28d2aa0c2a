"""Reading the tar archive that a server's admin site sends, from a socket or from a file."""

from __future__ import annotations

import http.client
import io
import socket
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import IO, Any
from urllib.parse import urlsplit

from kvtwist.cli.arrival import CHUNK, Arrival
from kvtwist.engine.backup import END
from kvtwist.model import StoreError
from kvtwist.web.sockets import short_path
from kvtwist.words import counted

_PATIENCE = 60.0
"""Seconds without a byte after which a server is given up."""


def unpack(source: IO[bytes], arrival: Arrival) -> None:
    """
    Write all files of an archive.

    :raises StoreError: it is not such an archive, or not all of one.
    """
    whole = False
    try:
        with tarfile.open(fileobj=source, mode="r|", bufsize=CHUNK) as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is None:
                    raise StoreError(f"there is no file {member.name!r} in a backup")
                whole = member.name == END
                if not whole:
                    arrival.add(member.name, iter(partial(content.read, CHUNK), b""))
    except tarfile.TarError as error:
        raise StoreError(f"not a whole backup: {error}") from error
    if not whole:
        raise StoreError(f"not a whole backup: it does not end with {END}")


class _Counted(io.RawIOBase):
    """A response whose end, if it comes too early, is an error."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response
        self._left = int(response.headers["Content-Length"])

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._response.read(min(size, self._left) if size >= 0 else self._left)
        self._left -= len(data)
        if not data and self._left:
            raise StoreError(f"the server has hung up, {counted(self._left, 'byte')} before the end")
        return data

    def drain(self) -> None:
        """Read to the end."""
        while self.read(CHUNK):
            pass


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(short_path(self._path))


class Incoming:
    """
    A backup that a server sends.

    :ivar revision: the last one that it holds.
    :ivar size: how long the archive is, in bytes.
    """

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.revision = int(response.headers["Kvtwist-Revision"])
        self.size = int(response.headers["Content-Length"])
        self._stream = _Counted(response)

    def unpack(self, arrival: Arrival) -> None:
        """Write all its files. See `unpack`."""
        unpack(self._stream, arrival)  # type: ignore[arg-type] # it reads, and that is all that is asked of it
        self._stream.drain()


@contextmanager
def from_url(url: str) -> Iterator[Incoming]:
    """
    Ask the admin site at a URL for a backup.

    :raises StoreError: it does not send one.
    """
    parts = urlsplit(url)
    kind: Any = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        connection = kind(parts.hostname or "", parts.port, timeout=_PATIENCE)
    except ValueError as error:
        raise StoreError(f"{url}: {error}") from None
    path = parts.path.rstrip("/")
    with _asked(connection, url, path if path.endswith("/backup") else f"{path}/backup") as incoming:
        yield incoming


@contextmanager
def from_socket(path: str) -> Iterator[Incoming]:
    """
    Ask the admin site at a unix socket for a backup.

    :raises StoreError: it does not send one.
    """
    with _asked(_SocketConnection(path), path, "/backup") as incoming:
        yield incoming


@contextmanager
def _asked(connection: http.client.HTTPConnection, place: str, target: str) -> Iterator[Incoming]:
    try:
        try:
            connection.request("GET", target)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise StoreError(f"{place}: no admin site answers there ({error})") from None
        if response.status != 200 or "Kvtwist-Revision" not in response.headers:
            said = response.read(500).decode(errors="replace").strip()
            raise StoreError(f"{place}: no backup, but status {response.status}: {said}")
        yield Incoming(response)
    except (TimeoutError, http.client.HTTPException) as error:
        raise StoreError(f"{place}: {error}") from error
    finally:
        connection.close()
