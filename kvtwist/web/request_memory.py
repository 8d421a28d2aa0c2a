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


class Holder(Protocol):
    """
    A connection that holds something and waits for its client.

    :ivar progressed: when the client last did something worth mentioning, in seconds.
    """

    progressed: float

    def drop(self) -> None:
        """Hang up, and give back all that is held, at once."""


class RequestMemory:
    """
    :param limit: in bytes.
    :ivar held: how many of them are taken.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.dropped = 0
        """How many connections were hung up on to make room."""
        self._left = limit // SHARE_LEFT
        self._shared: dict[int, int] = {}
        """How many answers are sending an object, by its identity."""
        self._line: OrderedDict[Holder, None] = OrderedDict()

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

    def give(self, size: int) -> None:
        """Give bytes back."""
        self.held -= size

    def make_room(self, size: int, since: float, large: bool = False) -> bool:
        """
        Take so many bytes, hanging up on connections whose clients have done nothing since then.

        :param since: in seconds; infinity for any connection that waits for its client.
        :param large: whether the share for small requests must be left alone.
        """
        limit = self.limit - self._left if large else self.limit
        while self.held + size > limit:
            first = next(iter(self._line), None)
            if first is None or first.progressed > since:
                return False
            self.dropped += 1
            first.drop()
            self.leave(first)
        self.held += size
        return True

    def share(self, value: bytes, since: float) -> bool:
        """Take the bytes of an object that other answers may be sending as well; see `make_room`."""
        senders = self._shared.get(id(value), 0)
        if not senders and not self.make_room(len(value), since, large=True):
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

    def wait(self, holder: Holder, now: float) -> None:
        """Put a connection at the end of the line: its client has just done something, and is waited for again."""
        holder.progressed = now
        self._line[holder] = None
        self._line.move_to_end(holder)

    def leave(self, holder: Holder) -> None:
        """Take a connection out of the line: its client is not waited for."""
        self._line.pop(holder, None)
