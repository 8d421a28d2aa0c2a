"""
Validators of a record (RFC 9110, 8.8): its revision is its strong entity tag, and it knows when it was modified.

Profiles put them on answers, and the web package writes them behind headers that do not change, so that a head that was
made before is used again for every record.
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
    """A time since the epoch as RFC 9110, 5.6.7, has it."""
    return formatdate(seconds, usegmt=True).encode()


class TaggedHeaders(Struct, frozen=True, gc=False):
    """
    Headers of an answer, and a record's validators.

    :ivar constant: the other headers.
    :ivar revision: of the record.
    :ivar modified_ms: when it was written; None to send no `Last-Modified`.
    """

    constant: Headers
    revision: int
    modified_ms: int | None = None

    def lines(self) -> bytes:
        """The validators as they stand in a head."""
        if self.modified_ms is None:
            return b'ETag: "%d"\r\n' % self.revision
        return b'ETag: "%d"\r\nLast-Modified: %b\r\n' % (self.revision, http_date(self.modified_ms // 1000))

    def items(self) -> Iterator[tuple[str | bytes, str | bytes | Sequence[str | bytes]]]:
        """All headers, as those of a mapping."""
        yield from self.constant.items()
        yield "ETag", f'"{self.revision}"'
        if self.modified_ms is not None:
            yield "Last-Modified", http_date(self.modified_ms // 1000)


def tagged(constant: Headers, revision: int, modified_ms: int | None = None) -> Headers:
    """Headers with a record's validators, see `TaggedHeaders`: of a mapping they have as much as a response needs."""
    return cast(Headers, TaggedHeaders(constant, revision, modified_ms))
