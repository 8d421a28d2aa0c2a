"""
What a connection has to send and its client has not taken yet.

Bytes go to the socket at once where nothing waits; the rest stays here, as the very objects that were to be sent, and
the transport is given a small piece of it at a time. So an answer of any size to a client that does not read costs one
piece beside the object, which other answers may be sending as well. All of it is counted in `RequestMemory`.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from kvtwist.web import transports
from kvtwist.web.request_memory import RequestMemory

JOINED = 64 * 1024
"""Bytes up to this size are counted for themselves; larger objects once for all that send them."""
_PIECE = 64 * 1024
"""How much a transport is given at a time."""
_AT_ONCE = 4 * 2**20
"""How much is sent to a client that takes everything before others have their turn."""
_ALL = float("inf")


class Outbox:
    """
    :ivar blocked: whether the transport has anything unsent; set by the connection when the transport says so.
    """

    __slots__ = ("_given", "_memory", "_queue", "_socket", "_transport", "blocked")

    def __init__(self, memory: RequestMemory, transport: Any, socket: Any) -> None:
        self.blocked = False
        self._memory = memory
        self._transport = transport
        self._socket = socket
        self._queue: deque[tuple[memoryview, bytes]] = deque()
        self._given = 0
        """Bytes that the transport holds, as they are counted."""

    def keep(self, data: bytes, sent: int) -> bool:
        """
        Send what the socket has not taken of some bytes as soon as the client takes more.

        Returns False when there is no room to keep them.
        """
        if not self._take(data):
            return False
        self._queue.append((memoryview(data)[sent:], data))
        return self._give()

    def go_on(self) -> bool:
        """The transport has sent all that it was given: send more. Returns False when there is no room for that."""
        left = _AT_ONCE
        while self._queue and self._socket is not None and left > 0:
            view, data = self._queue[0]
            try:
                sent = self._socket.send(view[:left])
            except OSError:
                break  # whatever it is, the transport will meet it and knows what to do
            left -= sent
            if sent < len(view):
                self._queue[0] = view[sent:], data
                break
            self._queue.popleft()
            self._leave(data)
        return self._give()

    def count(self) -> bool:
        """Count what the transport holds. Returns False when there is no room for it."""
        size = transports.unsent(self._transport)
        more = size - self._given
        if more > 0 and not self._memory.take_evicting(more, _ALL, large=True):
            return False
        if more < 0:
            self._memory.give_back(-more)
        self._given = size
        return True

    def clear(self) -> None:
        """Send nothing more, and give back what was taken."""
        while self._queue:
            self._leave(self._queue.pop()[1])
        self._memory.give_back(self._given)
        self._given = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits here for the transport."""
        return not self._queue

    def _give(self) -> bool:
        """Give the transport more, until that is more than it can send at once."""
        while self._queue and not self.blocked:
            view, data = self._queue[0]
            self._transport.write(bytes(view[:_PIECE]))
            if len(view) > _PIECE:
                self._queue[0] = view[_PIECE:], data
            else:
                self._queue.popleft()
                self._leave(data)
            transports.pause_if_unsent(self._transport)
        return self.count()

    def _take(self, data: bytes) -> bool:
        if len(data) > JOINED:
            return self._memory.share(data, _ALL)
        return self._memory.take_evicting(len(data), _ALL, large=True)

    def _leave(self, data: bytes) -> None:
        if len(data) > JOINED:
            self._memory.unshare(data)
        else:
            self._memory.give_back(len(data))
