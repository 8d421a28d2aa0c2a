"""
The journal: what makes an acknowledged write survive, and the rules by which it is read back.

Segments are files `journal-<first revision>.log`: a header, then one frame for each batch of transactions that was
written and synced together:

    header: "kvtwist journal1"  u64 salt, random, for this segment  u32 CRC-32 of these 24 bytes
    frame:  "KVTB"  u32 length of the payload  u32 CRC-32 of the payload  u32 CRC-32 of these twelve bytes
            payload (MessagePack, `Batch`)

Numbers are little-endian. Revisions are consecutive from frame to frame and from segment to segment. The checksums of
frames begin with the salt, so no value that a client makes up can pass for a frame.

A sync is nearly twice as fast where the file need not grow (bench/journal.py). So a segment grows by `EXTENT` of zeros
ahead of what is written, and one that a checkpoint has made superfluous is kept, as `journal-spare`, to be the next:
what follows the last frame may be zeros, or frames of another salt, which are none.

A crash can leave just one thing unfinished: what was written and not yet synced, at the end of the last segment. That
tail is cut off, if no whole frame is in it. A bad frame with a whole one after it stops the start, and nothing is cut:

- With `--durability sync` a frame is written once the one before it is synced. So it is damage.
- With `os` it may also be what a loss of power has left, since the kernel writes in any order. The bytes look the same
  as damage, and what follows may have been acknowledged: an operator decides (`kvtwist repair`).

The death of a process alone never leaves it: the kernel has all that was written.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import msgspec
from attrs import define

from kvtwist.engine.disk import Disk, is_passing
from kvtwist.engine.disk_space import FOR_PAGES, PIECES, SPARE, DiskSpace, is_full, transactions_free_space
from kvtwist.model import DATA, HISTORY, JSON, OCTETS, STAGED, TEXT, NoRoom, StoreDamaged, StoreError, StoreUnavailable

SEGMENT_HEADER = b"kvtwist journal1"
MAGIC = b"KVTB"
_SALT = struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")
_HEADER_SIZE = len(SEGMENT_HEADER) + _SALT.size + _CHECKSUM.size
_FRAME = struct.Struct("<4sII")
_HEAD_SIZE = _FRAME.size + _CHECKSUM.size
EXTENT = 2**20
"""By how many bytes a segment grows at a time."""
SPARE_SIZE = 16 * 2**20
"""How much of a superfluous segment is kept at the most."""
SPARE_SHARE = 16
"""It takes no more than this part of what is free on the disk."""
_is_segment = re.compile(r"journal-([0-9]{20})\.log").fullmatch


class Change(msgspec.Struct, frozen=True, gc=False):
    """
    A record that was written; removed, where `value` is None; all of a keyspace, where `key` is None too.

    :ivar modified_ms: None: it was written when its transaction was made.
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
    """What one frame holds; `synced` is the revision up to which the journal was on disk when it was written."""

    synced: int
    transactions: list[Transaction]


# On disk a batch is [synced, first revision, its time, transactions]; a transaction [ms later than the one before,
# changes ...]; a change [keyspace, key, value, media type, expires, modified] without what is None at its end. What
# kvtwist itself names goes by number. Written in full, a record of 100 bytes would take a quarter more.
_NAMES = (DATA, STAGED, HISTORY, JSON, TEXT, OCTETS)
_NUMBERS: dict[str, int | str] = {name: number for number, name in enumerate(_NAMES)}
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[int, int, int, list[list[Any]]]).decode


PIECE = 2**18
"""About how many bytes are packed in one go: that is one call, in which no other thread can run."""
_CHANGE_SIZE = 32
"""About how many bytes a change takes beside its key and value."""


def _encode(batch: Batch) -> list[bytes]:
    """The payload of a frame, in pieces if it is large."""
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
    """The items of a MessagePack array, without what says how many there are."""
    return _pack(items)[len(_array_head(len(items))) :]


def _array_head(count: int) -> bytes:
    """What a MessagePack array of so many items begins with."""
    if count < 16:
        return bytes((0x90 | count,))
    return b"\xdc" + count.to_bytes(2, "big") if count < 2**16 else b"\xdd" + count.to_bytes(4, "big")


def _encode_change(change: Change) -> tuple[object, ...]:
    keyspace = _NUMBERS.get(change.keyspace, change.keyspace)
    if change.value is None:
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
    for later, *changes in packed:
        time_ms += later
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


def _header(salt: bytes) -> bytes:
    start = SEGMENT_HEADER + salt
    return start + _CHECKSUM.pack(zlib.crc32(start))


def encode_frame(batch: Batch, salt: bytes) -> list[bytes]:
    """The bytes of one frame, in a segment of that salt; in pieces if there are many."""
    pieces = _encode(batch)
    checksum = zlib.crc32(salt)
    for piece in pieces:
        checksum = zlib.crc32(piece, checksum)
    head = _FRAME.pack(MAGIC, sum(map(len, pieces)), checksum)
    pieces[0] = head + _CHECKSUM.pack(_checksum(head, salt)) + pieces[0]
    return pieces


def _checksum(data: bytes | memoryview, salt: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(salt))


def _frame_at(data: memoryview, offset: int, salt: bytes) -> tuple[Batch, int] | None:
    """The batch of the frame that begins there and where it ends, or None where there is no whole, valid one."""
    head = _head_at(data, offset, salt)
    if head is None:
        return None
    length, checksum = head
    start = offset + _HEAD_SIZE
    payload = data[start : start + length]
    if len(payload) < length or _checksum(payload, salt) != checksum:
        return None
    try:
        return _decode(payload), start + length
    except (msgspec.MsgspecError, TypeError, IndexError):
        return None


def _head_at(data: memoryview, offset: int, salt: bytes) -> tuple[int, int] | None:
    """Length and checksum of the payload, as the head of a frame has them; None where there is no valid head."""
    start = offset + _HEAD_SIZE
    head = data[offset : offset + _FRAME.size]
    if start > len(data) or _CHECKSUM.unpack_from(data, start - _CHECKSUM.size)[0] != _checksum(head, salt):
        return None
    magic, length, checksum = _FRAME.unpack(head)
    return (length, checksum) if magic == MAGIC else None


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
    found = [_is_segment(name) for name in disk.names(directory)]
    return [(int(name[1]), os.path.join(directory, name[0])) for name in found if name is not None]


def segments_behind(disk: Disk, directory: str, after: int) -> list[tuple[int, str]]:
    """Those of them that are needed beside a manifest of revision `after`; others may or may not be gone yet."""
    found = segments(disk, directory)
    needed = [at for at, (first, _) in enumerate(found) if first <= after + 1]
    return found[needed[-1] :] if needed else found


def replay(disk: Disk, directory: str, after: int, recovery: Recovery) -> Iterator[Transaction]:
    """
    Every transaction behind revision `after`, in order; cuts off a torn tail on the way, and syncs what is left.

    :raises StoreDamaged: where the journal is not what was written.
    :raises OSError: where it cannot be read, or cut.
    """
    found = segments_behind(disk, directory, after)
    expected = found[0][0] if found else after + 1
    if expected > after + 1:
        raise StoreDamaged(f"{directory}: the journal begins with revision {expected}, {after + 1} is missing")
    for position, (first, path) in enumerate(found):
        if first != expected:
            raise StoreDamaged(f"{path}: follows on revision {expected - 1}, {expected} to {first - 1} are missing")
        recovery.segments += 1
        following = found[position + 1][0] if position + 1 < len(found) else None
        for transaction in _read_segment(disk, path, following, expected - 1, recovery):
            if transaction.revision != expected:
                raise StoreDamaged(f"{path}: holds revision {transaction.revision} where {expected} should be")
            expected += 1
            if transaction.revision > after:
                recovery.transactions += 1
                yield transaction
    if expected <= after:
        raise StoreDamaged(f"{directory}: the journal ends with revision {expected - 1}, the pages with {after}")
    _check_others(disk, directory, found, max(after, expected - 1))


def _check_others(disk: Disk, directory: str, found: list[tuple[int, str]], revision: int) -> None:
    """
    Look into the segments that are about to be removed, since their names say that nothing in them is needed.

    :param found: the segments that were read.
    :param revision: the last one that they hold.
    :raises StoreDamaged: another one holds what comes after that: it has the name of another segment.
    """
    for _, path in segments(disk, directory):
        # After a crash a file may have its old name as well as its new one.
        if any(disk.is_same(path, read) for _, read in found):
            continue
        try:
            content = disk.read(path)
        except IsADirectoryError:
            continue
        for frame in whole_frames(content, header_of(content)[0]):
            last = frame.batch.transactions[-1].revision if frame.batch.transactions else 0
            if last > revision:
                raise StoreDamaged(f"{path}: holds revision {last}, which does not belong in a file of that name")


def _read_segment(
    disk: Disk, path: str, following: int | None, revision: int, recovery: Recovery
) -> Iterator[Transaction]:
    """:param following: with which revision the next segment begins; None for the last one."""
    last = following is None
    content = disk.read(path)
    torn_header = len(content) < _HEADER_SIZE and content.startswith(SEGMENT_HEADER[: len(content)])
    if last and (torn_header or not any(content)):
        return  # it was made, and the crash came before its header was on disk
    salt = content[len(SEGMENT_HEADER) : len(SEGMENT_HEADER) + _SALT.size]
    if not content.startswith(_header(salt)):
        raise StoreDamaged(f"{path}: does not begin as a journal segment")
    data = memoryview(content)
    offset = unsure = _HEADER_SIZE
    while offset < len(data):
        frame = _frame_at(data, offset, salt)
        if frame is None:
            if following is None:
                _check_torn(content, path, offset, salt, revision)
                recovery.torn_bytes += _torn_size(data, offset, salt)
            elif following != revision + 1:
                raise StoreDamaged(f"{_damaged(path, offset, revision)}; later segments build on it")
            break
        batch, end = frame
        if batch.synced == revision:
            unsure = offset  # all before it was on the disk when it was written
        offset = end
        for transaction in batch.transactions:
            revision = transaction.revision
            yield transaction
    if last:
        # What a process wrote and did not sync will be read, and built upon: it must not vanish any more. Where a sync
        # has failed, another one stores nothing: the kernel has marked it as clean (fsyncgate). So it is written again.
        disk.cut_file(path, offset, content[unsure:offset])
    recovery.size += offset


def _damaged(path: str, offset: int, revision: int) -> str:
    return f"{path}: damaged at byte {offset}, behind revision {revision}"


def _torn_size(data: memoryview, offset: int, salt: bytes) -> int:
    """The bytes that are there of a frame whose head is whole, and 0 where there is none: nothing was lost there."""
    head = _head_at(data, offset, salt)
    return min(_HEAD_SIZE + head[0], len(data) - offset) if head else 0


def _check_torn(content: bytes, path: str, offset: int, salt: bytes, revision: int) -> None:
    """Return if there is no whole frame from an offset on, so that a crash explains it; raise if there is one."""
    later = next(whole_frames(content, salt, offset + 1), None)
    if later is not None:
        found = later.batch.transactions[0].revision
        raise StoreDamaged(
            f"{_damaged(path, offset, revision)}; the whole frame at byte {later.start} goes on with revision {found}"
        )


# --- reading what is damaged, see kvtwist.engine.inspection -----------------------------------------------------------


class Frame(msgspec.Struct, frozen=True):
    """A frame, and the bytes of its segment that it takes."""

    start: int
    end: int
    batch: Batch


def header_of(content: bytes) -> tuple[bytes, bool, int]:
    """The salt of a segment, whether the header that it stands in is whole, and where that ends."""
    salt = content[len(SEGMENT_HEADER) : len(SEGMENT_HEADER) + _SALT.size]
    return salt, content.startswith(_header(salt)), min(_HEADER_SIZE, len(content))


def whole_frames(content: bytes, salt: bytes, start: int = 0) -> Iterator[Frame]:
    """Every frame of a segment from a byte on that is what was written, in their order, whatever lies between."""
    data = memoryview(content)
    offset = content.find(MAGIC, start)
    while offset >= 0:
        end = offset + 1
        frame = _frame_at(data, offset, salt)
        if frame is not None:
            batch, end = frame
            yield Frame(offset, end, batch)
        offset = content.find(MAGIC, end)


# --- writing ----------------------------------------------------------------------------------------------------------


class JournalWriter:
    """
    Appends to the last segment. Not thread-safe: one thread owns it. Every call blocks.

    Its first segment is made when there is something to write: a store on a full disk can be opened and read.

    :param durable: whether `append` returns only after fdatasync (`--durability sync`), or after the write (`os`).
    :ivar broken: why nothing can be written any more, once that is so. It is the one place where that is known: other
        threads may look, too.
    """

    def __init__(
        self, disk: Disk, directory: str, next_revision: int, durable: bool, disk_space: DiskSpace | None = None
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._disk_space = disk_space or DiskSpace(disk, directory)
        self._measured_at = 0
        self._needed = 0
        self._unpaged: list[tuple[int, int]] = []
        self._durable = durable
        self._synced = next_revision - 1
        self._unsynced_cut = False
        self._last = next_revision - 1
        self._first = next_revision
        self._descriptor = -1
        self._end = 0
        self._size = 0
        self._salt = b""
        self._unremoved: str | None = None
        self.broken: str | None = None

    def append(self, transactions: list[Transaction]) -> int:
        """
        Write one batch; returns the bytes that it took. When it fails nothing of it stays.

        :raises NoRoom: the disk is full; a later call may succeed.
        :raises StoreUnavailable: it cannot be now; and if `broken`, what is on disk is not known any more.
        """
        self._check_whole()
        while True:
            try:
                return self._append(transactions)
            except NoRoom:
                leave = FOR_PAGES if transactions_free_space(transactions) else len(PIECES)
                if not self._disk_space.release_piece(leave):
                    self._disk_space.refuse(self._needed)
                    raise

    def _append(self, transactions: list[Transaction]) -> int:
        if not self._begun:
            self._begin_first()
        frame = encode_frame(Batch(self._synced, transactions), self._salt)
        size = self._needed = sum(map(len, frame))
        if self._disk_space.size:
            self._check_room(transactions)
        if self._end + size > self._size:
            self._grow()
        try:
            for piece in frame:
                self._disk.write(self._descriptor, piece)
        except OSError as error:
            self._cut(error)
            raise self._failed_to_write(error) from error
        self._end += size
        self._size = max(self._size, self._end)
        if self._durable:
            self._sync()
            self._synced = transactions[-1].revision
        self._last = transactions[-1].revision
        return size

    def rotate(self) -> int:
        """
        Go on in a new segment. If there cannot be one, go on in this one.

        Returns up to which revision the journal is on the disk itself.
        :raises OSError: there cannot be one.
        """
        self._check_whole()
        if not self._begun:
            self._begin_segment(self._first)  # so that those of the processes before this one can be dropped
            return self._synced
        if self._last < self._first:
            return self._synced  # nothing was written since the last time
        if not self._durable or self._unsynced_cut:
            self._sync()  # nothing but the last segment may be torn
        self._synced = self._last
        old, size = self._descriptor, self._end
        self._begin_segment(self._last + 1)
        self._unpaged.append((self._last, size))
        self._disk.close(old)
        return self._synced

    def flush(self) -> int:
        """Returns up to which revision the journal is on the disk itself, which is all of it."""
        self._check_whole()
        if self._begun and not self._durable:
            self._sync()
        self._synced = self._last
        return self._synced

    def drop(self, revision: int) -> None:
        """Give up the segments that hold nothing behind that revision; keep one as a spare."""
        self._unpaged = [(last, size) for last, size in self._unpaged if last > revision]
        found = segments(self._disk, self._directory)
        superfluous = [path for (_, path), (following, _) in pairwise(found) if following <= revision + 1]
        self._disk_space.measure()
        if superfluous and self._disk_space.free // SPARE_SHARE >= EXTENT:
            # No sync: should the old name come back, what is in it by then is as superfluous as before.
            self._disk.rename(superfluous.pop(), self._spare)
            self._trim_spare()
        for path in superfluous:
            self._disk.remove(path)
        self._disk_space.measure()

    def mark(self, after: int) -> tuple[int, list[tuple[str, int]]]:
        """
        The last revision that was written, which is on the disk itself now, and (path, bytes in use) of each segment
        that is needed beside a manifest of revision `after`.

        :raises OSError: a file cannot be looked at.
        :raises StoreUnavailable: what is on disk is not known.
        """
        self._check_whole()
        found = segments_behind(self._disk, self._directory, after)
        if not self._begun:  # what there is was synced when it was replayed, but for one that was never finished
            return self._last, [(path, self._disk.length(path)) for first, path in found if first <= self._last]
        self.flush()
        *whole, (_, current) = found
        return self._last, [*((path, self._disk.length(path)) for _, path in whole), (current, self._end)]

    def close(self) -> None:
        """Sync what is not synced yet, and end."""
        if not self._begun:
            return
        try:
            if not self._durable and not self.broken:
                self._sync()
        finally:
            self._disk.close(self._descriptor)

    def _trim_spare(self) -> None:
        descriptor = self._disk.reopen(self._spare)
        try:
            most = min(SPARE_SIZE, self._disk_space.free // SPARE_SHARE)
            if self._disk.size(descriptor) > most:
                self._disk.cut(descriptor, most)
        finally:
            self._disk.close(descriptor)

    @property
    def _spare(self) -> str:
        return os.path.join(self._directory, SPARE)

    @property
    def _begun(self) -> bool:
        """Whether there is a segment of its own."""
        return self._descriptor >= 0

    def _begin_first(self) -> None:
        try:
            self._begin_segment(self._first)
        except OSError as error:
            raise self._failed_to_write(error) from error

    def _begin_segment(self, first_revision: int) -> None:
        path = os.path.join(self._directory, segment_name(first_revision))
        salt = os.urandom(_SALT.size)
        reused = SPARE in self._disk.names(self._directory)
        if reused and not self._begun and self._spare_counts():
            self._disk.remove(self._spare)
            reused = False
        try:
            descriptor, size = self._named(path, salt, reused)
        except OSError:
            if not reused:
                raise
            descriptor, size = self._named(path, salt, False)
        self._descriptor = descriptor
        self._first = first_revision
        self._end = _HEADER_SIZE
        self._size = size
        self._salt = salt
        self._unsynced_cut = False
        self._measured_at = 0

    def _named(self, path: str, salt: bytes, reused: bool) -> tuple[int, int]:
        """The spare, or a new file, under the name of a segment."""
        name = self._spare
        descriptor = self._disk.reopen(name) if reused else self._disk.create(name)
        try:
            # The header first, on the disk itself: under the new name nothing counts that the file has held before.
            self._disk.write(descriptor, _header(salt))
            self._disk.sync(descriptor)
            self._disk.rename(name, path)
            name = path
            self._disk.sync_directory(self._directory)
            return descriptor, self._disk.size(descriptor)
        except OSError as error:
            self._disk.close(descriptor)
            self._take_name_back(name, error)
            raise

    def _spare_counts(self) -> bool:
        """Whether it is a segment, too: a crash in the middle of a renaming may have left both names."""
        return any(self._disk.is_same(self._spare, path) for _, path in segments(self._disk, self._directory))

    def _take_name_back(self, name: str, error: OSError) -> None:
        """Remove a segment that could not be begun, for good: it must not come back behind one that has gone on."""
        self._unremoved = name
        try:
            self._remove_unremoved()
        except StoreUnavailable as worse:
            raise worse from error

    def _remove_unremoved(self) -> None:
        """Nothing is written before that is done."""
        name = self._unremoved
        if name is None:
            return
        try:
            with suppress(FileNotFoundError):
                self._disk.remove(name)
            if name != self._spare:
                self._disk.sync_directory(self._directory)
        except OSError as error:
            if is_passing(error):
                raise _not_now(error) from error
            raise self.give_up(f"a journal segment cannot be removed ({error.strerror})") from error
        self._unremoved = None

    def _check_room(self, transactions: list[Transaction]) -> None:
        """
        :raises NoRoom: what there is belongs to the reserve, or the next checkpoint will need it: all that is not in
            pages yet has to find room there before the journal can go.
        """
        disk_space = self._disk_space
        unpaged = self._end + sum(size for _, size in self._unpaged)
        if disk_space.free < 4 * unpaged + 2 * disk_space.size or self._end >= self._measured_at:
            disk_space.measure()
            self._measured_at = self._end + EXTENT
        if transactions_free_space(transactions):
            return
        if not disk_space.is_whole and not disk_space.refill():
            raise NoRoom("no room on the disk")
        if unpaged + 2 * self._needed > disk_space.free + disk_space.size // 4:
            raise NoRoom("no room on the disk")

    def _grow(self) -> None:
        """Let the segment grow ahead. Where there is no room for so much, there may be enough for the next frame."""
        ahead = min(EXTENT, self._disk_space.free // SPARE_SHARE)
        if ahead < self._needed and self._disk_space.is_scarce:
            return  # none of it for zeros
        try:
            self._disk.extend(self._descriptor, max(ahead, self._needed))
            self._size = self._disk.size(self._descriptor)
        except OSError as error:
            self._cut(error)

    def _cut(self, error: OSError) -> None:
        """Take back what failed to be written."""
        try:
            self._disk.cut(self._descriptor, self._end)
        except OSError as worse:
            raise self.give_up(f"the journal cannot be cut back ({worse.strerror})") from error
        self._size = self._end
        self._unsynced_cut = True

    def _check_whole(self) -> None:
        if self.broken is not None:
            raise StoreUnavailable(self.broken)
        self._remove_unremoved()

    def _sync(self) -> None:
        try:
            self._disk.sync(self._descriptor)
        except OSError as error:
            # What the kernel still holds is unknown after a failed sync, and asking again would lie (fsyncgate).
            raise self.give_up(f"the journal cannot be synced ({error.strerror})") from error
        self._unsynced_cut = False

    def _failed_to_write(self, error: OSError) -> StoreError:
        """What is to be raised where nothing of what failed is left."""
        if is_full(error):
            return NoRoom(f"no room on the disk ({error.strerror})")
        if is_passing(error):
            return _not_now(error)
        return self.give_up(f"the journal cannot be written ({error.strerror})")

    def give_up(self, reason: str) -> StoreUnavailable:
        """Write nothing any more; returns what is to be told to those who write."""
        self.broken = f"{reason}; read-only until restart"
        return StoreUnavailable(self.broken)


def _not_now(error: OSError) -> StoreUnavailable:
    return StoreUnavailable(f"the journal cannot be written just now ({error.strerror})")
