"""The options that profiles use."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen


@frozen
class Settings:
    """
    :ivar max_value: largest value, in bytes.
    :ivar max_key: largest key, in bytes of UTF-8, where the spec sets no limit.
    :ivar max_staged: how many bytes of memory staged changes may take.
    :ivar max_operations: how many keys one request may set.
    :ivar max_watches: how many requests may wait for changes.
    :ivar scrape: returns the body of `GET /metrics`.
    :ivar uptime: returns for how long the server has been running, in seconds.
    """

    max_value: int = 8 * 2**20
    max_key: int = 4096
    max_staged: int = 64 * 2**20
    max_operations: int = 10_000
    max_watches: int = 10_000
    scrape: Callable[[], bytes] = bytes
    uptime: Callable[[], float] = float
