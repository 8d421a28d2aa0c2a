"""
Bytes in, heads and bodies out: where each request of a connection begins and ends. Knows no socket, clock or handler.

A reader is in one of these states. `next` returns one event at a time, and None when it needs more bytes:

| state        | received                              | `next` returns         | next state                |
|--------------|---------------------------------------|------------------------|---------------------------|
| IDLE         | nothing, or empty lines               | None                   | IDLE                      |
| IDLE         | a part of a head                      | None                   | HEAD                      |
| IDLE, HEAD   | a head, of a request without a body   | the head               | DONE                      |
| IDLE, HEAD   | a head, of a request with a body      | the head               | BODY, CHUNKS              |
| HEAD         | still a part of a head                | None                   | HEAD                      |
| HEAD         | an empty line that came in two pieces | None                   | HEAD                      |
| BODY, CHUNKS | a part of the body                    | that part              | BODY, CHUNKS              |
| BODY, CHUNKS | the rest of the body                  | that part, maybe empty | DONE                      |
| any of these | bytes that are not HTTP, or too many  | a `Fault`              | OVER                      |
| DONE         | anything; kept for the next request   | None                   | DONE; after `go_on`, IDLE |
| OVER         | anything; discarded                   | None                   | OVER                      |
"""

from __future__ import annotations

from enum import Enum

from attrs import frozen

from kvtwist.web.chunks import BadChunk, ChunkedBody
from kvtwist.web.heads import BadHead, Fields, Head, HeadReader, fault_in
from kvtwist.web.limits import WebLimits


class State(Enum):
    """See the table above."""

    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    CHUNKS = "chunks"
    DONE = "done"
    OVER = "over"


IDLE, HEAD, BODY, CHUNKS, DONE, OVER = State
_AT_HEAD = (IDLE, HEAD)


@frozen
class Fault:
    """
    The bytes received are not a request that a handler can answer.

    :ivar code: the status to answer with.
    :ivar start: the first bytes of the head, for the log.
    """

    code: int
    start: bytes = b""


_LOGGED = 1024
"""How many bytes of a faulty head are logged."""


class Reader:
    """
    :ivar state: see the table above.
    :ivar short: no head of up to so many bytes exceeds a limit.
    """

    __slots__ = ("_at", "_chunks", "_data", "_heads", "_left", "_limits", "_seen", "short", "state")

    def __init__(self, heads: HeadReader, limits: WebLimits) -> None:
        self.state = IDLE
        self.short = min(limits.head, limits.target)
        self._heads = heads
        self._limits = limits
        self._data = b""
        self._at = 0
        self._seen = 0
        """How many bytes of an incomplete head were searched for its end already."""
        self._left: int
        """Bytes of a body with a `Content-Length` that have not come yet."""
        self._chunks: ChunkedBody | None = None

    @property
    def kept(self) -> int:
        """How many bytes were received and not returned by `next` yet."""
        return len(self._data) - self._at

    @property
    def promised(self) -> int:
        """How many more bytes the body has at least."""
        return self._left if self._chunks is None else self._chunks.promised

    def receive(self, data: bytes) -> None:
        """Take bytes that have arrived."""
        if self.state is OVER:
            return
        kept = self._data
        if self._at < len(kept):
            self._data = kept[self._at :] + data
        else:
            self._data = data
        self._at = 0

    def next(self) -> Head | bytes | Fault | None:
        """See the table above."""
        state = self.state
        if state in _AT_HEAD:
            while self._data.startswith(b"\r\n", self._at):  # RFC 9112, 2.2
                self._seen = 0
                self._give(self._at + 2)
            return self._head() if self._data else None
        if not self._data:
            return None
        if state is BODY:
            return self._body()
        return self._piece() if state is CHUNKS else None

    def go_on(self) -> None:
        """Go on to the next request, after the current one has been answered."""
        if self.state is DONE:
            self.state = IDLE

    def stop(self) -> None:
        """Read nothing more, and drop what is kept."""
        self.state = OVER
        self._data = b""
        self._at = 0
        self._chunks = None

    def start_of_head(self) -> bytes:
        """The first bytes of an incomplete head, for the log."""
        return self._data[self._at : self._at + _LOGGED] if self.state is HEAD else b""

    def _give(self, end: int) -> None:
        """Move on to a position in the data, and free the data at its end."""
        if end == len(self._data):
            self._data = b""
            end = 0
        self._at = end

    def _fault(self, code: int) -> Fault:
        fault = Fault(code, self._data[self._at : self._at + _LOGGED] if self.state in _AT_HEAD else b"")
        self.stop()
        return fault

    def _head(self) -> Head | Fault | None:
        data, at = self._data, self._at
        end = data.find(b"\r\n\r\n", at + self._seen)
        if end < 0 or end - at > self.short:
            code = fault_in(data, at, end, self._seen, self._limits)
            if code:
                return self._fault(code)
            if end < 0:
                self.state = HEAD
                self._seen = max(len(data) - at - 3, 0)
                return None
        end += 4
        try:
            head = self._heads.read(data[at:end])
        except BadHead:
            return self._fault(400)
        self._seen = 0
        self._give(end)
        self._expect(head[2])
        return head

    def _expect(self, fields: Fields) -> None:
        length = fields.length
        self._left = length or 0
        self._chunks = None
        if length is None:
            self.state = CHUNKS
            self._chunks = ChunkedBody()
        else:
            self.state = BODY if length else DONE

    def _body(self) -> bytes:
        piece = self._data[self._at : self._at + self._left]
        self._give(self._at + len(piece))
        self._left -= len(piece)
        if not self._left:
            self.state = DONE
        return piece

    def _piece(self) -> bytes | Fault | None:
        chunks = self._chunks
        assert chunks is not None
        before = self._at
        try:
            pieces, end = chunks.take(self._data, before)
        except BadChunk:
            return self._fault(400)
        self._give(end)
        if chunks.finished:
            self.state = DONE
        elif end == before:
            return None
        return b"".join(pieces)
