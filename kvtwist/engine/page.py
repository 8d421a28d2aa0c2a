"""
Pages: records in key order, in one block of bytes.

Records are decoded when they are read, not when the page is loaded: a page in memory is as large as on disk, and a key
is found by bisection over the bytes. Records are copied from page to page without decoding.

    "kvtpage2"  u32 CRC-32 of all that follows
    u64 number of the page
    u8 length and name of the keyspace
    u32 number of records  u32 offset of each record and of the end, from the end of this table
    records

    record: u16 length of the key  u8 kind  u48 revision
            u48 modified (ms)  unless it is a tombstone
            u48 expires (ms)   if kind has EXPIRES
            u8 length and name of the media type, if it is not one that has a number
            key  value

Numbers are little-endian. `kind` is the number of the media type, with flags. A page of the first format begins with
"kvtpage1" and does not hold its number; it is read, and no longer written.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence

from kvtwist.engine.memtable import Entry, Tombstone
from kvtwist.model import JSON, OCTETS, TEXT, Record, StoreDamaged

PAGE_HEADER = b"kvtpage2"
OLD_PAGE_HEADER = b"kvtpage1"
_CHECKSUM = struct.Struct("<I")
_NUMBER = struct.Struct("<Q")
_COUNT = struct.Struct("<I")
BODY = len(PAGE_HEADER) + _CHECKSUM.size
"""Where the part begins that the checksum covers."""
HEAD = BODY + _NUMBER.size
"""Where the name of the keyspace begins."""
_NAMES = {PAGE_HEADER: HEAD, OLD_PAGE_HEADER: BODY}
NONSENSE = (struct.error, ValueError, IndexError)
"""The exceptions that reading bytes may raise that were never written as a page."""

MAX_KEY = 0xFFFF
TOMBSTONE = 0x80
EXPIRES = 0x40
_NAMED = 0x3F
_MEDIA_TYPES = (JSON, TEXT, OCTETS)
_MEDIA_NUMBERS = {name: number for number, name in enumerate(_MEDIA_TYPES)}
_FIXED = 9  # key length, kind, revision


def encode_record(key: bytes, entry: Entry) -> bytes:
    """Encode a record. The key is at most `MAX_KEY` bytes long."""
    head = len(key).to_bytes(2, "little")
    revision = entry.revision.to_bytes(6, "little")
    if isinstance(entry, Tombstone):
        return b"%b\x80%b%b" % (head, revision, key)
    kind = _MEDIA_NUMBERS.get(entry.media_type, _NAMED)
    name = b""
    if kind == _NAMED:
        media_type = entry.media_type.encode()
        name = bytes([len(media_type)]) + media_type
    expires = b""
    if entry.expires_ms is not None:
        kind |= EXPIRES
        expires = entry.expires_ms.to_bytes(6, "little")
    modified = entry.modified_ms.to_bytes(6, "little")
    return b"%b%c%b%b%b%b%b%b" % (head, kind, revision, modified, expires, name, key, entry.value)


def tombstone_of(record: bytes) -> bytes:
    """The tombstone for the key of an encoded record, with its revision."""
    return record[:2] + bytes([TOMBSTONE]) + record[3:_FIXED] + key_of(record)


def key_of(record: bytes) -> bytes:
    """The key of an encoded record."""
    start = _key_start(record, 0)
    return record[start : start + record[0] + (record[1] << 8)]


def is_tombstone(record: bytes) -> bool:
    """Whether an encoded record is a tombstone."""
    return record[2] & TOMBSTONE != 0


def expires_of(record: bytes) -> int | None:
    """When an encoded record expires; None for never."""
    return int.from_bytes(record[_FIXED + 6 : _FIXED + 12], "little") if record[2] & EXPIRES else None


def weight_of(record: bytes) -> int:
    """The bytes of key and value of an encoded record."""
    return len(record) - _key_start(record, 0)


def is_record(record: bytes) -> bool:
    """Whether bytes, which may be damaged, have the structure of a record."""
    if len(record) < _FIXED:
        return False
    kind = record[2]
    if kind & TOMBSTONE:
        return kind == TOMBSTONE and len(record) == _FIXED + record[0] + (record[1] << 8)
    number = kind & _NAMED
    named = _FIXED + (12 if kind & EXPIRES else 6)
    if len(record) < named or (number != _NAMED and number >= len(_MEDIA_TYPES)):
        return False
    start = named
    if number == _NAMED:
        if len(record) == named:
            return False
        start = named + 1 + record[named]
        try:
            record[named + 1 : start].decode()
        except UnicodeDecodeError:
            return False
    return len(record) >= start + record[0] + (record[1] << 8)


def revision_of(record: bytes) -> int:
    """The revision of an encoded record."""
    return int.from_bytes(record[3:_FIXED], "little")


def decode_record(record: bytes) -> Entry:
    """Decode a record."""
    return _decode(record, 0, len(record))


def _decode(data: bytes, at: int, end: int) -> Entry:
    kind = data[at + 2]
    if kind < _NAMED:
        size, _, revision, revision_high, modified, modified_high = _PLAIN.unpack_from(data, at)
        value = data[at + 15 + size : end]
        return Record(value, _MEDIA_TYPES[kind], revision | revision_high << 32, modified | modified_high << 32)
    revision = int.from_bytes(data[at + 3 : at + 9], "little")
    if kind & TOMBSTONE:
        return Tombstone(revision)
    modified_ms = int.from_bytes(data[at + 9 : at + 15], "little")
    expires_ms = int.from_bytes(data[at + 15 : at + 21], "little") if kind & EXPIRES else None
    start = _key_start(data, at)
    number = kind & _NAMED
    if number == _NAMED:
        named = at + (21 if kind & EXPIRES else 15)
        media_type = data[named + 1 : start].decode()
    else:
        media_type = _MEDIA_TYPES[number]
    value = data[start + data[at] + (data[at + 1] << 8) : end]
    return Record(value, media_type, revision, modified_ms, expires_ms)


def _key_start(data: bytes, at: int) -> int:
    kind = data[at + 2]
    if kind & TOMBSTONE:
        return at + _FIXED
    start = at + _FIXED + (12 if kind & EXPIRES else 6)
    return start + 1 + data[start] if kind & _NAMED == _NAMED else start


def encode_page(number: int, keyspace: str, records: Sequence[bytes]) -> bytes:
    """Encode a page of encoded records, which are in key order."""
    name = keyspace.encode()
    offsets = array("I", [0])
    end = 0
    for record in records:
        end += len(record)
        offsets.append(end)
    head = _NUMBER.pack(number) + bytes([len(name)]) + name + _COUNT.pack(len(records))
    body = b"".join([head, offsets.tobytes(), *records])
    return PAGE_HEADER + _CHECKSUM.pack(zlib.crc32(body)) + body


def checksum_of(content: bytes) -> int:
    """The checksum that an encoded page holds."""
    return int(_CHECKSUM.unpack_from(content, len(PAGE_HEADER))[0])


def number_of(content: bytes) -> int | None:
    """The number in the first bytes of a page; None if they hold none."""
    if not content.startswith(PAGE_HEADER) or len(content) < HEAD:
        return None
    return int(_NUMBER.unpack_from(content, BODY)[0])


LANDMARKS = 16
"""Every 16th key is kept decoded, see `Page.get`."""
_SEARCHED = 8 * 1024
"""Up to this many bytes are searched for a key with `bytes.find`, which is faster than bisection."""
_LARGE = _SEARCHED
"""A larger record is decoded once for all reads. It does not fit in the bytes that are searched for a key."""
_SHARED_COST = 400
"""Memory of such a record besides its bytes: objects and dictionary; rounded up."""
_PLAIN = struct.Struct("<HBIHIH")
"""
The bytes before the key of a *plain* record, which does not expire and whose media type has a number. A number of 48
bits is read in two parts.
"""


class Page:
    """
    A sequence of keys, which can be bisected, and their entries.

    :ivar keyspace: the name of its keyspace.
    :ivar number: its number; None in the first format.
    :ivar checksum: the checksum of the bytes from `BODY` on.
    :ivar size: its size on disk in bytes.
    :ivar shared: additional bytes of memory for large records that were decoded.
    :ivar on_share: called with the number of bytes by which `shared` grows.
    """

    __slots__ = (
        "_data",
        "_landmarks",
        "_large",
        "_offsets",
        "_records",
        "checksum",
        "keyspace",
        "number",
        "on_share",
        "shared",
        "size",
    )

    def __init__(self, content: bytes) -> None:
        """
        :raises StoreDamaged: the checksum is wrong.

        Content that is not a page but has a valid checksum may raise any of `NONSENSE`, now or later.
        """
        header = content[: len(PAGE_HEADER)]
        self.checksum = zlib.crc32(memoryview(content)[BODY:])
        if header not in _NAMES or content[len(header) : BODY] != _CHECKSUM.pack(self.checksum):
            raise StoreDamaged("the page is damaged")
        self._data = content
        self.size = len(content)
        at = _NAMES[header]
        self.number: int | None = _NUMBER.unpack_from(content, BODY)[0] if at == HEAD else None
        name = at + 1
        at = name + content[at]
        self.keyspace = content[name:at].decode()
        (count,) = _COUNT.unpack_from(content, at)
        at += _COUNT.size
        self._records = at + 4 * (count + 1)
        self._offsets = array("I")
        self._offsets.frombytes(content[at : self._records])
        self._landmarks: list[bytes] | None = None
        self._large: dict[int, Entry] = {}
        self.shared = 0
        self.on_share: Callable[[int], object] | None = None

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        """The key at an index."""
        data = self._data
        at = self._records + self._offsets[index]
        kind = data[at + 2]
        start = at + 15 if kind < _NAMED else _key_start(data, at)
        return data[start : start + data[at] + (data[at + 1] << 8)]

    def record(self, index: int) -> bytes:
        """The encoded record at an index."""
        if index in self._large:
            return encode_record(self[index], self._large[index])
        return self._data[self._records + self._offsets[index] : self._records + self._offsets[index + 1]]

    def place(self, index: int) -> tuple[int, int]:
        """The first byte of a record, and the byte after its last one."""
        return self._records + self._offsets[index], self._records + self._offsets[index + 1]

    def entry(self, index: int) -> Entry:
        """The entry at an index. A large value is the same object in all results."""
        at, end = self.place(index)
        if end - at <= _LARGE:
            return _decode(self._data, at, end)
        entry = self._large.get(index)
        return self._share(index) if entry is None else entry

    def _share(self, index: int) -> Entry:
        at, end = self.place(index)
        entry = self._large[index] = _decode(self._data, at, end)
        grown = _SHARED_COST + end - at
        if len(self) == 1 and isinstance(entry, Record):
            # The bytes of the page need not hold the value a second time: it may take most of the memory.
            self._data = self._data[: self.size - len(entry.value)]
            grown = _SHARED_COST
        self.shared += grown
        if self.on_share is not None:
            self.on_share(grown)
        return entry

    def get(self, key: bytes) -> Entry | None:
        """The entry of a key; None if the page has none."""
        # Bisecting a list of keys runs in C; bisecting the page calls `__getitem__`, so only few keys are left for it.
        landmarks = self._landmarks
        if landmarks is None:
            landmarks = self._landmarks = [self[index] for index in range(0, len(self), LANDMARKS)]
        low = (bisect_right(landmarks, key) - 1) * LANDMARKS
        if low < 0:
            return None
        data, offsets, records = self._data, self._offsets, self._records
        high = min(low + LANDMARKS, len(offsets) - 1)
        first, end = records + offsets[low], records + offsets[high]
        if end - first <= _SEARCHED:
            found = data.find(key, first, end)
            if found < 0:
                return None
            index = bisect_right(offsets, found - records, low, high) - 1
            at = records + offsets[index]
            # These bytes are nearly always the key of a record, and not a part of a value or of a longer key.
            is_plain = data[at + 2] < _NAMED
            key_size = data[at] + (data[at + 1] << 8)
            if is_plain and found == at + _PLAIN.size and key_size == len(key):
                return _decode(data, at, records + offsets[index + 1])
        index = bisect_left(self, key, low, high)
        return self.entry(index) if index < high and self[index] == key else None

    def range(self, start: bytes, stop: bytes | None, reverse: bool = False) -> Iterator[tuple[bytes, Entry]]:
        """(key, entry) with start <= key < stop, in order."""
        low = bisect_left(self, start)
        high = len(self) if stop is None else bisect_left(self, stop)
        for index in range(high - 1, low - 1, -1) if reverse else range(low, high):
            yield self[index], self.entry(index)

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """(key, encoded record), in key order."""
        for index in range(len(self)):
            yield self[index], self.record(index)
