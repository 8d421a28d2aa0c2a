"""
Validators of a record (RFC 9110, 8.8): its revision is its strong entity tag, its time the modification date.

They are kept apart from the constant headers of an answer, because those are encoded once for all records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from email.utils import formatdate
from functools import lru_cache
from typing import cast

from msgspec import Struct

Headers = Mapping[str | bytes, str | bytes | Sequence[str | bytes]]
"""Headers of a `klein.Response`. Those in a `MappingProxyType` never change, so their encoding is cached."""


@lru_cache(4096)
def http_date(seconds: int) -> bytes:
    """Format a time, in seconds since the epoch (RFC 9110, 5.6.7)."""
    return formatdate(seconds, usegmt=True).encode()


class TaggedHeaders(Struct, frozen=True, gc=False):
    """
    The headers of an answer with a record's validators.

    :ivar constant: the other headers.
    :ivar revision: the record's revision.
    :ivar modified_ms: when the record was written; None sends no `Last-Modified`.
    """

    constant: Headers
    revision: int
    modified_ms: int | None = None

    def lines(self) -> bytes:
        """The header lines of the validators."""
        if self.modified_ms is None:
            return b'ETag: "%d"\r\n' % self.revision
        return b'ETag: "%d"\r\nLast-Modified: %b\r\n' % (self.revision, http_date(self.modified_ms // 1000))

    def items(self) -> Iterator[tuple[str | bytes, str | bytes | Sequence[str | bytes]]]:
        """All headers, like those of a mapping."""
        yield from self.constant.items()
        yield "ETag", f'"{self.revision}"'
        if self.modified_ms is not None:
            yield "Last-Modified", http_date(self.modified_ms // 1000)


def tagged(constant: Headers, revision: int, modified_ms: int | None = None) -> Headers:
    """Add a record's validators to headers. The result has as much of a mapping as a response needs."""
    return cast(Headers, TaggedHeaders(constant, revision, modified_ms))
