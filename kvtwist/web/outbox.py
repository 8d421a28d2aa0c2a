"""
What a connection sends, and what its client has not taken yet.

Small pieces of responses are gathered and sent together, straight to the socket. What the socket does not take stays
here without a copy, and the transport gets a small piece at a time. So a large response to a client that does not read
costs one piece besides the object itself, which other responses may share. All of it is counted in `RequestMemory`; if
that is exhausted, the connection is evicted.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

from kvtwist.web import transports
from kvtwist.web.request_memory import LARGE, Evictable, RequestMemory

_SMALL = 4 * 1024
"""Pieces up to this size are gathered."""
_GATHERED = 64
"""How many pieces are gathered at most."""
_PIECE = 64 * 1024
"""How many bytes a transport gets at a time."""
_AT_ONCE = 4 * 2**20
"""How many bytes are sent to a client that takes everything before other connections are served."""


class Sender(Protocol):
    """
    What the outboxes of all connections share.

    :ivar now: the clock's time at the last check of deadlines, in seconds.
    """

    memory: RequestMemory
    now: float

    def send_soon(self, outbox: Outbox) -> None:
        """Flush an outbox at the end of the poll; outside of polls, in the reactor's next iteration."""

    def look_soon(self, outbox: Outbox) -> None:
        """Call an outbox's `look` in the reactor's next iteration."""


class Outbox:
    """
    :param owner: the connection.
    :param gathers: whether pieces may wait for the end of a poll.
    :ivar blocked: whether the transport has unsent bytes; the connection sets it when the transport pauses it.
    :ivar corked: whether pieces are gathered until `uncork`, to send the responses to several requests together.
    :ivar is_tls: whether what is sent is encrypted.
    """

    __slots__ = (
        "_gathers",
        "_given",
        "_owner",
        "_pieces",
        "_queue",
        "_site",
        "_socket",
        "_transport",
        "blocked",
        "corked",
        "is_tls",
    )

    def __init__(self, site: Sender, owner: Evictable, transport: Any, gathers: bool) -> None:
        self.blocked = self.corked = False
        self._site = site
        self._owner: Evictable | None = owner
        """None once the outbox is closed."""
        self._transport = transport
        self._socket = transports.socket_of(transport)
        self.is_tls = self._socket is None and transports.is_tls(transport)
        self._gathers = gathers
        self._pieces: list[bytes] = []
        """Gathered pieces; unless the outbox is corked, `send_soon` has been called for them."""
        self._queue: deque[tuple[memoryview, bytes]] = deque()
        """What the transport has not got yet: the rest of each object, and the object."""
        self._given = 0
        """Bytes that the transport holds, as they are counted."""

    @property
    def is_sent(self) -> bool:
        """Whether the kernel has taken all that was sent."""
        return not self._pieces and not self.blocked

    def send(self, data: bytes) -> None:
        """Send bytes, or gather them if they are a small piece."""
        pieces = self._pieces
        pieces.append(data)
        if len(data) > _SMALL or len(pieces) >= _GATHERED:
            self.flush()
        elif not self.corked:
            if not self._gathers:
                self.flush()
            elif len(pieces) == 1:
                self._site.send_soon(self)

    def uncork(self) -> None:
        """Send the pieces that were gathered while the outbox was corked."""
        self.corked = False
        if self._pieces:
            if self._gathers:
                self._site.send_soon(self)
            else:
                self.flush()

    def flush(self) -> None:
        """Send the gathered pieces, to the socket unless earlier bytes are still unsent."""
        pieces = self._pieces
        if not pieces:
            return
        if len(pieces) == 1:
            data = pieces.pop()
        elif len(pieces[-1]) > LARGE:
            data = pieces.pop()
            self.flush()
        else:
            data = b"".join(pieces)
            pieces.clear()
        sent = 0
        if self._socket is not None and not self.blocked:
            try:
                sent = self._socket.send(data)
            except OSError:  # the transport will get the same error, and handle it
                sent = 0
            if sent == len(data):
                return
        if self._owner is not None:
            self._keep(data, sent)

    def resume(self) -> None:
        """Send more: the transport has sent all that it was given."""
        self.blocked = False
        if self._owner is None:
            return
        self._site.memory.remove_evictable(self._owner)
        left = _AT_ONCE
        while self._queue and self._socket is not None and left > 0:
            view, data = self._queue[0]
            try:
                sent = self._socket.send(view[:left])
            except OSError:  # as in `flush`
                break
            left -= sent
            if sent < len(view):
                self._queue[0] = view[sent:], data
                break
            self._queue.popleft()
            self._give_back(data)
        self._fill_transport()

    def look(self) -> None:
        """Check whether a TLS layer, which encrypts later, has left anything unsent."""
        if self._owner is None or self.blocked:
            return
        transports.pause_if_unsent(self._transport)
        if self.blocked:
            self._site.memory.remove_evictable(self._owner)
            self._count_given()

    def close(self) -> None:
        """Send nothing more, and give all memory back."""
        self._owner = self._socket = None
        self._pieces.clear()
        while self._queue:
            self._give_back(self._queue.pop()[1])
        self._site.memory.give_back(self._given)
        self._given = 0

    def abort(self) -> None:
        """Abort the connection, whose response cannot be sent."""
        if self._owner is not None:
            self._owner.evict()

    def _keep(self, data: bytes, sent: int) -> None:
        """Keep what the socket has not taken until the client takes more."""
        memory, owner = self._site.memory, self._owner
        assert owner is not None
        memory.remove_evictable(owner)  # or it might be evicted to make room for its own answer
        if not (memory.share(data) if len(data) > LARGE else memory.take_for_answer(len(data))):
            owner.evict()
            return
        self._queue.append((memoryview(data)[sent:], data))
        self._fill_transport()
        if self.is_tls and not self.blocked:
            self._site.look_soon(self)

    def _fill_transport(self) -> None:
        """Give the transport pieces until it has more than it can send at once."""
        while self._queue and not self.blocked:
            view, data = self._queue[0]
            self._transport.write(bytes(view[:_PIECE]))
            if len(view) > _PIECE:
                self._queue[0] = view[_PIECE:], data
            else:
                self._queue.popleft()
                self._give_back(data)
            transports.pause_if_unsent(self._transport)
        self._count_given()

    def _count_given(self) -> None:
        """Count what the transport holds; while it holds anything, the connection is evictable."""
        owner, memory = self._owner, self._site.memory
        if owner is None:
            return
        size = transports.unsent(self._transport)
        more = size - self._given
        if more > 0 and not memory.take_for_answer(more):
            owner.evict()
            return
        if more < 0:
            memory.give_back(-more)
        self._given = size
        if self.blocked:
            memory.add_evictable(owner, self._site.now)

    def _give_back(self, data: bytes) -> None:
        if len(data) > LARGE:
            self._site.memory.unshare(data)
        else:
            self._site.memory.give_back(len(data))
