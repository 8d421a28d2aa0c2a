"""What all requests that are being read or answered may take together: past it, clients are told to come back later."""

from __future__ import annotations

REQUEST_COST = 4096
"""Bytes that a request counts for beside its body."""


class InFlight:
    """
    :param limit: in bytes.
    :ivar held: how many of them are taken.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    def take(self, size: int) -> bool:
        """Take so many bytes, if they are there to be taken."""
        if self.held + size > self.limit:
            return False
        self.held += size
        return True

    def give(self, size: int) -> None:
        """Give bytes back."""
        self.held -= size
