"""
Stores that do not open, and what a repair makes of them.

Without syncs (`--durability os`) a power loss may leave a whole frame after a bad one, as damage does. A start refuses
such a store, and that is right if `repair` makes one of it that holds what was there after some revision, and says
which transactions it has left out.
"""

from __future__ import annotations

import time
from pathlib import Path
from unittest import mock

from twisted.internet.task import Clock

from kvtwist.engine.frame import whole_frames
from kvtwist.engine.inspection.diagnosis import Diagnosis
from kvtwist.engine.inspection.folding import Report, Wishes
from kvtwist.engine.inspection.readonly import ReadOnlyDisk
from kvtwist.engine.repair import Repair
from kvtwist.engine.segment import header_of, segments
from kvtwist.model import Record
from tests.crash.settings import Settings
from tests.support.engine import Engine
from tests.support.memorydisk import MemoryDisk, MemoryEngine, root_of
from tests.support.powerloss import Platter

Contents = dict[str, dict[bytes, Record]]


def has_a_whole_frame_after_a_bad_one(place: Path, left: Platter) -> bool:
    """Whether that is so at the end of the journal, which is what a start refuses."""
    content = end_of_journal(place, left)
    salt, _, at = header_of(content)
    for frame in whole_frames(content, salt):
        if frame.start != at:
            return True
        at = frame.end
    return False


def end_of_journal(place: Path, left: Platter) -> bytes:
    """The last segment."""
    disk = MemoryDisk(root_of(place), left)
    found = segments(disk, str(place)) if disk.has_directory(str(place)) else []
    return disk.read(found[-1][1]) if found else b""


def repaired(place: Path, disk: MemoryDisk) -> list[Report]:
    """Repair the store on a disk, up to the first gap of its journal; returns what that has to say."""
    told: list[Report] = []
    diagnosis = Diagnosis(str(place), disk=_Looking(disk))
    list(diagnosis.findings())
    with mock.patch.object(time, "time", lambda: 0.0):  # no record has expired by then
        Repair(diagnosis, Wishes(stop_at_gap=True), told.append).carry_out(disk)
    return told


def contents_of(settings: Settings, place: Path, left: Platter, clock: Clock) -> tuple[Contents, int]:
    """
    What a store holds that is opened on a disk, and its time.

    :raises StoreError: it cannot be opened.
    """
    engine = MemoryEngine(
        place,
        clock=clock,
        disk=MemoryDisk(root_of(place), left),
        limits=settings.limits,
        sync=settings.sync,
        reserve=settings.reserve,
    )
    try:
        engine.open()
        return read_whole(engine), engine.now_ms()
    finally:
        engine.die()


def read_whole(engine: Engine) -> Contents:
    """All records of a store; :raises StoreError: a page cannot be read."""
    # A scan that finds a page missing in memory starts over, and here each would, for each page.
    engine.store._cache.limit = 10**9
    for runs in engine.storage.manifest.keyspaces.values():
        for ref in [ref for run in runs for ref in run.pages]:
            engine.store._cache.put(ref.number, engine.storage.pages.read(ref))
    return engine.contents()


class _Looking(ReadOnlyDisk):
    """Another disk, of which nothing is changed."""

    def __init__(self, disk: MemoryDisk) -> None:
        super().__init__()
        for name in ("read", "read_part", "length", "is_same", "names"):
            setattr(self, name, getattr(disk, name))
