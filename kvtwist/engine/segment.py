"""
Segments: the files of the journal, `journal-<first revision>.log`. A segment is a header, then frames.

    header: "kvtwist journal1"  u64 salt, random, for this segment  u32 CRC-32 of these 24 bytes

A segment is allocated ahead and may have held other frames before (see `kvtwist.engine.journal`): zeros may follow its
last frame, or frames with another salt, which do not count.
"""

from __future__ import annotations

import os
import re
import struct
import zlib

from kvtwist.engine.disk import Disk

SEGMENT_HEADER = b"kvtwist journal1"
SALT_SIZE = 8
_CHECKSUM = struct.Struct("<I")
HEADER_SIZE = len(SEGMENT_HEADER) + SALT_SIZE + _CHECKSUM.size
_is_segment = re.compile(r"journal-([0-9]{20})\.log").fullmatch


def segment_name(first_revision: int) -> str:
    """The name of the segment that begins with a revision."""
    return f"journal-{first_revision:020d}.log"


def segments(disk: Disk, directory: str) -> list[tuple[int, str]]:
    """(first revision, path) of each segment in a directory, oldest first."""
    found = [_is_segment(name) for name in disk.names(directory)]
    return [(int(name[1]), os.path.join(directory, name[0])) for name in found if name is not None]


def segments_after(disk: Disk, directory: str, revision: int) -> list[tuple[int, str]]:
    """The segments that are needed besides a manifest of that revision. Older ones may still be there."""
    found = segments(disk, directory)
    needed = [at for at, (first, _) in enumerate(found) if first <= revision + 1]
    return found[needed[-1] :] if needed else found


def encode_header(salt: bytes) -> bytes:
    """The header of a segment with that salt."""
    start = SEGMENT_HEADER + salt
    return start + _CHECKSUM.pack(zlib.crc32(start))


def header_of(content: bytes) -> tuple[bytes, bool, int]:
    """The salt of a segment, whether its header is valid, and where the header ends."""
    salt = content[len(SEGMENT_HEADER) : len(SEGMENT_HEADER) + SALT_SIZE]
    return salt, content.startswith(encode_header(salt)), min(HEADER_SIZE, len(content))
