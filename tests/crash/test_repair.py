"""
A repair may die at any moment, and the power may fail: a start then refuses the store still, or finds it repaired, and
another repair comes to the same.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen
from twisted.internet.task import Clock

from kvtwist.model import StoreDamaged
from tests.crash.history import Counterexample, History
from tests.crash.mutations import LostSync
from tests.crash.repairing import Contents, contents_of, has_a_whole_frame_after_a_bad_one, repaired
from tests.crash.settings import Settings
from tests.crash.workload import Workload
from tests.support.engine import TestCase
from tests.support.memorydisk import Forgotten, MemoryDisk, new_place, root_of
from tests.support.picks import randomly
from tests.support.powerloss import Platter, Write

DAMAGED = 12
"""So many stores are repaired."""
TRIES = 4
"""So many power losses are tried at each moment."""
ROUNDS = 10
"""So often is each of them repaired before a sync counts as not needed."""
LOST_SYNCS = [
    LostSync("a page", "sync", ("pages.__setitem__",)),
    LostSync("names of pages", "sync_directory", ("pages.sync",)),
    LostSync("the manifest", "sync", ("manifest.write",)),
    LostSync("the name of the manifest", "sync_directory", ("repair.carry_out",), "/store"),
]


@frozen
class Damaged:
    """A store that a power loss has left so that no start takes it."""

    settings: Settings
    left: Platter
    seconds: float


class RepairTests(TestCase):
    def setUp(self) -> None:
        super().setUp()
        place = new_place()
        self.place = place.__enter__()
        self.addCleanup(place.__exit__, None, None, None)
        self.choices = random.Random(1)

    def test_it_may_end_at_any_moment(self) -> None:
        states = sum(self.repair(damaged) for damaged in damaged_stores(self.place, DAMAGED))
        gc.collect()
        self.flushLoggedErrors()  # of processes that have died
        self.assertGreater(states, 1000)

    def test_every_sync_of_it_is_needed(self) -> None:
        stores = list(damaged_stores(self.place, DAMAGED))
        for lost in LOST_SYNCS:
            self.choices = random.Random(1)
            with self.assertRaises(Counterexample, msg=lost.name):
                for damaged in stores * ROUNDS:
                    self.repair(damaged, lost.is_it)
        gc.collect()
        self.flushLoggedErrors()

    def repair(self, damaged: Damaged, forgotten: Forgotten | None = None) -> int:
        """Repair it, and look at what is left at each moment; returns of how many states."""
        with damaged.settings.applied():
            disk = MemoryDisk(root_of(self.place), damaged.left.copy())
            disk.forgotten = forgotten
            repaired(self.place, disk)
            expected = self.contents(damaged, disk.platter.copy())
            assert expected is not None
            platter = damaged.left.copy()
            known: set[bytes] = set()
            states = 0
            for change, _ in [*disk.log, (None, None)]:
                killed = [platter.copy()]
                if isinstance(change, Write) and (torn := change.torn(0.5)) is not None:
                    killed.append(platter.copy())
                    killed[-1].apply(torn)
                lost = [
                    platter.crash(randomly(self.choices), ordered=number % 2 == 0, stale=damaged.settings.stale)
                    for number in range(TRIES)
                ]
                for left in [*killed, *lost]:
                    states += 1
                    if (digest := left.digest()) not in known:
                        self.look(damaged, left, expected, f"before {change}")
                        known.add(digest)
                if change is not None:
                    platter.apply(change)
            return states

    def look(self, damaged: Damaged, left: Platter, expected: Contents, when: str) -> None:
        """It is the repaired store, or becomes it by another repair; :raises Counterexample: it is neither."""
        found = self.contents(damaged, left.copy())
        if found is None:
            repaired(self.place, MemoryDisk(root_of(self.place), left))
            found = self.contents(damaged, left)
        if found != expected:
            raise Counterexample(f"{when}: {found}, not {expected}")

    def contents(self, damaged: Damaged, left: Platter) -> Contents | None:
        """What a start finds; None if it refuses."""
        clock = Clock()
        clock.advance(damaged.seconds)
        try:
            return contents_of(damaged.settings, self.place, left, clock)[0]
        except StoreDamaged:
            return None


def damaged_stores(place: Path, count: int) -> Iterator[Damaged]:
    """Stores of random histories without syncs, each of another one."""
    seed = 0
    while count:
        seed += 1
        choices = random.Random(seed)
        workload = Workload(seed, place)
        if workload.settings.sync:
            continue
        with workload.settings.applied():
            histories = list(workload.run(1))
        damaged = next(filter(None, (_damaged(place, histories[0], choices) for _ in range(200))), None)
        if damaged is not None:
            count -= 1
            yield damaged


def _damaged(place: Path, history: History, choices: random.Random) -> Damaged | None:
    moment = choices.randrange(len(history.changes))
    platter = history.before.copy()
    for change, _ in history.changes[:moment]:
        platter.apply(change)
    left = platter.crash(randomly(choices), stale=history.settings.stale)
    if not has_a_whole_frame_after_a_bad_one(place, left):
        return None
    return Damaged(history.settings, left, history.changes[moment][1].seconds)
