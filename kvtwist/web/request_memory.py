"""
What all requests and their answers may hold in memory together, and which connection loses when that is not enough.

Everything that a client can make the server keep is counted here in bytes, when it has arrived and not when it is
announced: what has been read of a head or a body, what a handler holds for its answer, and what an answer still has to
send. A value that several answers send is one object, and is counted once.

Whoever waits for its client (to send the rest of a body, to take an answer) is in a line, the one whose client has done
nothing for the longest first. When room is short, the first in line is hung up on.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

REQUEST_COST = 4096
"""Bytes that a request counts for beside its body."""
SHARE_LEFT = 8
"""One part in so many of the limit is left to small requests: large bodies and answers cannot take it."""
STALLED_SECONDS = 1.0
"""A client that has done nothing for so long makes room for a request that has none."""
URGENT_BYTES = 2**20
"""What requests that must always be answered, such as a health check, may take beyond the limit."""


class Evictable(Protocol):
    """
    A connection that holds something and waits for its client.

    :ivar progressed: when the client last did something worth mentioning, in seconds.
    """

    progressed: float

    def evict(self) -> None:
        """Hang up, and give back all that is held, at once."""


class RequestMemory:
    """
    :param limit: in bytes.
    :ivar held: how many of them are taken.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.evicted = 0
        """How many connections were hung up on to make room."""
        self._left = limit // SHARE_LEFT
        self._shared: dict[int, int] = {}
        """How many answers are sending an object, by its identity."""
        self._evictable: OrderedDict[Evictable, None] = OrderedDict()

    def take(self, size: int) -> bool:
        """Take so many bytes, if they are there to be taken."""
        if self.held + size > self.limit:
            return False
        self.held += size
        return True

    def take_urgent(self, size: int) -> bool:
        """Take so many bytes for what must be answered even if there is no room."""
        if self.held + size > self.limit + URGENT_BYTES:
            return False
        self.held += size
        return True

    def give_back(self, size: int) -> None:
        """Give bytes back."""
        self.held -= size

    def take_evicting(self, size: int, since: float, large: bool = False) -> bool:
        """
        Take so many bytes, hanging up on connections whose clients have done nothing since then.

        :param since: in seconds; infinity for any connection that waits for its client.
        :param large: whether the share for small requests must be left alone.
        """
        limit = self.limit - self._left if large else self.limit
        while self.held + size > limit:
            first = next(iter(self._evictable), None)
            if first is None or first.progressed > since:
                return False
            self.evicted += 1
            first.evict()
            self.remove_evictable(first)
        self.held += size
        return True

    def share(self, value: bytes, since: float) -> bool:
        """Take the bytes of an object that other answers may be sending as well; see `make_room`."""
        senders = self._shared.get(id(value), 0)
        if not senders and not self.take_evicting(len(value), since, large=True):
            return False
        self._shared[id(value)] = senders + 1
        return True

    def unshare(self, value: bytes) -> None:
        """An answer sends it no longer."""
        senders = self._shared.pop(id(value))
        if senders > 1:
            self._shared[id(value)] = senders - 1
        else:
            self.held -= len(value)

    def add_evictable(self, connection: Evictable, now: float) -> None:
        """Put a connection at the end of the line: its client has just done something, and is waited for again."""
        connection.progressed = now
        self._evictable[connection] = None
        self._evictable.move_to_end(connection)

    def remove_evictable(self, connection: Evictable) -> None:
        """Take a connection out of the line: its client is not waited for."""
        self._evictable.pop(connection, None)
