"""
Reading the tar archive that a server's admin site sends, from a socket or from a file.

It holds plain files, each once, and nothing else. What `tarfile` would make of other members (links, devices, holes,
headers that name things anew) is never asked.
"""

from __future__ import annotations

import http.client
import socket
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import msgspec

from kvtwist.cli.atomic_copy import CHUNK, Copy, is_store_file
from kvtwist.cli.exits import BadInput
from kvtwist.engine.backup import END
from kvtwist.model import StoreError
from kvtwist.web.sockets import short_path
from kvtwist.words import counted

_TIMEOUT = 60.0
"""Seconds without a byte after which a server is given up."""
_CLOSE_TIMEOUT = 5.0
"""Seconds for which a server that has sent everything may take to hang up."""
_MAX_END = 2**16

Read = Callable[[int], bytes]
"""Reads so many bytes; fewer only at the end."""


class _Ending(msgspec.Struct):
    """What the last file of an archive says: the last revision, and how many files came before it."""

    revision: int
    files: int


def unpack(read: Read, copy: Copy) -> None:
    """
    Write all files of an archive.

    :raises BadInput: it is not such an archive, or not all of one.
    """
    names: set[str] = set()
    while (member := _member(read)).name != END:
        if not is_store_file(member.name):
            raise BadInput(f"not a backup: a store has no file of the name {member.name!r}")
        if member.name in names:
            raise BadInput(f"not a backup: {member.name} is in it twice")
        names.add(member.name)
        copy.add(member.name, _content(read, member))
    if member.size > _MAX_END:
        raise BadInput(f"not a backup: {END} is {member.size} bytes long")
    try:
        ending = msgspec.json.decode(b"".join(_content(read, member)), type=_Ending)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadInput(f"not a backup: {END}: {error}") from None
    if ending.files != len(names):
        raise BadInput(f"not a whole backup: {counted(len(names), 'file')}, and {END} counts {ending.files}")
    copy.promised = ending.revision
    while rest := read(CHUNK):
        if any(rest):
            raise BadInput(f"not a backup: something follows on {END}")


def _member(read: Read) -> tarfile.TarInfo:
    try:
        member = tarfile.TarInfo.frombuf(read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise BadInput(f"not a whole backup: {error}, where a file or {END} should begin") from None
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.size < 0:
        raise BadInput(f"not a backup: {member.name!r} is not a plain file")
    return member


def _content(read: Read, member: tarfile.TarInfo) -> Iterator[bytes]:
    left = member.size
    while left:
        piece = read(min(left, CHUNK))
        if not piece:
            raise BadInput(f"not a whole backup: it ends within {member.name}")
        left -= len(piece)
        yield piece
    read(-member.size % tarfile.BLOCKSIZE)


class Incoming:
    """
    A backup that a server sends.

    :ivar size: how long the archive is, in bytes.
    """

    def __init__(self, place: str, stream: BinaryIO, size: int) -> None:
        self.size = size
        self._place = place
        self._stream = stream
        self._left = size

    def unpack(self, copy: Copy) -> None:
        """Write all its files. See `unpack`."""
        unpack(self._read, copy)

    def _read(self, count: int) -> bytes:
        wanted = min(count, self._left)
        try:
            data = self._stream.read(wanted)
        except OSError as error:
            raise StoreError(f"{self._place}: {error}") from None
        self._left -= len(data)
        if len(data) < wanted:
            left = counted(self._left, "byte")
            raise StoreError(f"{self._place}: the server has hung up, {left} before the end")
        return data


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(short_path(self._path))


@contextmanager
def from_url(url: str) -> Iterator[Incoming]:
    """
    Ask the admin site at a URL for a backup.

    :raises StoreError: it does not send one.
    """
    try:
        parts = urlsplit(url)
        kind: Any = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT)
    except (ValueError, http.client.HTTPException) as error:
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
        connection.connect()
        line = connection.sock
        connection.request("GET", target, headers={"Connection": "close"})
        response = connection.getresponse()
        refused = response.read(500) if response.status != 200 else b""
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise StoreError(f"{place}: no admin site answers there ({error})") from None
    with closing(connection), closing(response):
        if response.status != 200:
            said = refused.decode(errors="replace").strip()
            raise StoreError(f"{place}: no backup, but status {response.status}: {said}")
        length = response.headers["Content-Length"]
        if length is None or not length.isdecimal() or "Kvtwist-Revision" not in response.headers:
            raise StoreError(f"{place}: no backup: it is not the admin site of a kvtwist that answers there")
        # Not read by way of `response`, which hangs up at the last byte: a server takes that for leaving early.
        yield Incoming(place, response.fp, int(length))
        with suppress(OSError):
            line.settimeout(_CLOSE_TIMEOUT)
            response.fp.read(1)
