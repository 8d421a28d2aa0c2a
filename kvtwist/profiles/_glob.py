"""Patterns in which `$` matches any number of characters, also none; every other character matches itself."""

from __future__ import annotations


class Glob:
    """
    A pattern for whole names. Matching takes time linear in the length of the name.

    Between two wildcards, the leftmost match of a piece is as good as any later one, so there is no backtracking.
    """

    def __init__(self, pattern: str) -> None:
        self._prefix, *rest = pattern.split("$")
        self._exact = not rest
        self._suffix = rest[-1] if rest else ""
        self._pieces = [piece for piece in rest[:-1] if piece]

    def range(self) -> tuple[bytes, bytes | None]:
        """The range of keys (UTF-8) that can match, start <= key < stop; stop is None for no end."""
        start = self._prefix.encode()
        if self._exact:
            return start, start + b"\0"
        # Stop at the first key after all with the prefix. No byte of UTF-8 is 0xff, so the last one can be incremented.
        return start, start[:-1] + bytes([start[-1] + 1]) if start else None

    def matches(self, name: str) -> bool:
        """Whether a whole name matches."""
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
