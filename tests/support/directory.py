"""What lies in a server's directory, for tests that want to know what the server did there."""

from __future__ import annotations

from pathlib import Path

from kvtwist.engine import manifest
from kvtwist.engine.disk import Disk


def runs(directory: Path) -> int:
    """How many runs its newest manifest names. A checkpoint adds one to a keyspace, a merge makes one of several."""
    return sum(len(found) for found in manifest.load(Disk(), str(directory)).keyspaces.values())
