"""What one connection holds of the request memory: its current request, and the bytes kept for the next ones."""

from __future__ import annotations

from typing import Protocol

from werkzeug.exceptions import ServiceUnavailable

from kvtwist.web.request import FrontRequest
from kvtwist.web.request_memory import LARGE, REQUEST_COST, RequestMemory

_LARGE_KEPT = 4 * 1024
"""More bytes than this, of requests that are not read yet, may not use the share of small requests."""


class Bank(Protocol):
    """
    The memory of all connections.

    :ivar now: the clock's time at the last check of deadlines, in seconds.
    """

    memory: RequestMemory
    now: float


class Account:
    """
    Bytes are counted when they arrive. If there is no memory for them, the methods return False and count nothing.

    :ivar kept: how many bytes of requests that are not read yet are counted.
    """

    __slots__ = ("_bank", "kept")

    def __init__(self, bank: Bank) -> None:
        self._bank = bank
        self.kept = 0

    def admit(self, request: FrontRequest, length: int) -> bool:
        """
        Count a request, if there is memory for it and, at this moment, for its body. The body itself is counted when it
        arrives: announcing one must not cost other clients anything.
        """
        memory = self._bank.memory
        if request.route.is_urgent:
            if not memory.take_urgent(REQUEST_COST):
                return False
        elif not self._take(REQUEST_COST + length, large=length > LARGE):
            return False
        else:
            memory.give_back(length)
        request.held = REQUEST_COST
        return True

    def add_body(self, request: FrontRequest, size: int) -> bool:
        """Count a piece of a body."""
        if not self._take(size, large=request.held - REQUEST_COST + size > LARGE):
            return False
        request.held += size
        return True

    def hold(self, request: FrontRequest, size: int) -> None:
        """
        Count the bytes that a handler holds for the rest of its answer; replaces the count before.

        :raises ServiceUnavailable: there is no request memory for them.
        """
        more = size - request.extra
        if more > 0 and not self._take(more, large=True):
            raise overloaded(request)
        if more < 0:
            self._bank.memory.give_back(-more)
        request.extra = size
        request.held += more

    def keep(self, size: int) -> bool:
        """Count the bytes kept of requests that are not read yet; replaces the count before."""
        more = size - self.kept
        if more > 0 and not self._take(more, large=size > _LARGE_KEPT):
            return False
        if more < 0:
            self._bank.memory.give_back(-more)
        self.kept = size
        return True

    def release(self, request: FrontRequest) -> None:
        """Give back what a request holds."""
        self._bank.memory.give_back(request.held)
        request.held = request.extra = 0

    def _take(self, size: int, large: bool) -> bool:
        return self._bank.memory.take_for_request(size, self._bank.now, large)


def overloaded(request: FrontRequest) -> ServiceUnavailable:
    """The error for a request for which there is no memory."""
    request.error = error = ServiceUnavailable("the server has too much to do")
    return error
