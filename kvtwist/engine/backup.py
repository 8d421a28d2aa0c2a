"""
Backups of a store in use: the files of one moment, which the store keeps while they are read.

A backup is a tar archive that unpacks to a working directory: the manifest when the backup began, the pages that it
names, and the journal up to the last revision that was durable then. A start reads them as after a crash at that
moment. The last file, `backup.json`, shows that the archive is complete: a truncated one may look like an older store.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import AsyncGenerator, Sequence

import msgspec
from attrs import frozen
from zope.interface import implementer

from kvtwist.engine import manifest as manifests
from kvtwist.engine.disk import Disk
from kvtwist.engine.disk_state import DiskState
from kvtwist.interfaces import IBackup

END = "backup.json"
"""The last file of every archive: a JSON object with `revision` and `files`."""
_CHUNK = 2**18
_END = bytes(2 * tarfile.BLOCKSIZE)


@frozen
class Part:
    """
    One file of a backup.

    :ivar name: its path in the working directory.
    :ivar size: how many bytes of the file belong to the backup.
    :ivar content: its content if that is not read from disk.
    """

    name: str
    size: int
    content: bytes | None = None


@implementer(IBackup)
class Backup:
    """:ivar parts: the files of the backup."""

    def __init__(self, disk_state: DiskState, revision: int, parts: Sequence[Part]) -> None:
        self.revision = revision
        self.parts = parts
        self.size = sum(tarfile.BLOCKSIZE + _padded(part.size) for part in parts) + len(_END)
        self._disk_state: DiskState | None = disk_state

    @classmethod
    async def begin(cls, disk_state: DiskState) -> Backup:
        """
        List the files of the present moment, and keep them until `close`.

        :raises StoreUnavailable: the content of the disk is unknown.
        """
        manifest = await disk_state.pin()
        storage = disk_state.storage
        try:
            revision, segments = await storage.commit.mark(manifest.revision)
        except Exception:
            await disk_state.unpin()
            raise
        content = manifests.encoded(manifest)
        parts = [Part(manifests.name_of(manifest), len(content), content)]
        for runs in manifest.keyspaces.values():
            for run in runs:
                for ref in run.pages:
                    name = os.path.relpath(storage.pages.file_of(ref.number), storage.path)
                    parts.append(Part(name, ref.size))
        parts += [Part(os.path.basename(path), size) for path, size in segments]
        end = msgspec.json.encode({"revision": revision, "files": len(parts)})
        parts.append(Part(END, len(end), end))
        return cls(disk_state, revision, parts)

    async def archive(self) -> AsyncGenerator[bytes, None]:
        """See `IBackup.archive`. Each piece is read from disk when it is requested."""
        for part in self.parts:
            yield _header(part)
            position = 0
            while position < part.size:
                assert self._disk_state is not None
                storage = self._disk_state.storage
                if part.content is not None:
                    piece = part.content
                else:
                    path = os.path.join(storage.path, part.name)
                    count = min(_CHUNK, part.size - position)
                    piece = await storage.read_worker.run(_read, storage.disk, path, position, count)
                position += len(piece)
                yield piece
            yield bytes(_padded(part.size) - part.size)
        yield _END

    async def close(self) -> None:
        """See `IBackup.close`. The store may remove the files after that."""
        disk_state, self._disk_state = self._disk_state, None
        if disk_state is not None:
            await disk_state.unpin()


def _read(disk: Disk, path: str, position: int, count: int) -> bytes:
    piece = disk.read_part(path, position, count)
    if len(piece) < count:
        raise OSError(f"{path}: ends at byte {position + len(piece)}")
    return piece


def _header(part: Part) -> bytes:
    member = tarfile.TarInfo(part.name)
    member.size = part.size
    member.mode = 0o600
    return member.tobuf(tarfile.USTAR_FORMAT)


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
