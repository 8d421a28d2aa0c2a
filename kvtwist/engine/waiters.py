"""Deferreds that wait for the same event."""

from __future__ import annotations

from twisted.internet.defer import Deferred


class Waiters:
    """Any number of Deferreds that fire together."""

    def __init__(self) -> None:
        self._waiting: list[Deferred[None]] = []

    def add(self) -> Deferred[None]:
        """A new Deferred, which `fire` fires."""
        done: Deferred[None] = Deferred()
        self._waiting.append(done)
        return done

    def fire(self) -> None:
        """Fire all of them, in order. Those that are added meanwhile wait for the next call."""
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(None)
