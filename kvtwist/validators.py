"""
Validators of a record (RFC 9110, 8.8): its revision is its strong entity tag, and it knows when it was modified.

Profiles put them on answers, and the web package writes them behind headers that do not change, so that a head that was
made before is used again for every record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from email.utils import formatdate
from functools import lru_cache

Headers = Mapping[str | bytes, str | bytes | Sequence[str | bytes]]
"""Headers of a `klein.Response`. Those in a `MappingProxyType` never change, so their encoding is cached."""


@lru_cache(4096)
def http_date(seconds: int) -> bytes:
    """A time since the epoch as RFC 9110, 5.6.7, has it."""
    return formatdate(seconds, usegmt=True).encode()


class Tagged(Headers):
    """
    Headers of an answer, and a record's validators.

    :ivar constant: the other headers.
    :ivar revision: of the record.
    :ivar modified_ms: when it was written; None to send no `Last-Modified`.
    """

    __slots__ = ("constant", "modified_ms", "revision")

    def __init__(self, constant: Headers, revision: int, modified_ms: int | None = None) -> None:
        self.constant = constant
        self.revision = revision
        self.modified_ms = modified_ms

    def lines(self) -> bytes:
        """The validators as they stand in a head."""
        if self.modified_ms is None:
            return b'ETag: "%d"\r\n' % self.revision
        return b'ETag: "%d"\r\nLast-Modified: %b\r\n' % (self.revision, http_date(self.modified_ms // 1000))

    def _validators(self) -> dict[str | bytes, str]:
        found: dict[str | bytes, str] = {"ETag": f'"{self.revision}"'}
        if self.modified_ms is not None:
            found["Last-Modified"] = http_date(self.modified_ms // 1000).decode()
        return found

    def __getitem__(self, name: str | bytes) -> str | bytes | Sequence[str | bytes]:
        validators = self._validators()
        return validators[name] if name in validators else self.constant[name]

    def __iter__(self) -> Iterator[str | bytes]:
        yield from self.constant
        yield from self._validators()

    def __len__(self) -> int:
        return len(self.constant) + len(self._validators())
