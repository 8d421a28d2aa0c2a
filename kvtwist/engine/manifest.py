"""
The manifest: which pages make up the store at one revision. Beside the journal it is all that a start has to read.

`manifest-<revision>` is written under another name, synced, and renamed: there is the old one or the new one, whole.
"""

from __future__ import annotations

import os
import re
import struct
import zlib

import msgspec

from kvtwist.engine.disk import Disk
from kvtwist.engine.run import Run
from kvtwist.model import StoreDamaged

MANIFEST_HEADER = b"kvtmani1"
_CHECKSUM = struct.Struct("<I")
_is_manifest = re.compile(r"manifest-(\d{20})").fullmatch


class Manifest(msgspec.Struct, frozen=True, array_like=True):
    """
    :ivar revision: the last transaction that the pages hold.
    :ivar time_ms: the store's time when it was written.
    :ivar next_page: the number of the next page to write.
    :ivar keyspaces: the runs of each keyspace, the newest first.
    """

    revision: int = 0
    time_ms: int = 0
    next_page: int = 1
    keyspaces: dict[str, list[Run]] = {}

    def pages(self) -> set[int]:
        """The numbers of all pages it names."""
        return {ref.number for runs in self.keyspaces.values() for run in runs for ref in run.pages}


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Manifest).decode


def name_of(manifest: Manifest) -> str:
    """The name of its file."""
    return f"manifest-{manifest.revision:020d}"


def found(disk: Disk, directory: str) -> list[tuple[int, str]]:
    """(revision, path) of each manifest in a directory, oldest first."""
    names = [_is_manifest(name) for name in disk.names(directory)]
    return [(int(name[1]), os.path.join(directory, name[0])) for name in names if name is not None]


def _names(disk: Disk, directory: str) -> list[str]:
    return [name for name in disk.names(directory) if name.startswith("manifest-")]


def load(disk: Disk, directory: str) -> Manifest:
    """
    The newest manifest of a directory; an empty one where there is none yet.

    :raises StoreDamaged: when it is not what was written.
    """
    manifests = found(disk, directory)
    return read(disk, manifests[-1][1]) if manifests else Manifest()


def is_unfinished(path: str) -> bool:
    """Whether a file is a manifest that has not got its name yet."""
    return _is_manifest(os.path.basename(path).removesuffix(".new")) is not None and path.endswith(".new")


def read(disk: Disk, path: str) -> Manifest:
    """
    The manifest in a file.

    :raises StoreDamaged: when it is not what was written.
    """
    content = disk.read(path)
    start = len(MANIFEST_HEADER) + _CHECKSUM.size
    payload = content[start:]
    if content[:start] != MANIFEST_HEADER + _CHECKSUM.pack(zlib.crc32(payload)):
        raise StoreDamaged(f"{path}: the manifest is damaged")
    try:
        return _decode(payload)
    except msgspec.MsgspecError as error:
        raise StoreDamaged(f"{path}: the manifest cannot be understood ({error})") from error


def encoded(manifest: Manifest) -> bytes:
    """What its file holds."""
    payload = _encode(manifest)
    return MANIFEST_HEADER + _CHECKSUM.pack(zlib.crc32(payload)) + payload


def save(disk: Disk, directory: str, manifest: Manifest) -> None:
    """Make a manifest the newest, on the disk itself."""
    write(disk, directory, manifest)
    disk.sync_directory(directory)


def write(disk: Disk, directory: str, manifest: Manifest) -> None:
    """Make a manifest the newest, which it is for good once the directory is synced. When this fails it is not."""
    path = os.path.join(directory, name_of(manifest))
    disk.save(path + ".new", encoded(manifest))
    try:
        disk.rename(path + ".new", path)
    except OSError:
        disk.remove(path + ".new")
        raise


def remove_others(disk: Disk, directory: str, manifest: Manifest) -> bool:
    """Remove all manifests but this one, and what is left of one that was not finished; returns if there were any."""
    others = [name for name in _names(disk, directory) if name != name_of(manifest)]
    for name in others:
        disk.remove(os.path.join(directory, name))
    return bool(others)
