"""
The journal: each batch is appended to it, and synced, before its transactions are acknowledged.

It is a series of segments (`kvtwist.engine.segment`) that hold frames (`kvtwist.engine.frame`); a start reads it back
(`kvtwist.engine.recovery`).

A sync is nearly twice as fast where the file need not grow (docs/benchmarks.md). So a segment grows by `EXTENT` of
zeros ahead of what is written. One that a checkpoint has made superfluous is kept, as `journal-spare`, and written over
as the next one.
"""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import pairwise

from kvtwist.engine.disk import Disk, is_passing
from kvtwist.engine.disk_space import FOR_PAGES, PIECES, SPARE, DiskSpace, is_full
from kvtwist.engine.frame import Batch, Transaction, encode_frame
from kvtwist.engine.operations import all_free_space
from kvtwist.engine.segment import HEADER_SIZE, SALT_SIZE, encode_header, segment_name, segments, segments_after
from kvtwist.model import NoRoom, StoreError, StoreUnavailable

EXTENT = 2**20
"""By how many bytes a segment grows at a time."""
SPARE_SIZE = 16 * 2**20
"""The largest part of a superfluous segment that is kept."""
SPARE_SHARE = 16
"""The spare segment takes at most this fraction of the free disk space."""


class JournalWriter:
    """
    Appends to the last segment. Every call blocks. Not thread-safe: the journal thread owns it.

    Its first segment is made with the first batch, so that a store on a full disk can be opened and read.

    :param durable: whether `append` returns after fdatasync (`--durability sync`), or already after the write (`os`).
    :ivar broken: why nothing can be written any more, or None. All of the server reads it here, in any thread.
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
        Write one batch; return its size in bytes. A failure leaves nothing of it.

        :raises NoRoom: the disk is full. A later call may succeed.
        :raises StoreUnavailable: it cannot be written now. If `broken`, the content of the disk is unknown.
        """
        self._check_whole()
        while True:
            try:
                return self._append(transactions)
            except NoRoom:
                leave = FOR_PAGES if all_free_space(transactions) else len(PIECES)
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
        Go on in a new segment; return the revision up to which the journal is on disk.

        :raises OSError: there cannot be a new segment. The present one remains in use.
        """
        self._check_whole()
        if not self._begun:
            self._begin_segment(self._first)  # so that the segments of earlier processes can be removed
            return self._synced
        if self._last < self._first:
            return self._synced  # nothing was written since the last call
        if not self._durable or self._unsynced_cut:
            self._sync()  # only the last segment may be torn
        self._synced = self._last
        old, size = self._descriptor, self._end
        self._begin_segment(self._last + 1)
        self._unpaged.append((self._last, size))
        self._disk.close(old)
        return self._synced

    def flush(self) -> int:
        """Sync the journal; return its last revision."""
        self._check_whole()
        if self._begun and not self._durable:
            self._sync()
        self._synced = self._last
        return self._synced

    def drop(self, revision: int) -> None:
        """Remove the segments that hold nothing after that revision; keep one of them as a spare."""
        self._unpaged = [(last, size) for last, size in self._unpaged if last > revision]
        found = segments(self._disk, self._directory)
        superfluous = [path for (_, path), (following, _) in pairwise(found) if following <= revision + 1]
        self._disk_space.measure()
        if superfluous and self._disk_space.free // SPARE_SHARE >= EXTENT:
            # Not synced: if a loss of power brings the old name back, the segment is as superfluous as before.
            self._disk.rename(superfluous.pop(), self._spare)
            self._trim_spare()
        for path in superfluous:
            self._disk.remove(path)
        self._disk_space.measure()

    def mark(self, after: int) -> tuple[int, list[tuple[str, int]]]:
        """
        Sync the journal; return its last revision, and (path, bytes in use) of each segment that is needed besides a
        manifest of revision `after`.

        :raises OSError: the length of a file cannot be read.
        :raises StoreUnavailable: the content of the disk is unknown.
        """
        self._check_whole()
        found = segments_after(self._disk, self._directory, after)
        if not self._begun:  # replay has synced all segments but an unfinished one
            return self._last, [(path, self._disk.length(path)) for first, path in found if first <= self._last]
        self.flush()
        *whole, (_, current) = found
        return self._last, [*((path, self._disk.length(path)) for _, path in whole), (current, self._end)]

    def close(self) -> None:
        """Sync the journal, and close it."""
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
        """Whether this writer has made a segment."""
        return self._descriptor >= 0

    def _begin_first(self) -> None:
        try:
            self._begin_segment(self._first)
        except OSError as error:
            raise self._failed_to_write(error) from error

    def _begin_segment(self, first_revision: int) -> None:
        path = os.path.join(self._directory, segment_name(first_revision))
        salt = os.urandom(SALT_SIZE)
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
        self._end = HEADER_SIZE
        self._size = size
        self._salt = salt
        self._measured_at = 0

    def _named(self, path: str, salt: bytes, reused: bool) -> tuple[int, int]:
        """Give the spare, or a new file, the name of a segment; return its descriptor and size."""
        name = self._spare
        descriptor = self._disk.reopen(name) if reused else self._disk.create(name)
        try:
            # The header is synced before the rename: with its new salt, the old frames in the file do not count.
            self._disk.write(descriptor, encode_header(salt))
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
        """Whether the spare is a segment, too: a crash during its rename may have left both names."""
        return any(self._disk.is_same(self._spare, path) for _, path in segments(self._disk, self._directory))

    def _take_name_back(self, name: str, error: OSError) -> None:
        """Remove a segment that could not be begun, durably: it must not come back while the old one goes on."""
        self._unremoved = name
        try:
            self._remove_unremoved()
        except StoreUnavailable as worse:
            raise worse from error

    def _remove_unremoved(self) -> None:
        """Remove what `_take_name_back` could not remove. Nothing is written before that."""
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
        :raises NoRoom: the free space belongs to the reserve, or the next checkpoint needs it: all that is not in pages
            yet is written there before the journal can be removed.
        """
        disk_space = self._disk_space
        unpaged = self._end + sum(size for _, size in self._unpaged)
        if disk_space.free < 4 * unpaged + 2 * disk_space.size or self._end >= self._measured_at:
            disk_space.measure()
            self._measured_at = self._end + EXTENT
        if all_free_space(transactions):
            return
        if not disk_space.is_whole and not disk_space.refill():
            raise NoRoom("no room on the disk")
        if unpaged + 2 * self._needed > disk_space.free + disk_space.size // 4:
            raise NoRoom("no room on the disk")

    def _grow(self) -> None:
        """Allocate space ahead. If there is not enough for that, there may be enough for the next frame."""
        ahead = min(EXTENT, self._disk_space.free // SPARE_SHARE)
        if ahead < self._needed and self._disk_space.is_scarce:
            return  # there is no space for zeros
        try:
            self._disk.extend(self._descriptor, max(ahead, self._needed))
            self._size = self._disk.size(self._descriptor)
        except OSError as error:
            self._cut(error)

    def _cut(self, error: OSError) -> None:
        """Cut off what a failed write has left."""
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
            # After a failed sync the kernel may have dropped the data, and a second sync would succeed (fsyncgate).
            raise self.give_up(f"the journal cannot be synced ({error.strerror})") from error
        self._unsynced_cut = False

    def _failed_to_write(self, error: OSError) -> StoreError:
        """The exception for a failed write that has left nothing."""
        if is_full(error):
            return NoRoom(f"no room on the disk ({error.strerror})")
        if is_passing(error):
            return _not_now(error)
        return self.give_up(f"the journal cannot be written ({error.strerror})")

    def give_up(self, reason: str) -> StoreUnavailable:
        """Refuse all later writes; return the exception for them."""
        self.broken = f"{reason}; read-only until restart"
        return StoreUnavailable(self.broken)


def _not_now(error: OSError) -> StoreUnavailable:
    return StoreUnavailable(f"the journal cannot be written just now ({error.strerror})")
