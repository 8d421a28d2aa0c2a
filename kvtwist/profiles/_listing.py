"""
JSON arrays and objects that may be larger than memory, written piece by piece: every listing is written here.

Small elements are gathered into pieces. A large value is a piece of its own: where it is JSON already, that is the very
object that the store holds, which is in memory once however many clients list it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from typing import Any

from klein import Response

from kvtwist.profiles._app import Headers
from kvtwist.profiles._reply import JSON_HEADERS
from kvtwist.profiles._scan import Items, send

PIECE = 64 * 1024
"""Elements are gathered until they take so many bytes."""
LARGE = 16 * 1024
"""A value of so many bytes is not copied into a piece."""

Element = tuple[bytes, bytes, bytes]
"""JSON text before a value, the value, and the text after it; without the comma between two elements."""


class Listing:
    """
    A JSON array or object, as an asynchronous iterator of the pieces of its text.

    :param brackets: `[]` or `{}`.
    :param slices: what it is made from. None is asked for before all pieces of the one before have been taken.
    :param elements: makes the elements of a slice, taking out of it what they are made from.
    """

    def __init__(
        self, brackets: bytes, slices: AsyncIterator[Items], elements: Callable[[Items], Iterable[Element]]
    ) -> None:
        self._pieces = self._write(brackets, slices, elements)
        self._first: bytes | None = None
        self._complete = False
        """Whether the last piece has been written."""
        self._hold: Callable[[int], object] = int

    def __aiter__(self) -> Listing:
        return self

    async def __anext__(self) -> bytes:
        first, self._first = self._first, None
        return await anext(self._pieces) if first is None else first

    async def aclose(self) -> None:
        """Let go of all that the rest would have been made from."""
        await self._pieces.aclose()

    async def answer(self, request: Any, headers: Headers = JSON_HEADERS) -> Response | None:
        """Answer with its length if it is one piece, else piece by piece. HEAD has one piece written at most."""
        self._hold = request.hold
        self._first = await anext(self._pieces)
        if self._complete:
            return Response(200, headers, self._first)
        for name, value in headers.items():
            request.setHeader(name, value)
        if request.method == b"HEAD":
            await self.aclose()
        else:
            await send(request, self)
        return None

    async def _write(
        self, brackets: bytes, slices: AsyncIterator[Items], elements: Callable[[Items], Iterable[Element]]
    ) -> AsyncGenerator[bytes, None]:
        text = bytearray(brackets[:1])
        comma = b""
        async for items in slices:
            self._hold(sum(len(key) + len(record.value) for key, record in items))
            for before, value, after in elements(items):
                text += comma
                text += before
                comma = b","
                if len(value) < LARGE:
                    text += value
                else:
                    yield bytes(text)
                    text.clear()
                    yield value
                    value = b""  # or it would be kept until the next element is there
                text += after
                if len(text) >= PIECE:
                    yield bytes(text)
                    text.clear()
        text += brackets[1:]
        self._complete = True
        yield bytes(text)
