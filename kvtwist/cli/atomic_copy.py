"""
Making the directory of a store so that it appears whole or not at all: written under another name, synced, verified,
renamed.

An empty directory that exists already may be a mount point, which a rename cannot replace. Then the files are written
to a directory within it and moved up, in an order in which a server refuses to start on a part of them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from kvtwist.cli.files import PARTIAL, Files, in_the_way
from kvtwist.cli.formatting import one_line
from kvtwist.cli.interrupts import Interrupts
from kvtwist.cli.output import Output
from kvtwist.engine.inspection.diagnosis import Diagnosis
from kvtwist.engine.lock import DirectoryLock
from kvtwist.engine.offline import is_vacant
from kvtwist.engine.pages import page_number
from kvtwist.model import StoreDamaged, StoreError
from kvtwist.words import counted

CHUNK = 2**20
PAGES = "pages"
_is_manifest_or_segment = re.compile(r"manifest-[0-9]{20}|journal-[0-9]{20}\.log").fullmatch

Advance = Callable[[int], object]


def is_store_file(name: str) -> bool:
    """Whether a backup may hold a file of this name, a path relative to the store's directory."""
    directory, _, page = name.rpartition("/")
    if directory:
        return directory == PAGES and (page_number(page) or 0) > 0
    return _is_manifest_or_segment(name) is not None


class Copy:
    """
    The directory while it is written.

    :ivar size: bytes of all files so far.
    :ivar promised: the last revision according to the sender.
    :ivar revision: the last revision of the files; set once they are verified.
    """

    def __init__(self, disk: Files, path: str, advance: Advance) -> None:
        self.size = 0
        self.promised = 0
        self.revision = 0
        self._disk = disk
        self._path = path
        self._advance = advance

    def add(self, name: str, pieces: Iterable[bytes]) -> None:
        """Write a file; its name must satisfy `is_store_file`."""
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
        """Copy the file at a path. :raises StoreDamaged: it does not exist."""
        try:
            source = open(path, "rb")  # noqa: SIM115 # closed below
        except FileNotFoundError:
            raise StoreDamaged(f"{path}: the file is missing") from None
        with source:
            self.add(name, iter(lambda: source.read(CHUNK), b""))


@contextmanager
def atomic_copy(disk: Files, target: str, advance: Advance, interrupts: Interrupts) -> Iterator[Copy]:
    """
    Make a directory from the files that the block adds, or nothing if the block fails.

    :param advance: called with the number of bytes after each write.
    :raises StoreError: the target exists and is not an empty directory.
    :raises StoreInUse: another process is writing the same target.
    :raises StoreDamaged: the files are not a whole store.
    """
    target = os.path.abspath(target)
    filled = os.path.isdir(target)
    if filled:
        target = os.path.realpath(target)
        partial = os.path.join(target, PARTIAL)
    else:
        partial = target + PARTIAL
    _check_target(disk, target)
    with ExitStack() as stack:
        stack.callback(disk.close, _prepare(disk, partial))
        try:
            with interrupts.at_once():
                copy = Copy(disk, partial, advance)
                yield copy
                copy.revision = _verify(partial, copy.promised)
            if filled:
                _move_into_place(disk, partial, target)
            else:
                _rename_into_place(disk, partial, target)
        except BaseException:
            _discard(disk, partial)
            raise


def _check_target(disk: Files, target: str) -> None:
    if os.path.isdir(target):
        if not is_vacant(disk.names(target), PARTIAL):
            raise StoreError(f"{target} already exists and is not empty")
    elif os.path.lexists(target):
        raise StoreError(f"{target} already exists")


# --- under the temporary name -----------------------------------------------------------------------------------------


def _prepare(disk: Files, partial: str) -> int:
    """Make the temporary directory, empty; returns the descriptor that holds its lock."""
    with suppress(FileExistsError):
        disk.make_directory(partial)
    if os.path.islink(partial) or not os.path.isdir(partial):
        raise in_the_way(partial)
    names = disk.names(partial)
    if names and PARTIAL not in names:
        raise in_the_way(partial)
    descriptor = disk.claim(os.path.join(partial, PARTIAL))
    try:
        _clear(disk, partial)
        disk.make_directory(os.path.join(partial, PAGES))
    except BaseException:
        _discard(disk, partial)
        disk.close(descriptor)
        raise
    return descriptor


def _clear(disk: Files, partial: str) -> None:
    """Remove the files of an earlier attempt. :raises StoreError: the directory holds other files."""
    found = [name for name in disk.names(partial) if name not in (PARTIAL, PAGES)]
    pages = os.path.join(partial, PAGES)
    if os.path.islink(pages):
        raise in_the_way(pages)
    if os.path.isdir(pages):
        found += [f"{PAGES}/{name}" for name in disk.names(pages)]
    for name in found:
        path = os.path.join(partial, name)
        if not is_store_file(name):
            raise in_the_way(path)
        disk.remove(path)


def _discard(disk: Files, partial: str) -> None:
    """Remove what can be removed; the next attempt removes the rest."""
    with suppress(OSError, StoreError):
        _clear(disk, partial)
        with suppress(FileNotFoundError):
            disk.remove_directory(os.path.join(partial, PAGES))
        _remove_mark(disk, partial)


def _remove_mark(disk: Files, partial: str) -> None:
    disk.remove(os.path.join(partial, PARTIAL))
    disk.remove_directory(partial)


def _verify(path: str, promised: int) -> int:
    """
    Returns the last revision of the store at a path.

    :raises StoreDamaged: the store has a problem, or ends before revision `promised`.
    """
    diagnosis = Diagnosis(path)
    for finding in diagnosis.findings():
        if finding.kind == "problem":
            raise StoreDamaged(f"{os.path.relpath(finding.file, path)}: {finding.what}; the copy was discarded")
    revision = max(diagnosis.journal.revision, diagnosis.after)
    if revision < promised:
        raise StoreDamaged(f"the backup ends at revision {revision} instead of {promised}; it was discarded")
    return revision


# --- under its own name -----------------------------------------------------------------------------------------------


def _rename_into_place(disk: Files, partial: str, target: str) -> None:
    """The mark is removed last: until the rename is durable, the next attempt recognizes the directory by it."""
    disk.sync_directory(os.path.join(partial, PAGES))
    disk.sync_directory(partial)
    try:
        disk.rename(partial, target)
    except OSError:
        _check_target(disk, target)  # the target may have been made since the first check
        raise
    disk.sync_directory(os.path.dirname(target))
    disk.remove(os.path.join(target, PARTIAL))
    disk.sync_directory(target)


def _move_into_place(disk: Files, partial: str, target: str) -> None:
    """
    Move the pages first, then the segments from the last to the first, then the manifest: a server refuses to start on
    pages without a manifest, and on a journal whose first segment is missing.
    """
    lock = DirectoryLock(target)
    try:
        _check_target(disk, target)
        segments = sorted((name for name in disk.names(partial) if name.startswith("journal-")), reverse=True)
        manifests = [name for name in disk.names(partial) if name.startswith("manifest-")]
        disk.sync_directory(os.path.join(partial, PAGES))
        with ExitStack() as back:
            for name in (PAGES, *segments, *manifests):
                old, new = os.path.join(partial, name), os.path.join(target, name)
                disk.rename(old, new)
                back.callback(disk.rename, new, old)
                disk.sync_directory(target)
            back.pop_all()
        _remove_mark(disk, partial)
    finally:
        lock.release()


def put_summary(output: Output, kind: str, copy: Copy, target: str) -> None:
    """Write the summary of a finished copy."""
    fields: dict[str, object] = {"type": kind, "directory": target, "bytes": copy.size}
    fields["revision"] = copy.revision
    size = counted(copy.size, "byte")
    output.put(fields, f"{one_line(target)}: {size}, verified, up to revision {copy.revision}")
