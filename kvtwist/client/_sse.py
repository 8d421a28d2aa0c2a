"""
Server-sent events, as WHATWG's HTML specifies them, from bytes that arrive in any pieces.

A block without data, which a browser drops, is an event here as well if it has an id: it says where the stream is.
"""

from __future__ import annotations

import re

from attrs import frozen

_END_OF_LINE = re.compile(rb"\r\n?|\n")
_BOM = b"\xef\xbb\xbf"


class EventTooLarge(Exception):
    """An event, or a line, is larger than the parser's limit."""


@frozen
class Event:
    """
    :ivar kind: its type; "message" if it says none.
    :ivar data: its lines of data, joined by newlines.
    :ivar id: its id, if it has one of its own.
    """

    kind: str
    data: bytes
    id: str | None


class Parser:
    """:param limit: how many bytes of an unfinished event are kept at most."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._line = bytearray()
        """A line whose end has not arrived, or of which it is not known yet whether the end has."""
        self._is_first = True
        self._skips_newline = False
        self._begin()

    def _begin(self) -> None:
        self._kind = ""
        self._data: list[bytes] = []
        self._id: str | None = None
        self._size = 0

    def feed(self, piece: bytes) -> list[Event]:
        """
        The events that a piece completes.

        :raises EventTooLarge: an event that has not ended is larger than the limit.
        """
        if self._skips_newline and piece:
            self._skips_newline = False
            if piece.startswith(b"\n"):
                piece = piece[1:]
        events = []
        start = 0
        searched = len(self._line)
        self._line += piece
        for end in _END_OF_LINE.finditer(self._line, searched):
            event = self._take(bytes(self._line[start : end.start()]))
            if event is not None:
                events.append(event)
            start = end.end()
            self._skips_newline = end.group() == b"\r" and start == len(self._line)
        del self._line[:start]
        if self._size + len(self._line) > self._limit:
            raise EventTooLarge(f"an event of more than {self._limit} bytes")
        return events

    def _take(self, line: bytes) -> Event | None:
        if self._is_first:
            self._is_first = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._end()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(value)
            if self._size > self._limit:
                raise EventTooLarge(f"an event of more than {self._limit} bytes")
        elif name == b"event":
            self._kind = value.decode("utf-8", "replace")
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        return None

    def _end(self) -> Event | None:
        event = Event(self._kind or "message", b"\n".join(self._data), self._id)
        self._begin()
        return event if event.data or event.id is not None else None
