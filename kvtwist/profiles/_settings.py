"""The options that profiles use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from attrs import frozen

Sample = tuple[str, Mapping[str, str], float]


@frozen
class Settings:
    """
    :ivar max_value: largest value, in bytes.
    :ivar max_key: largest key, in bytes of UTF-8, where the spec sets no limit.
    :ivar max_staged: how many bytes of memory staged changes may take.
    :ivar max_operations: how many keys one request may set.
    :ivar max_watches: how many requests may wait for changes.
    :ivar scrape: returns the body of `GET /metrics`.
    :ivar samples: returns the same metrics as (name, labels, value).
    :ivar profiles: the names of all profiles that are served, in line.
    :ivar uptime: returns for how long the server has been running, in seconds.
    """

    max_value: int = 8 * 2**20
    max_key: int = 4096
    max_staged: int = 64 * 2**20
    max_operations: int = 10_000
    max_watches: int = 10_000
    scrape: Callable[[], bytes] = bytes
    samples: Callable[[], Iterable[Sample]] = tuple
    profiles: Sequence[str] = ()
    uptime: Callable[[], float] = float
