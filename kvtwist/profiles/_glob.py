"""Wildcards in which `$` matches any number of characters, none included, and every other character is itself."""

from __future__ import annotations


class Glob:
    """
    A pattern, matched against whole names, in time linear in the name whatever the pattern.

    Between two wildcards the leftmost place where a piece fits is as good as any later one, so nothing is tried twice.
    """

    def __init__(self, pattern: str) -> None:
        self._prefix, *rest = pattern.split("$")
        self._exact = not rest
        self._suffix = rest[-1] if rest else ""
        self._pieces = [piece for piece in rest[:-1] if piece]

    def range(self) -> tuple[bytes, bytes | None]:
        """Keys (UTF-8) with start <= key < stop are the only ones that can match; stop may be None for no end."""
        start = self._prefix.encode()
        if self._exact:
            return start, start + b"\0"
        # The first key behind all that begin with the prefix. In UTF-8 no byte is 0xff, so the last one can go up.
        return start, start[:-1] + bytes([start[-1] + 1]) if start else None

    def matches(self, name: str) -> bool:
        """Whether the whole of a name matches."""
        if self._exact:
            return name == self._prefix
        at = len(self._prefix)
        end = len(name) - len(self._suffix)
        if end < at or not name.startswith(self._prefix) or not name.endswith(self._suffix):
            return False
        for piece in self._pieces:
            at = name.find(piece, at, end)
            if at < 0:
                return False
            at += len(piece)
        return True
