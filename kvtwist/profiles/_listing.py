"""
JSON arrays and objects that may be larger than memory, written piece by piece: every listing is written here.

Small elements are gathered into pieces. A large value is a piece of its own where it is JSON already: that is the very
object that the store holds, which is in memory once however many clients list it. Another large value comes in pieces.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from typing import Any

from klein import Response

from kvtwist.profiles._app import Headers
from kvtwist.profiles._reply import JSON_HEADERS
from kvtwist.profiles._scan import Items, send

PIECE = 64 * 1024
"""Elements are gathered until they take so many bytes."""

Element = tuple[bytes, bytes | Iterator[bytes], bytes]
"""JSON text before a value, the value or its pieces, and the text after it; without the comma between two elements."""


async def answer(
    request: Any,
    brackets: bytes,
    slices: AsyncIterator[Items],
    elements: Callable[[Items], Iterable[Element]],
    headers: Headers = JSON_HEADERS,
) -> Response | None:
    """
    Answer with a JSON array or object: with its length if it is one piece, else piece by piece.

    :param brackets: `[]` or `{}`.
    :param slices: what it is made from. None is asked for before all pieces of the one before have been taken.
    :param elements: makes the elements of a slice, taking out of it what they are made from.
    """
    pieces = _pieces(brackets, slices, elements, request.hold)
    whole = await anext(pieces)
    if whole:
        return Response(200, headers, whole)
    for name, value in headers.items():
        request.setHeader(name, value)
    if request.method != b"HEAD":
        await send(request, pieces)
    return None


async def _pieces(
    brackets: bytes,
    slices: AsyncIterator[Items],
    elements: Callable[[Items], Iterable[Element]],
    hold: Callable[[int], object],
) -> AsyncGenerator[bytes, None]:
    """The text. If it is more than one piece, an empty one comes first, to say so before the others are made."""
    text = bytearray(brackets[:1])
    comma = b""
    is_whole = True
    async for items in slices:
        hold(sum(len(key) + len(record.value) for key, record in items))
        for before, value, after in elements(items):
            text += comma
            text += before
            comma = b","
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
                piece = b""  # or it would be kept until the next element is there
            text += after
    text += brackets[1:]
    yield bytes(text)
