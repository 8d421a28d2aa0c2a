"""
Recovery: how a start reads the journal back.

Revisions are consecutive from frame to frame and from segment to segment, so a missing segment is noticed.

A crash can leave one thing unfinished: bytes that were written and not yet synced, at the end of the last segment. Such
a torn tail is cut off if no whole frame is in it. If a whole frame follows a bad one, the start fails and cuts nothing:

- With `--durability sync` a frame is written after the one before it was synced, so the bad frame is damage.
- With `os` a loss of power may have left it, since the kernel writes in any order. The bytes look the same as damage,
  and the frames after it may have been acknowledged: an operator decides (`kvtwist repair`).

The death of a process alone never leaves a whole frame after a bad one: the kernel has all that was written.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define

from kvtwist.engine.disk import Disk
from kvtwist.engine.frame import Transaction, frame_at, torn_size, whole_frames
from kvtwist.engine.segment import HEADER_SIZE, SEGMENT_HEADER, header_of, segments, segments_after
from kvtwist.model import StoreDamaged


@define
class Recovery:
    """What the journal held when it was read back, for the log."""

    transactions: int = 0
    segments: int = 0
    size: int = 0
    torn_bytes: int = 0


def replay(disk: Disk, directory: str, after: int, recovery: Recovery) -> Iterator[Transaction]:
    """
    Yield every transaction after revision `after`, in order; cut off a torn tail, and sync the rest.

    :raises StoreDamaged: the journal is not what was written.
    :raises OSError: it cannot be read, or cut.
    """
    found = segments_after(disk, directory, after)
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


def _read_segment(
    disk: Disk, path: str, following: int | None, revision: int, recovery: Recovery
) -> Iterator[Transaction]:
    """
    Yield the transactions of one segment.

    :param following: the first revision of the next segment; None for the last segment.
    :param revision: the last one before this segment.
    """
    last = following is None
    content = disk.read(path)
    torn_header = len(content) < HEADER_SIZE and content.startswith(SEGMENT_HEADER[: len(content)])
    if last and (torn_header or not any(content)):
        return  # A crash came before its header was on disk.
    salt, valid, _ = header_of(content)
    if not valid:
        raise StoreDamaged(f"{path}: does not begin as a journal segment")
    data = memoryview(content)
    offset = unsure = HEADER_SIZE
    while offset < len(data):
        frame = frame_at(data, offset, salt)
        if frame is None:
            if following is None:
                _check_torn(content, path, offset, salt, revision)
                recovery.torn_bytes += torn_size(data, offset, salt)
            elif following != revision + 1:
                raise StoreDamaged(f"{_damaged(path, offset, revision)}; later segments build on it")
            break
        if frame.batch.synced == revision:
            unsure = offset  # everything before this frame was on disk when it was written
        offset = frame.end
        for transaction in frame.batch.transactions:
            revision = transaction.revision
            yield transaction
    if last:
        # A killed process may have written frames without a sync. They are read and built upon, so they must not vanish
        # any more. After a failed sync another one stores nothing, because the kernel has marked the pages as clean
        # (fsyncgate): therefore the bytes are written again.
        disk.cut_file(path, offset, content[unsure:offset])
    recovery.size += offset


def _check_torn(content: bytes, path: str, offset: int, salt: bytes, revision: int) -> None:
    """:raises StoreDamaged: a whole frame follows, so no crash explains the bad one at the offset."""
    later = next(whole_frames(content, salt, offset + 1), None)
    if later is not None:
        found = later.batch.transactions[0].revision
        raise StoreDamaged(
            f"{_damaged(path, offset, revision)}; the whole frame at byte {later.start} goes on with revision {found}"
        )


def _damaged(path: str, offset: int, revision: int) -> str:
    return f"{path}: damaged at byte {offset}, after revision {revision}"


def _check_others(disk: Disk, directory: str, found: list[tuple[int, str]], revision: int) -> None:
    """
    Check the segments that are about to be removed because of their names.

    :param found: the segments that were read.
    :param revision: the last one that they hold.
    :raises StoreDamaged: another segment holds a later revision, so its name is wrong.
    """
    for _, path in segments(disk, directory):
        # After a crash a file may have its old name and its new one.
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
