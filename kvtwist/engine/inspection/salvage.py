"""
Reads the records of a page whose checksum is wrong, as far as possible.

Bytes count as a record if they have its structure, the key is in the page's range, and the revision is possible. Such a
record may still be wrong: it is unknown which bytes of the page are, and values have no checksum of their own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise

from attrs import frozen

from kvtwist.engine.page import BODY, HEAD, OLD_PAGE_HEADER, is_record, key_of, revision_of

_OFFSET = struct.Struct("<I")


@frozen
class Claim:
    """
    The header of a damaged page, as far as it is consistent.

    :ivar keyspace: the name of the keyspace; None if it cannot be read.
    :ivar count: how many records the page has; None if unknown.
    :ivar table: where the table of offsets begins.
    """

    keyspace: str | None
    count: int | None
    table: int


def claim_of(content: bytes, keyspace: str | None = None) -> Claim:
    """
    Read the header of a damaged page.

    :param keyspace: the keyspace of the page, if it is known.
    """
    # The first bytes tell the format, but they may be damaged.
    starts = (BODY, HEAD) if content.startswith(OLD_PAGE_HEADER) else (HEAD, BODY)
    claims = [_claim_at(content, start, keyspace) for start in starts]
    return next((claim for claim in claims if _is_table(content, claim.table, claim.count)), claims[0])


def _claim_at(content: bytes, at: int, keyspace: str | None) -> Claim:
    """The claim of a page if the name of the keyspace begins at an offset."""
    if len(content) <= at:
        return Claim(keyspace, None, len(content))
    name = content[at + 1 : at + 1 + content[at]]
    if keyspace is None:
        try:
            keyspace = name.decode()
        except UnicodeDecodeError:
            return Claim(None, None, len(content))
    table = at + 1 + len(keyspace.encode()) + _OFFSET.size
    if table > len(content):
        return Claim(keyspace, None, len(content))
    (count,) = _OFFSET.unpack_from(content, table - _OFFSET.size)
    if _is_table(content, table, count):
        return Claim(keyspace, count, table)
    counts = range((len(content) - table) // _OFFSET.size)
    fitting = [other for other in counts if _end_of(content, table, other) == len(content)]
    if len(fitting) == 1:
        return Claim(keyspace, fitting[0], table)
    # The length of the file does not help: bytes are missing, or were inserted.
    return Claim(keyspace, count if count in counts else None, table)


def _is_table(content: bytes, table: int, count: int | None) -> bool:
    if count is None:
        return False
    return table + _OFFSET.size * (count + 1) <= len(content) and _end_of(content, table, count) == len(content)


def _end_of(content: bytes, table: int, count: int) -> int:
    """Where the page would end if it had `count` records."""
    at = table + _OFFSET.size * count
    return at + _OFFSET.size + int(_OFFSET.unpack_from(content, at)[0])


def readable_records(
    content: bytes, claim: Claim, first: bytes, stop: bytes | None, revision: int
) -> list[tuple[bytes, bytes]]:
    """
    (key, encoded record) of all bytes that count as a record, in key order, each key once.

    :param first: the smallest possible key; `stop`: the end of the range (exclusive), None for any.
    :param revision: the largest possible revision.
    """
    found: dict[bytes, bytes] = {}
    for start, end in _places(content, claim):
        record = content[start:end]
        if not is_record(record) or not 0 < revision_of(record) <= revision:
            continue
        key = key_of(record)
        if first <= key and (stop is None or key < stop):
            found.setdefault(key, record)
    return sorted(found.items())


def _places(content: bytes, claim: Claim) -> Iterator[tuple[int, int]]:
    """Where records may be: counted from the beginning, and from the end if bytes are missing or were inserted."""
    if claim.count is None:
        return
    records = claim.table + _OFFSET.size * (claim.count + 1)
    offsets = [at for (at,) in _OFFSET.iter_unpack(content[claim.table : records])]
    shifts = {0, len(content) - records - offsets[-1]} if offsets else {0}
    for start, end in pairwise(offsets):
        for shift in sorted(shifts, key=abs):
            low, high = records + start + shift, records + end + shift
            if records <= low < high <= len(content) and is_record(content[low:high]):
                yield low, high
                break
