"""
The manifest: the pages that make up the store at one revision. A start reads it and the journal, and nothing else.

`manifest-<revision>` is written under another name, synced and renamed, so a crash leaves the old one or the new one,
and never a part.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from contextlib import suppress

import msgspec

from kvtwist.engine.disk import Disk
from kvtwist.engine.sorted_run import PageRef, SortedRun
from kvtwist.model import StoreDamaged

MANIFEST_HEADER = b"kvtmani2"
OLD_MANIFEST_HEADER = b"kvtmani1"
"""The first format, which is read but no longer written. It names pages of the first format."""
_CHECKSUM = struct.Struct("<I")
_is_manifest = re.compile(r"manifest-([0-9]{20})").fullmatch


class Manifest(msgspec.Struct, frozen=True, array_like=True):
    """
    :ivar revision: the last transaction that the pages hold.
    :ivar time_ms: the store's time when it was written.
    :ivar next_page: the number of the next page to write.
    :ivar keyspaces: the runs of each keyspace, the newest first.
    :ivar gone: see `kvtwist.engine.changes.ChangeFeed`.
    """

    revision: int = 0
    time_ms: int = 0
    next_page: int = 1
    keyspaces: dict[str, list[SortedRun]] = {}
    gone: dict[str, int] = {}

    def pages(self) -> set[int]:
        """The numbers of all pages that it names."""
        return {ref.number for runs in self.keyspaces.values() for run in runs for ref in run.pages}


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Manifest).decode


def name_of(manifest: Manifest) -> str:
    """The file name of a manifest."""
    return f"manifest-{manifest.revision:020d}"


def found(disk: Disk, directory: str) -> list[tuple[int, str]]:
    """(revision, path) of each manifest in a directory, oldest first."""
    names = [_is_manifest(name) for name in disk.names(directory)]
    return [(int(name[1]), os.path.join(directory, name[0])) for name in names if name is not None]


def load(disk: Disk, directory: str) -> Manifest:
    """
    The newest manifest of a directory; an empty one if there is none yet.

    :raises StoreDamaged: it is not what was written.
    """
    manifests = found(disk, directory)
    return read(disk, manifests[-1][1]) if manifests else Manifest()


def is_unfinished(name: str) -> bool:
    """Whether a file name is that of a manifest before its final rename."""
    return name.endswith(".new") and _is_manifest(name.removesuffix(".new")) is not None


def revision_of(path: str) -> int:
    """The revision in the path of a manifest, finished or not."""
    return int(os.path.basename(path).removeprefix("manifest-").removesuffix(".new"))


def read(disk: Disk, path: str) -> Manifest:
    """
    Read the manifest in a file.

    :raises StoreDamaged: it is not what was written.
    """
    try:
        content = disk.read(path)
    except IsADirectoryError:
        raise StoreDamaged(f"{path}: is a directory instead of a manifest") from None
    start = len(MANIFEST_HEADER) + _CHECKSUM.size
    header, checksum, payload = content[: len(MANIFEST_HEADER)], content[len(MANIFEST_HEADER) : start], content[start:]
    if header not in (MANIFEST_HEADER, OLD_MANIFEST_HEADER) or checksum != _CHECKSUM.pack(zlib.crc32(payload)):
        raise StoreDamaged(f"{path}: the manifest is damaged")
    try:
        manifest = _decode(payload)
    except msgspec.MsgspecError as error:
        raise StoreDamaged(f"{path}: the manifest cannot be understood ({error})") from error
    if manifest.revision != revision_of(path):
        raise StoreDamaged(f"{path}: the manifest has revision {manifest.revision}, unlike its name")
    if header == OLD_MANIFEST_HEADER:
        for keyspace, runs in manifest.keyspaces.items():
            manifest.keyspaces[keyspace] = [_renewed(run, keyspace) for run in runs]
    return manifest


def _renewed(run: SortedRun, keyspace: str) -> SortedRun:
    """Convert a run of the first format: the stop of a page is the first key of the next one."""
    stops = [ref.first for ref in run.pages[1:]] + [None]
    pages = [
        PageRef(ref.number, ref.first, ref.size, ref.expires_ms, stop, keyspace)
        for ref, stop in zip(run.pages, stops, strict=True)
    ]
    return SortedRun(pages, run.records, run.weight, run.tombstones)


def encoded(manifest: Manifest) -> bytes:
    """The content of the file of a manifest."""
    payload = _encode(manifest)
    return MANIFEST_HEADER + _CHECKSUM.pack(zlib.crc32(payload)) + payload


def save(disk: Disk, directory: str, manifest: Manifest) -> None:
    """Make a manifest the newest, and sync it."""
    write(disk, directory, manifest)
    disk.sync_directory(directory)


def write(disk: Disk, directory: str, manifest: Manifest) -> None:
    """Make a manifest the newest, or change nothing and raise. It is durable once the directory is synced."""
    path = os.path.join(directory, name_of(manifest))
    disk.save(path + ".new", encoded(manifest))
    try:
        disk.rename(path + ".new", path)
    except OSError:
        disk.remove(path + ".new")
        raise


def remove_others(disk: Disk, directory: str, manifest: Manifest) -> bool:
    """Remove all other manifests, unfinished ones included; return whether there were any."""
    ours = [name for name in disk.names(directory) if _is_manifest(name) or is_unfinished(name)]
    others = [name for name in ours if name != name_of(manifest)]
    for name in others:
        with suppress(IsADirectoryError):  # a manifest is a file, so this is not ours
            disk.remove(os.path.join(directory, name))
    return bool(others)
