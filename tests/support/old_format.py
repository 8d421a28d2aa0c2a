"""Stores as they were before pages had numbers and manifests had checksums of pages."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import msgspec

from kvtwist.engine import manifest as manifests
from kvtwist.engine.disk import Disk
from kvtwist.engine.page import BODY, HEAD


def age(store: Path) -> None:
    """Rewrite a directory in the first format of pages and manifests."""
    for path in (store / "pages").iterdir():
        path.write_bytes(old_page(path.read_bytes()))
    [path] = store.glob("manifest-*")
    manifest = manifests.read(Disk(), str(path))
    keyspaces = {
        name: [
            [
                [[ref.number, ref.first, ref.size - HEAD + BODY, ref.expires_ms] for ref in run.pages],
                run.records,
                run.weight,
                run.tombstones,
            ]
            for run in runs
        ]
        for name, runs in manifest.keyspaces.items()
    }
    content = [manifest.revision, manifest.time_ms, manifest.next_page, keyspaces]
    path.write_bytes(_sealed(b"kvtmani1", msgspec.msgpack.encode(content)))


def old_page(content: bytes) -> bytes:
    """A page in the first format."""
    return _sealed(b"kvtpage1", content[HEAD:])


def _sealed(header: bytes, content: bytes) -> bytes:
    return header + struct.pack("<I", zlib.crc32(content)) + content
