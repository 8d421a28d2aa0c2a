"""Opening a store for a command: to inspect its files, or to read and write its records."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from zope.interface import provider

from kvtwist.cli.files import Files
from kvtwist.cli.output import warn
from kvtwist.engine.inspection.directory import Listing, look
from kvtwist.engine.inspection.readonly import ReadOnlyDisk
from kvtwist.engine.lock import DirectoryLock, ReadLock
from kvtwist.engine.offline import OfflineStore, opened
from kvtwist.engine.timeline import Timeline
from kvtwist.model import StoreDamaged


@contextmanager
def inspecting(path: str, writing: bool = False) -> Iterator[Listing]:
    """
    List the files of a store. The directory stays locked for the block, so no server can open it.

    :param writing: whether the block changes files; then no other command may inspect them at the same time.
    :raises StoreInUse: another process has the store open.
    :raises NotAStore: there is no store at the path.
    """
    disk = ReadOnlyDisk()
    look(disk, path)  # before the lock, which makes a file: it must not be made where there is no store
    lock = DirectoryLock(os.path.abspath(path)) if writing else ReadLock(os.path.abspath(path))
    try:
        yield look(disk, path)
    finally:
        lock.release()


@contextmanager
def suggesting_check(path: str) -> Iterator[None]:
    """Add the command to run to the message of a `StoreDamaged`."""
    try:
        yield
    except StoreDamaged as error:
        raise StoreDamaged(f"{error}; run: kvtwist check {shlex.quote(path)}") from error


@contextmanager
def open_store(
    disk: Files, path: str, create: bool = False, timeline: Timeline | None = None
) -> Iterator[OfflineStore]:
    """Open the store of a directory. Its log events from `warn` up become lines on standard error."""
    globalLogPublisher.addObserver(_warn)
    try:
        with suggesting_check(path), opened(path, create, disk=disk, timeline=timeline) as store:
            yield store
    finally:
        globalLogPublisher.removeObserver(_warn)


@provider(ILogObserver)
def _warn(event: LogEvent) -> None:
    level: LogLevel | None = event.get("log_level")
    if level is not None and level >= LogLevel.warn:
        warn(formatEvent(event))
