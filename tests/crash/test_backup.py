"""
A backup of a store that writes, checkpoints, compacts, fails and dies meanwhile holds what was there after the revision
that it says, and a power loss does not take that revision back.
"""

from __future__ import annotations

import gc
import io
import os
import tarfile
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from kvtwist.engine.backup import END, Backup
from kvtwist.model import StoreError
from tests.crash.history import Counterexample
from tests.crash.repairing import Contents, contents_of, has_a_whole_frame_after_a_bad_one
from tests.crash.workload import Workload
from tests.support.engine import TestCase
from tests.support.memorydisk import MemoryDisk, new_place, root_of
from tests.support.picks import randomly
from tests.support.powerloss import Platter

BACKUPS = 60
"""So many are looked at."""


class BackingUp(Workload):
    """
    A life with backups, each read while everything else goes on.

    :ivar finished: how many were read to their end.
    """

    def __init__(self, seed: int, place: Path, other_place: Path) -> None:
        super().__init__(seed, place)
        self.finished = 0
        self._other_place = other_place
        self._faults: list[Exception] = []
        self._steps.append(self._back_up)
        self._weights.append(8)

    def live(self) -> None:
        """:raises Counterexample: a backup holds something else than it should."""
        with self.settings.applied():
            for _ in self.run(1):
                pass
        for fault in self._faults:
            raise fault

    def _back_up(self) -> None:
        Deferred.fromCoroutine(self._read_backup(self._acknowledged)).addErrback(self._failed)

    def _failed(self, failure: object) -> None:
        error = getattr(failure, "value", None)
        if not isinstance(error, StoreError):  # it may find the store broken
            assert isinstance(error, Exception)
            self._faults.append(error)

    async def _read_backup(self, least: int) -> None:
        backup = await self._engine.store.backup()
        assert isinstance(backup, Backup)
        self._settle()
        if not least <= backup.revision <= len(self._states) - 1:
            raise Counterexample(f"a backup of revision {backup.revision}, not {least} to {len(self._states) - 1}")
        model = self._states[backup.revision]
        self._lose_power(backup.revision)
        archive = b"".join([piece async for piece in backup.archive()])
        await backup.close()
        found, now_ms = self._contents(self._unpacked(archive))
        if found != model.contents(now_ms):
            raise Counterexample(f"a backup of revision {backup.revision} holds {found}, not {model.contents(now_ms)}")
        self.finished += 1

    def _lose_power(self, least: int) -> None:
        """See that what a backup says it holds is on the disk itself."""
        for _ in range(3):
            left = self._disk.platter.crash(randomly(self._choices), stale=self.settings.stale)
            if self.settings.sync or not has_a_whole_frame_after_a_bad_one(self._place, left):
                found, now_ms = self._contents(left)
                if not any(found == model.contents(now_ms) for model in self._states[least:]):
                    raise Counterexample(f"a power loss takes back revision {least} of a backup: {found}")

    def _contents(self, left: Platter) -> tuple[Contents, int]:
        clock = Clock()
        clock.advance(self._clock.seconds())
        return contents_of(self.settings, self._other_place, left, clock)

    def _unpacked(self, archive: bytes) -> Platter:
        disk = MemoryDisk(root_of(self._other_place), Platter())
        disk.make_directory(str(self._other_place / "pages"))
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            names = tar.getnames()
            for name in names:
                content = tar.extractfile(name)
                assert content is not None
                disk.save(os.path.join(self._other_place, name), content.read())
        assert names[-1] == END
        return disk.platter


class BackupTests(TestCase):
    def test_whatever_goes_on_meanwhile(self) -> None:
        finished = 0
        seed = 0
        while finished < BACKUPS:
            seed += 1
            with new_place() as place, new_place() as other_place:
                workload = BackingUp(seed, place, other_place)
                try:
                    workload.live()
                except Exception as error:
                    raise AssertionError(f"seed {seed}: {error}") from error
                finished += workload.finished
        gc.collect()
        self.flushLoggedErrors()  # of processes that have died
