"""Watches that wait for a change, found by the key that has changed."""

from __future__ import annotations

from attrs import define
from twisted.internet.defer import Deferred

from kvtwist.model import Changes, Watched


@define(eq=False)
class Waiting:
    """
    :ivar after: the revision up to which nothing is left to tell.
    :ivar seconds: how long it waits.
    :ivar until: when that has passed.
    """

    watched: Watched
    after: int
    seconds: float
    until: float
    told: Deferred[Changes]


class Watchers:
    """The watches of a keyspace that wait."""

    def __init__(self) -> None:
        self._keys: dict[bytes, dict[Waiting, None]] = {}
        self._prefixes: dict[int, dict[bytes, dict[Waiting, None]]] = {}
        """By length, then by prefix."""

    def __bool__(self) -> bool:
        return bool(self._keys or self._prefixes)

    def add(self, waiting: Waiting) -> None:
        watched = waiting.watched
        table = self._prefixes.setdefault(len(watched.key), {}) if watched.is_prefix else self._keys
        table.setdefault(watched.key, {})[waiting] = None

    def discard(self, waiting: Waiting) -> None:
        key = waiting.watched.key
        table = self._prefixes.get(len(key), {}) if waiting.watched.is_prefix else self._keys
        if key in table:
            table[key].pop(waiting, None)
            if not table[key]:
                self._removed(waiting.watched.is_prefix, key)

    def take(self, key: bytes) -> list[Waiting]:
        """Remove and return those that watch a key."""
        found: list[Waiting] = []
        if key in self._keys:
            found += self._removed(False, key)
        for length in [length for length in self._prefixes if length <= len(key)]:
            if key[:length] in self._prefixes[length]:
                found += self._removed(True, key[:length])
        return found

    def take_all(self) -> list[Waiting]:
        """Remove and return all of them."""
        tables = (self._keys, *self._prefixes.values())
        self._keys, self._prefixes = {}, {}
        return [waiting for table in tables for found in table.values() for waiting in found]

    def _removed(self, is_prefix: bool, key: bytes) -> dict[Waiting, None]:
        if not is_prefix:
            return self._keys.pop(key)
        table = self._prefixes[len(key)]
        found = table.pop(key)
        if not table:
            del self._prefixes[len(key)]
        return found
