"""What looking at a store finds: where it is, what it is, and what is lost by it."""

from __future__ import annotations

from typing import Literal

from attrs import frozen

Kind = Literal["problem", "leftover", "note"]


@frozen(kw_only=True)
class Finding:
    """
    :ivar kind: a problem is damage; a leftover is removed by the next start; a note is worth knowing, and no more.
    :ivar file: its path.
    :ivar what: what is the matter, in a sentence.
    :ivar at: the first byte that it is about; None: all of the file.
    :ivar end: the byte behind the last one.
    :ivar page: the number of the page that cannot be used.
    :ivar keyspace: whose records would be lost.
    :ivar first: the first key of the range that they are in.
    :ivar stop: the key at which the range ends, and that is not in it; None: it goes to the end.
    :ivar records: how many records that page holds; None: nobody can tell.
    :ivar readable: how many of them can be read.
    :ivar revisions: the first and the last transaction that would be lost.
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
