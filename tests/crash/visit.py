"""A process that finds what a crash has left: it looks whether everything is there, and goes on with it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from twisted.internet.task import Clock

from tests.crash.history import Counterexample, Note
from tests.crash.repairing import read_whole
from tests.crash.settings import Settings
from tests.support.engine import put, result_of
from tests.support.memorydisk import Forgotten, MemoryDisk, MemoryEngine, root_of
from tests.support.powerloss import Platter


class Visit:
    """:param note: what was known when the store was left like this."""

    def __init__(
        self,
        settings: Settings,
        place: Path,
        left: Platter,
        note: Note,
        clock: Clock,
        forgotten: Forgotten | None,
    ) -> None:
        self._before = note
        self._least = note.stored
        self._stored = 0
        self.states = list(note.states)
        self.acknowledged = note.stored
        self.disk = MemoryDisk(root_of(place), left, self.note)
        self.disk.forgotten = forgotten
        self.went_on = "nothing"
        self.engine = MemoryEngine(
            place, clock=clock, disk=self.disk, limits=settings.limits, sync=settings.sync, reserve=settings.reserve
        )
        self._opened = False

    def open(self, least: int, most: int) -> None:
        """
        Start it, and see whether it holds what it should.

        :raises Counterexample: it holds something else.
        :raises StoreError: it cannot be started, or read.
        """
        engine = self.engine
        self._least = least
        engine.open()
        revision = engine.storage.commit.assigned
        if not least <= revision <= most:
            raise Counterexample(f"revision {revision}, not {least} to {most}")
        self.states = self.states[: revision + 1]
        self.acknowledged = self._stored = revision
        self._opened = True
        now_ms = engine.now_ms()
        found, expected = read_whole(engine), self.states[-1].contents(now_ms)
        if found != expected:
            raise Counterexample(f"revision {revision} holds {found}, not {expected}")
        if engine.storage.pages.numbers() != engine.storage.manifest.pages():
            raise Counterexample("pages that are of no use")

    def note(self) -> Note:
        """See `Note`."""
        if not self._opened:
            before = self._before
            return Note(before.states, before.submitted, self._least, before.stored, self.engine.clock.seconds())
        storage = self.engine.storage
        self._stored = max(self._stored, self.acknowledged if storage._sync else storage.manifest.revision)
        return Note(self.states, len(self.states) - 1, self.acknowledged, self._stored, self.engine.clock.seconds())

    def go_on(self, choices: random.Random) -> None:
        """Do something else each time."""
        engine = self.engine
        steps: dict[str, list[Callable[[], None]]] = {
            "nothing": [],
            "a write": [self._write],
            "a checkpoint": [engine.checkpoint],
            "a write, a checkpoint": [self._write, engine.checkpoint],
            "a write, a checkpoint, a write": [self._write, engine.checkpoint, self._write],
            "a write, two checkpoints, a write": [self._write, engine.checkpoint, engine.checkpoint, self._write],
            "two checkpoints, two writes": [
                self._write,
                engine.checkpoint,
                self._write,
                engine.checkpoint,
                self._write,
            ],
            "time, a write": [lambda: engine.clock.advance(1), self._write],
            "a write, time": [self._write, lambda: engine.clock.advance(61)],
            "a write, a stop": [self._write, self._stop],
        }
        self.went_on = choices.choice(list(steps))
        for step in steps[self.went_on]:
            step()
        failed = engine.store.figures().failed_checkpoints
        if failed:
            raise Counterexample(f"then {self.went_on}: a checkpoint failed")

    def _write(self) -> None:
        engine = self.engine
        changes = [put(b"k1", b"written behind %d" % len(self.states))]
        model = self.states[-1].copy()
        model.transact([], changes, engine.now_ms())
        self.states.append(model)
        engine.do(*changes)
        self.acknowledged = model.revision

    def _stop(self) -> None:
        result_of(self.engine.close())
        self._stored = self.acknowledged
