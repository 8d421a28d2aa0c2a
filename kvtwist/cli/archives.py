"""
Reading the tar archive of a backup, from a server's admin site or from a file.

The archive may hold plain files only, each once. The headers are parsed with `tarfile`, one block at a time, but
nothing is extracted by it: links, devices, sparse files and extended headers are refused.
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
"""Seconds without a byte after which the download fails."""
_CLOSE_TIMEOUT = 5.0
"""Seconds to wait for the server to close the connection after the last byte."""
_MAX_END = 2**16

Read = Callable[[int], bytes]
"""Reads the given number of bytes; fewer only at the end."""


class _Ending(msgspec.Struct):
    """The content of an archive's last file: the revision of the backup, and the number of files before it."""

    revision: int
    files: int


def unpack(read: Read, copy: Copy) -> None:
    """
    Write all files of an archive to a copy.

    :raises BadInput: the archive is not a backup, or is cut short.
    """
    names: set[str] = set()
    while (member := _member(read)).name != END:
        if not is_store_file(member.name):
            raise BadInput(f"not a backup: {member.name!r} is not the name of a store's file")
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
        raise BadInput(f"incomplete backup: it has {counted(len(names), 'file')}, {END} counts {ending.files}")
    copy.promised = ending.revision
    while rest := read(CHUNK):
        if any(rest):
            raise BadInput(f"not a backup: there is data after {END}")


def _member(read: Read) -> tarfile.TarInfo:
    try:
        member = tarfile.TarInfo.frombuf(read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise BadInput(f"incomplete backup: {error}, where a file or {END} should begin") from None
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.size < 0:
        raise BadInput(f"not a backup: {member.name!r} is not a regular file")
    return member


def _content(read: Read, member: tarfile.TarInfo) -> Iterator[bytes]:
    left = member.size
    while left:
        piece = read(min(left, CHUNK))
        if not piece:
            raise BadInput(f"incomplete backup: it ends within {member.name}")
        left -= len(piece)
        yield piece
    read(-member.size % tarfile.BLOCKSIZE)


class Incoming:
    """
    A backup that a server sends.

    :ivar size: length of the archive in bytes.
    """

    def __init__(self, place: str, stream: BinaryIO, size: int) -> None:
        self.size = size
        self._place = place
        self._stream = stream
        self._left = size

    def unpack(self, copy: Copy) -> None:
        """Write all files to a copy, see `unpack`."""
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
            raise StoreError(f"{self._place}: the server closed the connection {left} before the end")
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
    Request a backup from the admin site at a URL.

    :raises StoreError: the site does not send one.
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
    Request a backup from the admin site at a unix socket.

    :raises StoreError: the site does not send one.
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
        raise StoreError(f"{place}: no answer from an admin site ({error})") from None
    with closing(connection), closing(response):
        if response.status != 200:
            said = refused.decode(errors="replace").strip()
            raise StoreError(f"{place}: the server answered {response.status} instead of a backup: {said}")
        length = response.headers["Content-Length"]
        if length is None or not length.isdecimal() or "Kvtwist-Revision" not in response.headers:
            raise StoreError(f"{place}: the answer does not come from a kvtwist admin site")
        # Not read through `response`, which closes the connection at the last byte: the server would log 499.
        yield Incoming(place, response.fp, int(length))
        with suppress(OSError):
            line.settimeout(_CLOSE_TIMEOUT)
            response.fp.read(1)
