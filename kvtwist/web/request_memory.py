"""
The memory that requests and their answers may take together, and which connection is evicted when that is not enough.

Everything that a client can make the server keep is counted here in bytes, when it arrives and not when it is
announced: what has been read of a head or a body, what a handler holds for its answer, and what an answer still has to
send. A value that several answers send is one object, and is counted once.

A connection is *evictable* while it waits for its client, to send the rest of a request or to take an answer. When
memory is short, the evictable connection whose client has done nothing for the longest is aborted.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

REQUEST_COST = 4096
"""Bytes that a request counts for beside its body."""
LARGE = 64 * 1024
"""Bytes of a body, or of an object that is sent, beyond which it is large. Responses share large objects."""
SHARE_LEFT = 8
"""Large bodies and answers leave one part in so many of the limit to small requests."""
STALLED_SECONDS = 1.0
"""A request evicts only connections whose clients have done nothing for so long."""
URGENT_BYTES = 2**20
"""What requests that must always be answered, such as a health check, may take beyond the limit."""
_ANY_TIME = float("inf")


class Evictable(Protocol):
    """
    A connection that holds memory and waits for its client.

    :ivar progressed: when the client last sent or took something, in seconds.
    """

    progressed: float

    def evict(self) -> None:
        """Abort the connection, and give back all that it holds, at once."""


class RequestMemory:
    """
    :param limit: in bytes.
    :ivar held: how many bytes are taken.
    :ivar evicted: how many connections were aborted to free memory.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.evicted = 0
        self._large_limit = limit - limit // SHARE_LEFT
        self._senders: dict[int, int] = {}
        """How many answers send an object, by its identity."""
        self._evictable: OrderedDict[Evictable, None] = OrderedDict()
        """Ordered by `progressed`."""

    def take(self, size: int) -> bool:
        """Take so many bytes if they are free; returns whether they were."""
        if self.held + size > self.limit:
            return False
        self.held += size
        return True

    def take_urgent(self, size: int) -> bool:
        """Take so many bytes for a request that must be answered even beyond the limit."""
        if self.held + size > self.limit + URGENT_BYTES:
            return False
        self.held += size
        return True

    def give_back(self, size: int) -> None:
        """Free bytes that were taken."""
        self.held -= size

    def take_evicting(self, size: int, since: float, large: bool = False) -> bool:
        """
        Take so many bytes, evicting connections whose clients have done nothing since then.

        :param since: in seconds; infinity for any evictable connection.
        :param large: whether to leave the share of small requests alone.
        """
        limit = self._large_limit if large else self.limit
        while self.held + size > limit:
            stalest = next(iter(self._evictable), None)
            if stalest is None or stalest.progressed > since:
                return False
            self.evicted += 1
            stalest.evict()
            self.remove_evictable(stalest)
        self.held += size
        return True

    def take_for_request(self, size: int, now: float, large: bool) -> bool:
        """Take bytes for what a client sends, or for what its handler holds, evicting stalled connections alone."""
        return self.take_evicting(size, now - STALLED_SECONDS, large)

    def take_for_answer(self, size: int) -> bool:
        """Take bytes for what a client does not take, evicting any evictable connection."""
        return self.take_evicting(size, _ANY_TIME, large=True)

    def share(self, value: bytes) -> bool:
        """Take the bytes of an object that other answers may be sending as well; see `take_for_answer`."""
        senders = self._senders.get(id(value), 0)
        if not senders and not self.take_for_answer(len(value)):
            return False
        self._senders[id(value)] = senders + 1
        return True

    def unshare(self, value: bytes) -> None:
        """Give an object back that an answer has sent."""
        senders = self._senders.pop(id(value))
        if senders > 1:
            self._senders[id(value)] = senders - 1
        else:
            self.held -= len(value)

    def add_evictable(self, connection: Evictable, now: float) -> None:
        """Let a connection be evicted from now on: its client has just done something, and is waited for again."""
        connection.progressed = now
        self._evictable[connection] = None
        self._evictable.move_to_end(connection)

    def remove_evictable(self, connection: Evictable) -> None:
        """Evict a connection no more: its client is not waited for."""
        self._evictable.pop(connection, None)
