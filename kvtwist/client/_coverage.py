"""
What a listing of several pages already shows.

Each page shows the moment at which it was made, and the changes are told from the first page's moment on. So some of
them are in a later page: telling them again would take a key back to an older value.
"""

from __future__ import annotations

from bisect import bisect_left


class Coverage:
    """The pages of one listing. It takes the memory of one key for each page, at most."""

    def __init__(self) -> None:
        self._last_keys: list[bytes] = []
        self._revisions: list[int] = []

    def add(self, following: str | None, revision: int) -> None:
        """A page was listed; :param following: its last key, None for the last page."""
        if self._revisions and self._revisions[-1] == revision:
            self._last_keys.pop()
            self._revisions.pop()
        if following is not None:
            self._last_keys.append(following.encode())
        self._revisions.append(revision)

    @property
    def first(self) -> int:
        """The revision of the first page."""
        return self._revisions[0]

    @property
    def last(self) -> int:
        """The revision of the last page. A later change is in no page."""
        return self._revisions[-1]

    def shows(self, key: str, revision: int) -> bool:
        """Whether a change of a key is in the listing."""
        return revision <= self._revisions[bisect_left(self._last_keys, key.encode())]
