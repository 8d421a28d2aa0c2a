"""
Bytes in, requests out: where each request of a connection begins and ends. Knows no socket, no clock and no handler.

A reader is in one of these states. `next` gives what there is, one thing at a time, and None when it takes more bytes:

| state  | what was received                     | `next` gives          | and then it is in |
|--------|---------------------------------------|-----------------------|-------------------|
| IDLE   | nothing, or empty lines               | None                  | IDLE              |
| IDLE   | a part of a head                      | None                  | HEAD              |
| IDLE, HEAD | a head, of a request without a body | the head            | DONE              |
| IDLE, HEAD | a head, of a request with a body  | the head              | BODY, CHUNKS      |
| HEAD   | still a part of a head                | None                  | HEAD              |
| BODY, CHUNKS | a part of the body              | that part             | BODY, CHUNKS      |
| BODY, CHUNKS | the rest of the body            | that part, maybe empty | DONE             |
| any of these | what is not HTTP, or too long   | a `Fault`             | OVER              |
| HEAD   | an empty line that came in two pieces | None                  | HEAD              |
| DONE   | anything: it belongs to what follows  | None                  | DONE, until `go_on`: IDLE |
| OVER   | anything: it is thrown away           | None                  | OVER              |
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
    What was received is no request that can be answered otherwise than by a status.

    :ivar code: that status.
    :ivar start: the first bytes of the request, for the log.
    """

    code: int
    start: bytes = b""


_LOGGED = 1024
"""How many bytes of a faulty head are told to the log."""


class Reader:
    """
    :ivar state: see the table above.
    :ivar short: a head of up to that size keeps all limits, whatever is in it.
    :ivar kept: how many bytes have been received and not been given yet.
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
        """How much of a head that has begun need not be searched for its end again."""
        self._left = 0
        """Bytes of a body with a length that are still to come."""
        self._chunks: ChunkedBody | None = None

    @property
    def kept(self) -> int:
        """How many bytes have been received and not been given yet."""
        return len(self._data) - self._at

    @property
    def promised(self) -> int:
        """How many bytes more the body has at least."""
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
        """Begin with the next request; the one before has been answered."""
        if self.state is DONE:
            self.state = IDLE

    def stop(self) -> None:
        """Read nothing more, and forget what is kept."""
        self.state = OVER
        self._data = b""
        self._at = 0
        self._chunks = None

    def start_of_head(self) -> bytes:
        """The beginning of a head that has begun, for the log."""
        return self._data[self._at : self._at + _LOGGED] if self.state is HEAD else b""

    def _give(self, end: int) -> None:
        """Move on to a place in the data; what has been given whole is not held any longer."""
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
