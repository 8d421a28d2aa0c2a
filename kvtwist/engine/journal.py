"""
The journal: what makes an acknowledged write survive, and the rules by which it is read back.

Segments are files `journal-<first revision>.log`: sixteen bytes that say so, then one frame for each batch of
transactions that was written and synced together:

    "KVTB"  u32 length of the payload  u32 CRC-32 of length and payload  payload (MessagePack, `Batch`)

Numbers are little-endian. Revisions are consecutive from frame to frame and from segment to segment.

A crash can leave just one thing unfinished: what was written and not yet synced, at the end of the last segment. That
tail is cut off. Every frame says up to which revision the journal was known to be on disk when it was written, so a
bad frame with a later one behind it that builds on it is damage, not a torn tail. Damage stops the start; it is never
skipped.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Iterator
from itertools import pairwise

import msgspec
from attrs import define

from kvtwist.engine.disk import Disk
from kvtwist.model import NoRoom, StoreDamaged, StoreUnavailable

SEGMENT_HEADER = b"kvtwist journal1"
MAGIC = b"KVTB"
_FRAME = struct.Struct("<4sII")


class Change(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A record that was written; removed, where `value` is None; all of a keyspace, where `key` is None too."""

    keyspace: str
    key: bytes | None
    value: bytes | None = None
    media_type: str = ""
    expires_ms: int | None = None


class Transaction(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All changes of one revision, made at `time_ms`."""

    revision: int
    time_ms: int
    changes: list[Change]


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """What one frame holds; `synced` is the revision up to which the journal was on disk when it was written."""

    synced: int
    transactions: list[Transaction]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Batch).decode


def encode_frame(batch: Batch) -> bytes:
    """The bytes of one frame."""
    payload = _encode(batch)
    return _FRAME.pack(MAGIC, len(payload), _checksum(payload)) + payload


def _checksum(payload: bytes | memoryview) -> int:
    return zlib.crc32(payload, zlib.crc32(struct.pack("<I", len(payload))))


def _frame_at(data: memoryview, offset: int) -> tuple[Batch, int] | None:
    """The batch of the frame that begins there and where it ends, or None where there is no whole, valid one."""
    if len(data) - offset < _FRAME.size:
        return None
    magic, length, checksum = _FRAME.unpack_from(data, offset)
    start = offset + _FRAME.size
    payload = data[start : start + length]
    if magic != MAGIC or len(payload) < length or _checksum(payload) != checksum:
        return None
    try:
        return _decode(payload), start + length
    except msgspec.MsgspecError:
        return None


# --- reading ----------------------------------------------------------------------------------------------------------


@define
class Recovery:
    """What reading the journal back found, for the log."""

    transactions: int = 0
    segments: int = 0
    size: int = 0
    torn_bytes: int = 0


def segment_name(first_revision: int) -> str:
    """The file that begins with that revision."""
    return f"journal-{first_revision:020d}.log"


def segments(disk: Disk, directory: str) -> list[tuple[int, str]]:
    """(first revision, path) of each segment in a directory, oldest first."""
    names = [n for n in disk.names(directory) if n.startswith("journal-") and n.endswith(".log")]
    return [(int(name[8:-4]), os.path.join(directory, name)) for name in names]


def replay(disk: Disk, directory: str, after: int, recovery: Recovery) -> Iterator[Transaction]:
    """
    Every transaction behind revision `after`, in order; cuts off a torn tail on the way.

    :raises StoreDamaged: where the journal is not what was written.
    """
    found = segments(disk, directory)
    expected = None
    for position, (first, path) in enumerate(found):
        last = position == len(found) - 1
        if expected is None:
            if first > after + 1:
                raise StoreDamaged(f"{directory}: the journal begins with revision {first}, {after + 1} is missing")
            expected = first
        elif first != expected:
            raise StoreDamaged(f"{path}: follows on revision {expected - 1}, {expected} to {first - 1} are missing")
        recovery.segments += 1
        for transaction in _read_segment(disk, path, last, expected - 1, recovery):
            if transaction.revision != expected:
                raise StoreDamaged(f"{path}: holds revision {transaction.revision} where {expected} should be")
            expected += 1
            if transaction.revision > after:
                recovery.transactions += 1
                yield transaction


def _read_segment(disk: Disk, path: str, last: bool, revision: int, recovery: Recovery) -> Iterator[Transaction]:
    content = disk.read(path)
    data = memoryview(content)
    if not content.startswith(SEGMENT_HEADER):
        if last and SEGMENT_HEADER.startswith(content):
            return  # the file was made and the crash came before its header was on disk
        raise StoreDamaged(f"{path}: does not begin as a journal segment")
    offset = len(SEGMENT_HEADER)
    while offset < len(data):
        frame = _frame_at(data, offset)
        if frame is None:
            _check_torn(content, path, offset, last, revision)
            disk.cut_file(path, offset)
            recovery.torn_bytes += len(data) - offset
            break
        batch, offset = frame
        for transaction in batch.transactions:
            revision = transaction.revision
            yield transaction
    recovery.size += offset


def _check_torn(content: bytes, path: str, offset: int, last: bool, revision: int) -> None:
    """Return if the bad frame at an offset is a torn tail, which a crash explains; raise if it is damage."""
    if not last:
        raise StoreDamaged(f"{path}: damaged at byte {offset}, behind revision {revision}; later segments build on it")
    data = memoryview(content)
    behind = content.find(MAGIC, offset + 1)
    while behind >= 0:
        frame = _frame_at(data, behind)
        if frame is not None and frame[0].synced > revision:
            raise StoreDamaged(
                f"{path}: damaged at byte {offset}, behind revision {revision}; byte {behind} builds on it"
            )
        behind = content.find(MAGIC, behind + 1)


# --- writing ----------------------------------------------------------------------------------------------------------


class JournalWriter:
    """
    Appends to the last segment. Not thread-safe: one thread owns it. Every call blocks.

    :param durable: whether `append` returns only after fdatasync (`--durability sync`), or after the write (`os`).
    """

    def __init__(self, disk: Disk, directory: str, next_revision: int, durable: bool) -> None:
        """:raises OSError: when the segment cannot be made."""
        self._disk = disk
        self._directory = directory
        self._durable = durable
        self._synced = next_revision - 1
        self._last = next_revision - 1
        self._first = next_revision
        self._descriptor = -1
        self._end = 0
        self._broken: StoreUnavailable | None = None
        self._begin_segment(next_revision)

    def append(self, transactions: list[Transaction]) -> int:
        """
        Write one batch; returns the bytes that it took. When it fails nothing of it stays.

        :raises NoRoom: the disk is full; a later call may succeed.
        :raises StoreUnavailable: what is on disk is not known any more; every later call fails as well.
        """
        if self._broken:
            raise self._broken
        frame = encode_frame(Batch(self._synced, transactions))
        try:
            self._disk.write(self._descriptor, frame)
        except OSError as error:
            self._take_back(error)
        self._end += len(frame)
        if self._durable:
            self._sync()
            self._synced = transactions[-1].revision
        self._last = transactions[-1].revision
        return len(frame)

    def rotate(self) -> None:
        """
        Go on in a new segment. If there cannot be one, go on in this one.

        :raises OSError: there cannot be one.
        """
        if self._broken:
            raise self._broken
        if self._last < self._first:
            return  # nothing was written since the last time
        if not self._durable:
            self._sync()
        self._synced = self._last
        old = self._descriptor
        self._begin_segment(self._last + 1)
        self._disk.close(old)

    def drop(self, revision: int) -> None:
        """Remove the segments in which every transaction is of that revision or an earlier one."""
        found = segments(self._disk, self._directory)
        for (_, path), (following, _) in pairwise(found):
            if following <= revision + 1:
                self._disk.remove(path)

    def close(self) -> None:
        """Sync what is not synced yet, and end."""
        try:
            if not self._durable and not self._broken:
                self._sync()
        finally:
            self._disk.close(self._descriptor)

    def _begin_segment(self, first_revision: int) -> None:
        path = os.path.join(self._directory, segment_name(first_revision))
        descriptor = self._disk.create(path)
        try:
            self._disk.write(descriptor, SEGMENT_HEADER)
            self._disk.sync(descriptor)
            self._disk.sync_directory(self._directory)
        except OSError:
            self._disk.close(descriptor)
            self._disk.remove(path)
            raise
        self._descriptor = descriptor
        self._first = first_revision
        self._end = len(SEGMENT_HEADER)

    def _sync(self) -> None:
        try:
            self._disk.sync(self._descriptor)
        except OSError as error:
            # What the kernel still holds is unknown after a failed sync, and asking again would lie (fsyncgate).
            self._broken = StoreUnavailable(f"the journal cannot be synced ({error}); read-only until restart")
            raise self._broken from error

    def _take_back(self, error: OSError) -> None:
        try:
            self._disk.cut(self._descriptor, self._end)
        except OSError as worse:
            self._broken = StoreUnavailable(f"the journal cannot be cut back ({worse}); read-only until restart")
            raise self._broken from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise NoRoom(f"no room in {self._directory}: {os.strerror(error.errno)}") from error
        self._broken = StoreUnavailable(f"the journal cannot be written ({error}); read-only until restart")
        raise self._broken from error
