"""The findings of an inspection: where a fault is, what it is, and which records are lost by it."""

from __future__ import annotations

from typing import Literal

from attrs import frozen

Kind = Literal["problem", "leftover", "note"]


@frozen(kw_only=True)
class Finding:
    """
    :ivar kind: a problem is damage; a leftover is removed by the next start; a note is information.
    :ivar file: the path of the file.
    :ivar what: the description, in a sentence.
    :ivar at: the first byte concerned; None for the whole file.
    :ivar end: the byte after the last one.
    :ivar page: the number of the page that cannot be used.
    :ivar keyspace: the keyspace whose records are lost.
    :ivar first: the first key of their range.
    :ivar stop: the key at which the range ends (exclusive); None for the end of the keyspace.
    :ivar records: how many records the page holds; None if unknown.
    :ivar readable: how many of them can be read.
    :ivar revisions: the first and the last transaction that are lost.
    """

    kind: Kind
    file: str
    what: str
    at: int | None = None
    end: int | None = None
    page: int | None = None
    keyspace: str | None = None
    first: bytes | None = None
    stop: bytes | None = None
    records: int | None = None
    readable: int | None = None
    revisions: tuple[int, int] | None = None
