"""
Many clients at once: connections that stay open and ask one request after the other, from one asyncio loop.

A connection that the server closes, or that dies with it, raises `Gone`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tests.support.server import PATIENCE
from tests.support.wire import Address, head, sized


class Gone(Exception):
    """There was no answer: the server may have done what it was asked, or not."""


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, method: str, target: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and body of the answer to a request; :raises Gone: there is none."""
        self.send(method, target, body)
        try:
            return await asyncio.wait_for(self._answer(), PATIENCE)
        except (OSError, asyncio.IncompleteReadError):
            raise Gone from None

    def send(self, method: str, target: str, body: bytes | None = None) -> None:
        """Send a request, and do not wait for the answer."""
        with contextlib.suppress(OSError):
            self._writer.write(head(method, target) if body is None else sized(method, target, body))

    async def _answer(self) -> tuple[int, bytes]:
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        status = int(lines[0].split()[1])
        return status, await self._reader.readexactly(int(fields.get("content-length", "0")))

    def close(self) -> None:
        self._writer.close()


class Count:
    """A number that grows, and that others can wait for."""

    def __init__(self) -> None:
        self.value = 0
        self._waiting: list[tuple[int, asyncio.Event]] = []

    def up(self) -> None:
        """One more."""
        self.value += 1
        for number, event in self._waiting:
            if self.value >= number:
                event.set()

    async def reaches(self, number: int) -> None:
        """Wait for a number."""
        event = asyncio.Event()
        if self.value < number:
            self._waiting.append((number, event))
            await event.wait()


@contextlib.asynccontextmanager
async def clients(address: Address, count: int) -> AsyncIterator[list[Client]]:
    """So many open connections."""
    opened = [Client(*await asyncio.open_connection(*address)) for _ in range(count)]
    try:
        yield opened
    finally:
        for client in opened:
            client.close()
