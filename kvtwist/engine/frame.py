"""
Frames: how a batch of transactions is encoded in the journal. A frame is one batch, written and synced together.

    frame:  "KVTB"  u32 length of the payload  u32 CRC-32 of the payload  u32 CRC-32 of these twelve bytes
            payload (MessagePack, see `_encode`)

Numbers are little-endian. Both checksums start from the salt of the segment, a random number that no client knows: so
no value that a client stores can pass for a frame.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import msgspec

from kvtwist.model import DATA, HISTORY, JSON, OCTETS, STAGED, TEXT

MAGIC = b"KVTB"
_START = struct.Struct("<4sII")
_CHECKSUM = struct.Struct("<I")
_HEAD_SIZE = _START.size + _CHECKSUM.size
PIECE = 2**18
"""About how many bytes are packed in one call, during which no other thread can run."""
_CHANGE_SIZE = 32
"""About how many bytes a change takes besides its key and value."""


class Change(msgspec.Struct, frozen=True, gc=False):
    """
    A record that was written; that was removed, if `value` is None; a whole keyspace, if `key` is None too.

    :ivar expires_ms: when a written record will expire, or when a removed one did: None if it was deleted.
    :ivar modified_ms: when the record was written, if not at the time of its transaction.
    """

    keyspace: str
    key: bytes | None
    value: bytes | None = None
    media_type: str = ""
    expires_ms: int | None = None
    modified_ms: int | None = None


class Transaction(msgspec.Struct, frozen=True, gc=False):
    """All changes of one revision, made at `time_ms`."""

    revision: int
    time_ms: int
    changes: list[Change]


class Batch(msgspec.Struct, frozen=True):
    """The content of one frame. `synced` is the revision up to which the journal was on disk when it was written."""

    synced: int
    transactions: list[Transaction]


class Frame(msgspec.Struct, frozen=True):
    """A batch and the bytes of its segment that it takes."""

    start: int
    end: int
    batch: Batch


def encode_frame(batch: Batch, salt: bytes) -> list[bytes]:
    """Encode a frame for a segment with that salt; a large one in several pieces."""
    pieces = _encode(batch)
    checksum = zlib.crc32(salt)
    for piece in pieces:
        checksum = zlib.crc32(piece, checksum)
    head = _START.pack(MAGIC, sum(map(len, pieces)), checksum)
    pieces[0] = head + _CHECKSUM.pack(_checksum(head, salt)) + pieces[0]
    return pieces


def frame_at(data: memoryview, offset: int, salt: bytes) -> Frame | None:
    """The frame that begins at an offset; None if no whole and valid one does."""
    head = _head_at(data, offset, salt)
    if head is None:
        return None
    length, checksum = head
    start = offset + _HEAD_SIZE
    payload = data[start : start + length]
    if len(payload) < length or _checksum(payload, salt) != checksum:
        return None
    try:
        return Frame(offset, start + length, _decode(payload))
    except (msgspec.MsgspecError, TypeError, IndexError):
        return None


def frame_size(data: memoryview, offset: int, salt: bytes) -> int | None:
    """How many bytes a frame takes, by its head; None if there is no valid head."""
    head = _head_at(data, offset, salt)
    return None if head is None else _HEAD_SIZE + head[0]


def torn_size(data: memoryview, offset: int, salt: bytes) -> int:
    """How many bytes there are of an unfinished frame; 0 if not even its head is whole, so nothing was lost."""
    return min(frame_size(data, offset, salt) or 0, len(data) - offset)


def whole_frames(content: bytes, salt: bytes, start: int = 0) -> Iterator[Frame]:
    """Every valid frame of a segment from a byte on, in order, whatever lies between them."""
    data = memoryview(content)
    offset = content.find(MAGIC, start)
    while offset >= 0:
        frame = frame_at(data, offset, salt)
        if frame is not None:
            yield frame
        offset = content.find(MAGIC, offset + 1 if frame is None else frame.end)


def _head_at(data: memoryview, offset: int, salt: bytes) -> tuple[int, int] | None:
    """Length and checksum of the payload, by the head of a frame; None if there is no valid head."""
    start = offset + _HEAD_SIZE
    head = data[offset : offset + _START.size]
    if start > len(data) or _CHECKSUM.unpack_from(data, start - _CHECKSUM.size)[0] != _checksum(head, salt):
        return None
    magic, length, checksum = _START.unpack(head)
    return (length, checksum) if magic == MAGIC else None


def _checksum(data: bytes | memoryview, salt: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(salt))


# --- the payload ------------------------------------------------------------------------------------------------------

# A batch is [synced, first revision, its time, transactions]; a transaction [milliseconds after the one before, changes
# ...]; a change [keyspace, key, value, media type, expires, modified] without Nones at its end. Names that kvtwist
# defines are numbers. Field names and full values would make a record of 100 bytes a quarter larger.
_NAMES = (DATA, STAGED, HISTORY, JSON, TEXT, OCTETS)
_NUMBERS: dict[str, int | str] = {name: number for number, name in enumerate(_NAMES)}
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[int, int, int, list[list[Any]]]).decode


def _encode(batch: Batch) -> list[bytes]:
    """The payload of a frame; a large one in several pieces of about `PIECE` bytes."""
    first = batch.transactions[0]
    time_ms = first.time_ms
    pieces: list[bytes] = []
    transactions: list[list[Any]] = []
    size = 0
    for transaction in batch.transactions:
        packed: list[Any] = [transaction.time_ms - time_ms]
        time_ms = transaction.time_ms
        begun = False
        for change in transaction.changes:
            if size >= PIECE:
                head = b"" if begun else _pack_items(transactions) + _array_head(1 + len(transaction.changes))
                pieces.append(head + _pack_items(packed))
                transactions, packed, size, begun = [], [], 0, True
            packed.append(_encode_change(change))
            size += _CHANGE_SIZE + len(change.key or b"") + len(change.value or b"")
        if begun:
            pieces.append(_pack_items(packed))
        else:
            transactions.append(packed)
    if not pieces:
        return [_pack((batch.synced, first.revision, first.time_ms, transactions))]
    head = _pack((batch.synced, first.revision, first.time_ms, None))[:-1] + _array_head(len(batch.transactions))
    return [head, *pieces, _pack_items(transactions)]


def _pack_items(items: list[Any]) -> bytes:
    """The items of a MessagePack array, without its head."""
    return _pack(items)[len(_array_head(len(items))) :]


def _array_head(count: int) -> bytes:
    """The head of a MessagePack array: its type and its length."""
    if count < 16:
        return bytes((0x90 | count,))
    return b"\xdc" + count.to_bytes(2, "big") if count < 2**16 else b"\xdd" + count.to_bytes(4, "big")


def _encode_change(change: Change) -> tuple[object, ...]:
    keyspace = _NUMBERS.get(change.keyspace, change.keyspace)
    if change.value is None:
        if change.expires_ms is not None:
            return keyspace, change.key, None, "", change.expires_ms
        return (keyspace,) if change.key is None else (keyspace, change.key)
    media_type = _NUMBERS.get(change.media_type, change.media_type)
    if change.modified_ms is not None:
        return keyspace, change.key, change.value, media_type, change.expires_ms, change.modified_ms
    if change.expires_ms is None:
        return keyspace, change.key, change.value, media_type
    return keyspace, change.key, change.value, media_type, change.expires_ms


def _decode(payload: memoryview) -> Batch:
    synced, revision, time_ms, packed = _unpack(payload)
    transactions = []
    for later_ms, *changes in packed:
        time_ms += later_ms
        transactions.append(Transaction(revision, time_ms, [_decode_change(*change) for change in changes]))
        revision += 1
    return Batch(synced, transactions)


def _decode_change(
    keyspace: int | str,
    key: bytes | None = None,
    value: bytes | None = None,
    media_type: int | str = "",
    expires_ms: int | None = None,
    modified_ms: int | None = None,
) -> Change:
    return Change(_name(keyspace), key, value, _name(media_type), expires_ms, modified_ms)


def _name(name: int | str) -> str:
    return _NAMES[name] if isinstance(name, int) else name
