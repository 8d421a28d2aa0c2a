"""
A new directory of a store that appears whole or not at all: written beside its place, synced, verified, renamed.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from kvtwist.cli.output import Output
from kvtwist.cli.progress import Interrupts
from kvtwist.engine.disk import Disk
from kvtwist.engine.inspection.diagnosis import Diagnosis
from kvtwist.model import StoreDamaged, StoreError
from kvtwist.words import counted

CHUNK = 2**20
_is_store_file = re.compile(r"manifest-\d{20}|journal-\d{20}\.log|pages/[A-Za-z0-9+/=_-]{1,200}").fullmatch

Advance = Callable[[int], object]


class Arrival:
    """The directory while it is being written."""

    def __init__(self, path: str, advance: Advance) -> None:
        self._disk = Disk()
        self._path = path
        self._advance = advance
        self.size = 0
        """Bytes of all files so far."""
        self._disk.make_directory(os.path.join(path, "pages"))

    def add(self, name: str, pieces: Iterable[bytes]) -> None:
        """
        Write a file.

        :raises StoreError: a store has no file of that name.
        """
        if not _is_store_file(name):
            raise StoreError(f"a store has no file of the name {name!r}")
        descriptor = self._disk.create(os.path.join(self._path, name))
        try:
            for piece in pieces:
                self._disk.write(descriptor, piece)
                self.size += len(piece)
                self._advance(len(piece))
            self._disk.sync(descriptor)
        finally:
            self._disk.close(descriptor)

    def add_copy(self, name: str, path: str) -> None:
        """Write a file that is a copy of another."""
        with open(path, "rb") as source:
            self.add(name, iter(lambda: source.read(CHUNK), b""))


@contextmanager
def arriving(target: str, advance: Advance, interrupts: Interrupts) -> Iterator[Arrival]:
    """
    Make a directory, or nothing when the block fails.

    :raises StoreError: there is something in its place already.
    :raises StoreDamaged: what arrived is not a whole store.
    """
    target = os.path.abspath(target)
    if os.path.lexists(target) and not (os.path.isdir(target) and not os.listdir(target)):
        raise StoreError(f"{target} is there already")
    partial = f"{target}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # what an earlier attempt has left

    def step(count: int) -> None:
        interrupts.check()
        advance(count)

    disk = Disk()
    try:
        yield Arrival(partial, step)
        _verify(partial)
        disk.sync_directory(os.path.join(partial, "pages"))
        disk.sync_directory(partial)
        disk.rename(partial, target)
        disk.sync_directory(os.path.dirname(target))
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _verify(path: str) -> None:
    for finding in Diagnosis(path).findings():
        if finding.kind == "problem":
            raise StoreDamaged(f"{os.path.relpath(finding.file, path)}: {finding.what}; nothing was kept")


def put_summary(output: Output, kind: str, arrival: Arrival, target: str, revision: int) -> None:
    """Say what has arrived."""
    fields: dict[str, object] = {"type": kind, "directory": target, "bytes": arrival.size, "revision": revision}
    output.put(fields, f"{target}: {counted(arrival.size, 'byte')}, verified, up to revision {revision}")
