"""
Listings: JSON arrays and objects that may be larger than memory, sent piece by piece.

Small elements are gathered into pieces. A large JSON value is a piece of its own: the same object that the store holds,
so it is in memory only once however many clients list it. Other large values are encoded in pieces.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from typing import Any

from klein import Response

from kvtwist.profiles._reply import JSON_HEADERS
from kvtwist.profiles._scan import Items, send
from kvtwist.validators import Headers

PIECE = 64 * 1024
"""How many bytes of elements are gathered."""

Element = tuple[bytes, bytes | Iterator[bytes], bytes]
"""The JSON text before a value, the value or its pieces, and the text after it; without the comma between elements."""

Frame = tuple[bytes, bytes, bytes]
"""What is before the first element, between two, and after the last."""
OBJECT: Frame = (b"{", b",", b"}")
ARRAY: Frame = (b"[", b",", b"]")


async def answer(
    request: Any,
    frame: Frame,
    slices: AsyncIterator[Items],
    elements: Callable[[Items], Iterable[Element]],
    headers: Headers = JSON_HEADERS,
) -> Response | None:
    """
    Answer with a JSON array or object: in one response if it fits one piece, else piece by piece.

    :param slices: the records. The next slice is requested when the client has taken all of the one before.
    :param elements: makes the elements of a slice, and removes the records from it.
    """
    pieces = _pieces(frame, slices, elements, request.hold)
    whole = await anext(pieces)
    if whole:
        return Response(200, headers, whole)
    for name, value in headers.items():
        request.setHeader(name, value)
    if request.method != b"HEAD":
        await send(request, pieces)
    return None


async def only(items: Items) -> AsyncIterator[Items]:
    """The slices of a listing that is there already."""
    yield items


async def _pieces(
    frame: Frame,
    slices: AsyncIterator[Items],
    elements: Callable[[Items], Iterable[Element]],
    hold: Callable[[int], object],
) -> AsyncGenerator[bytes, None]:
    """The text. If it has several pieces, an empty one comes first, before any other is made."""
    opening, separator, closing = frame
    text = bytearray(opening)
    comma = b""
    is_whole = True
    async for items in slices:
        hold(sum(len(key) + len(record.value) for key, record in items))
        for before, value, after in elements(items):
            text += comma
            text += before
            comma = separator
            if isinstance(value, bytes):
                text += value
                text += after
                if len(text) < PIECE:
                    continue
                value, after = iter(()), b""
            if is_whole:
                is_whole = False
                yield b""
            yield bytes(text)
            text.clear()
            for piece in value:
                yield piece
                piece = b""  # free it before the next element is made
            text += after
    text += closing
    yield bytes(text)
