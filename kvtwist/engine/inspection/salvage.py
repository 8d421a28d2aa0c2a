"""
What can still be read of a page whose checksum fails.

A record is taken for one if it has the structure of one, its key is in the page's range, and its revision can be. That
does not make it right: nobody knows which bytes of the page are wrong, and a value has no checksum of its own.
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
    What a damaged page says of itself, as far as it makes sense.

    :ivar keyspace: the keyspace's name, None if it cannot be read.
    :ivar count: how many records it has, None if nobody can tell.
    :ivar table: where the table of offsets begins.
    """

    keyspace: str | None
    count: int | None
    table: int


def claim_of(content: bytes, keyspace: str | None = None) -> Claim:
    """
    :param keyspace: whose page it is, if that is known.
    """
    # The header tells the format, but it may be what is damaged.
    starts = (BODY, HEAD) if content.startswith(OLD_PAGE_HEADER) else (HEAD, BODY)
    claims = [_claim_at(content, start, keyspace) for start in starts]
    return next((claim for claim in claims if _is_table(content, claim.table, claim.count)), claims[0])


def _claim_at(content: bytes, at: int, keyspace: str | None) -> Claim:
    """The claim of a page in which the keyspace's name is there."""
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
    # The length of the file says nothing: a part of it is missing, or something was put in.
    return Claim(keyspace, count if count in counts else None, table)


def _is_table(content: bytes, table: int, count: int | None) -> bool:
    if count is None:
        return False
    return table + _OFFSET.size * (count + 1) <= len(content) and _end_of(content, table, count) == len(content)


def _end_of(content: bytes, table: int, count: int) -> int:
    """Where the page would end if it had so many records."""
    at = table + _OFFSET.size * count
    return at + _OFFSET.size + int(_OFFSET.unpack_from(content, at)[0])


def readable_records(
    content: bytes, claim: Claim, first: bytes, stop: bytes | None, revision: int
) -> list[tuple[bytes, bytes]]:
    """
    (key, encoded record) of all that has the structure of a record, in key order, each key once.

    :param first: its first key can be, and `stop` what it must be less than, None: any.
    :param revision: the largest that a record can have.
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
    """Where records may be: counted from the beginning, and from the end where bytes are missing or were put in."""
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
