"""How commands get hold of a store: to look at it, or to work on it."""

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
    What is in a store's directory, which no server can open for as long as the block lasts.

    :param writing: whether anything will be changed: then nobody else may look at the same time.
    :raises StoreInUse: a server has it open; :raises NotAStore: there is no store.
    """
    disk = ReadOnlyDisk()
    look(disk, path)  # first of all: nothing is made where there is no store
    lock = DirectoryLock(os.path.abspath(path)) if writing else ReadLock(os.path.abspath(path))
    try:
        yield look(disk, path)
    finally:
        lock.release()


@contextmanager
def suggesting_check(path: str) -> Iterator[None]:
    """Tell whoever meets damage what to do about it."""
    try:
        yield
    except StoreDamaged as error:
        raise StoreDamaged(f"{error}; run: kvtwist check {shlex.quote(path)}") from error


@contextmanager
def open_store(
    disk: Files, path: str, create: bool = False, timeline: Timeline | None = None
) -> Iterator[OfflineStore]:
    """The open store of a directory. What it would tell a server's log as a warning is a line on standard error."""
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
