"""
The engine with one thing wrong: a checker that does not notice would not notice other things, too.

Every sync is left out, one at a time. A sync is identified by the functions that call it, and sometimes by its path. And
some things happen in the wrong order.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any
from unittest import mock

from attrs import frozen

from kvtwist.engine import disk_state, segment
from kvtwist.engine import manifest as manifests
from kvtwist.engine.disk import Disk
from kvtwist.engine.disk_state import DiskState
from kvtwist.engine.frame import Transaction
from kvtwist.engine.journal import JournalWriter
from kvtwist.engine.manifest import Manifest
from kvtwist.engine.storage import Storage

ENGINE = "kvtwist.engine."


@frozen
class LostSync:
    """
    A sync to leave out.

    :ivar name: what it is for.
    :ivar call: the method of the disk.
    :ivar askers: functions of the engine that are on the stack then: `module.function`, the innermost first.
    :ivar path: how the path ends.
    :ivar seed: of a history that needs it early on.
    """

    name: str
    call: str
    askers: tuple[str, ...]
    path: str = ""
    seed: int = 0

    def is_it(self, call: str, path: str) -> bool:
        """See `Forgotten`. To be called by the disk."""
        return call == self.call and path.endswith(self.path) and is_part(self.askers, askers())


def is_part(some: tuple[str, ...], stack: tuple[str, ...]) -> bool:
    """Whether some functions are on a stack, in this order."""
    rest = iter(stack)
    return all(name in rest for name in some)


def askers() -> tuple[str, ...]:
    """Functions of the engine on the stack, the innermost first."""
    found = []
    frame = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith(ENGINE):
            found.append(f"{module[len(ENGINE) :]}.{frame.f_code.co_name}")
        frame = frame.f_back  # type: ignore[assignment]
    return tuple(found)


LOST_SYNCS = [
    LostSync("a batch", "sync", ("journal._sync", "journal.append"), seed=1),
    LostSync("the journal at a clean stop", "sync", ("journal._sync", "journal.close"), seed=2),
    LostSync("the old segment, before the next one begins", "sync", ("journal._sync", "journal.rotate")),
    LostSync("the journal, before pages leave out what it has replaced", "sync", ("journal._sync", "journal.flush")),
    LostSync("the header of a new segment", "sync", ("journal._named",)),
    LostSync("the name of a new segment", "sync_directory", ("journal._named", "journal.rotate"), seed=4),
    LostSync(
        "the name of the first segment of a start", "sync_directory", ("journal._named", "journal._begin_first"), seed=1
    ),
    LostSync("that a segment could not be begun", "sync_directory", ("journal._take_name_back",), seed=9),
    LostSync("what a start has read of the journal", "cut_file", ("recovery._read_segment",)),
    LostSync("a page", "sync", ("pages.__setitem__",)),
    LostSync("names of pages", "sync_directory", ("pages.sync",)),
    LostSync("a manifest", "sync", ("manifest.write",)),
    LostSync("the name of a manifest", "sync_directory", ("disk_state._save",), "/store"),
    LostSync("that a manifest was taken back", "sync_directory", ("disk_state._remove",)),
    LostSync("names that a start has found", "sync_directory", ("storage.begin",), "/store", seed=14),
    LostSync("the name of a new directory", "sync_directory", ("storage.open",)),
]


# --- wrong orders -----------------------------------------------------------------------------------------------------


def pages_go_before_the_manifest() -> AbstractContextManager[object]:
    """Pages are removed when the manifest that names them is still the one on disk."""
    right = disk_state._save

    def save(storage: Storage, manifest: Manifest) -> OSError | None:
        storage.pages.remove((storage.manifest.pages() - manifest.pages()) & storage.pages.numbers())
        return right(storage, manifest)

    def remove(storage: Storage, superfluous: set[int]) -> None:
        storage.pages.remove(superfluous & storage.pages.numbers())

    return _patched((disk_state, "_save", save), (disk_state, "_remove", remove))


def segments_go_before_the_manifest() -> AbstractContextManager[object]:
    """The journal is given up when what it holds is in pages, and no manifest names them yet."""
    right = DiskState.add

    async def add(self: DiskState, revision: int, *arguments: Any) -> set[int]:
        await self.storage.commit.drop(revision)
        return await right(self, revision, *arguments)

    return _patched((DiskState, "add", add))


def the_manifest_comes_before_the_names_of_pages() -> AbstractContextManager[object]:
    """It is on disk when they may not be."""

    def save(storage: Storage, manifest: Manifest) -> None:
        manifests.write(storage.disk, storage.path, manifest)
        storage.disk.sync_directory(storage.path)
        storage.pages.sync()
        storage.manifest = manifest

    return _patched((disk_state, "_save", save))


def the_manifest_is_written_in_place() -> AbstractContextManager[object]:
    """A compaction writes the manifest of the same revision over."""

    def write(disk: Disk, directory: str, manifest: Manifest) -> None:
        disk.save(os.path.join(directory, manifests.name_of(manifest)), manifests.encoded(manifest))

    return _patched((manifests, "write", write))


def a_batch_is_acknowledged_before_its_sync() -> AbstractContextManager[object]:
    """It is synced when the next one comes."""
    right = JournalWriter.append

    def append(self: JournalWriter, transactions: list[Transaction]) -> int:
        durable = self._durable
        if durable and self._descriptor >= 0:
            self._sync()
        self._durable = False
        try:
            return right(self, transactions)
        finally:
            self._durable = durable

    return _patched((JournalWriter, "append", append))


def a_segment_gets_its_name_before_its_header() -> AbstractContextManager[object]:
    """Under the new name the old frames of a spare count, until the header is there."""

    def named(self: JournalWriter, path: str, salt: bytes, reused: bool) -> tuple[int, int]:
        disk = self._disk
        descriptor = disk.reopen(self._spare) if reused else disk.create(self._spare)
        disk.rename(self._spare, path)
        disk.sync_directory(self._directory)
        disk.write(descriptor, segment.encode_header(salt))
        disk.sync(descriptor)
        return descriptor, disk.size(descriptor)

    return _patched((JournalWriter, "_named", named))


@contextmanager
def _patched(*patches: tuple[Any, str, Any]) -> Iterator[None]:
    with ExitStack() as stack:
        for target, name, value in patches:
            stack.enter_context(mock.patch.object(target, name, value))
        yield


WRONG_ORDERS: list[Callable[[], AbstractContextManager[object]]] = [
    pages_go_before_the_manifest,
    segments_go_before_the_manifest,
    the_manifest_comes_before_the_names_of_pages,
    the_manifest_is_written_in_place,
    a_batch_is_acknowledged_before_its_sync,
    a_segment_gets_its_name_before_its_header,
]
