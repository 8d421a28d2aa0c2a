"""
An HTTP/1.1 client that costs little: one keep-alive connection, one request at a time, and no more of the protocol than
the server's own answers need. A benchmark's client should not be what it measures.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

CHUNK = 256 * 1024


class WrongAnswer(Exception):
    """The server answered, but not what it should have."""


class Connection:
    """Opened with `Connection.open`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: bytes) -> None:
        self._reader = reader
        self._writer = writer
        self._host = host

    @classmethod
    async def open(cls, host: str, port: int) -> Connection:
        """:raises OSError: nobody listens there."""
        reader, writer = await asyncio.open_connection(host, port, limit=CHUNK)
        return cls(reader, writer, f"{host}:{port}".encode())

    async def request(self, method: bytes, target: str, body: bytes = b"") -> tuple[int, bytes]:
        """
        Status and body.

        :raises asyncio.IncompleteReadError: the server hung up.
        """
        status, fields = await self._ask(method, target, body)
        if b"chunked" in fields.get(b"transfer-encoding", b""):
            return status, b"".join([piece async for piece in self._chunks()])
        length = int(fields.get(b"content-length", b"0"))
        return status, await self._reader.readexactly(length) if length else b""

    async def stream(self, target: str) -> AsyncIterator[bytes]:
        """The body of a GET in pieces; :raises WrongAnswer: its status is not 200."""
        status, fields = await self._ask(b"GET", target, b"")
        if status != 200:
            raise WrongAnswer(f"GET {target}: {status}")
        if b"chunked" in fields.get(b"transfer-encoding", b""):
            async for piece in self._chunks():
                yield piece
            return
        left = int(fields.get(b"content-length", b"0"))
        while left:
            piece = await self._reader.read(min(left, CHUNK))
            if not piece:
                raise WrongAnswer(f"GET {target}: the body ended {left} bytes early")
            left -= len(piece)
            yield piece

    async def _ask(self, method: bytes, target: str, body: bytes) -> tuple[int, dict[bytes, bytes]]:
        head = b"%s %s HTTP/1.1\r\nHost: %s\r\n" % (method, target.encode(), self._host)
        if body:
            head += b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
        self._writer.write(head + b"\r\n" + body)
        await self._writer.drain()
        start, *lines = (await self._reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
        fields = (line.partition(b":") for line in lines)
        return int(start.split(b" ", 2)[1]), {name.lower(): value.strip() for name, _, value in fields}

    async def _chunks(self) -> AsyncIterator[bytes]:
        while True:
            size = int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16)
            piece = await self._reader.readexactly(size + 2)
            if not size:
                return
            yield piece[:-2]

    def close(self) -> None:
        """Hang up."""
        self._writer.close()
