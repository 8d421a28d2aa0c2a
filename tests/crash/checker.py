"""
Takes a history apart into the states that a crash may have left at each of its moments, and opens a store on each.

A store that was left like this holds what was there after some revision: no earlier one than what was acknowledged, no
later one than what was submitted, and all of it. Then it goes on: it takes writes, may checkpoint, crashes again or
stops, and the same holds of what is left of that. Of some, every moment of going on is taken apart in turn.

Where nothing is synced a power loss may also leave a store that a start refuses: see `tests.crash.repairing`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from attrs import Factory, define
from twisted.internet.task import Clock

from kvtwist.model import StoreDamaged, StoreError
from tests.crash.history import Counterexample, History, Note
from tests.crash.repairing import contents_of, end_of_journal, has_a_whole_frame_after_a_bad_one, repaired
from tests.crash.settings import Settings
from tests.crash.visit import Visit
from tests.support.engine import Model
from tests.support.memorydisk import Forgotten, MemoryDisk, root_of
from tests.support.picks import EveryPick, randomly
from tests.support.powerloss import Platter, Write

FEW = 24
"""All states of a moment are tried where there are no more than that."""


@define
class Tally:
    """What has been looked at."""

    states: int = 0
    repaired: int = 0
    distinct: set[bytes] = Factory(set)


class Checker:
    """
    :param place: see `MemoryEngine`; not that of the store that made the history.
    :param tries: how many states of each moment to look at, where there are many.
    :param again: of what share of states the going on is taken apart in turn.
    """

    def __init__(
        self,
        place: Path,
        choices: random.Random,
        tries: int,
        again: float = 0.003,
        forgotten: Forgotten | None = None,
    ) -> None:
        self.tally = Tally()
        self._place = place
        self._choices = choices
        self._tries = tries
        self._again = again
        self._forgotten = forgotten
        self._known: dict[bytes, Model] = {}
        """What the states that were looked at hold."""

    def check(self, history: History, depth: int = 0) -> None:
        """:raises Counterexample: on the first state that is not survived."""
        platter = history.before.copy()
        for at, (change, note) in enumerate(history.changes):
            self._look(history.settings, platter, note, f"before change {at}, {change}", depth)
            if isinstance(change, Write) and (part := change.torn(self._choices.random())) is not None:
                torn = platter.copy()
                torn.apply(part)
                self._judge(history.settings, torn, note, note.acknowledged, f"a kill in change {at}, {change}", depth)
            platter.apply(change)
        self._look(history.settings, platter, history.end, "in the end", depth)

    def _look(self, settings: Settings, platter: Platter, note: Note, when: str, depth: int) -> None:
        self._judge(settings, platter, note, note.acknowledged, f"a kill {when}", depth)
        for left, how in self._power_losses(settings, platter, self._tries if depth == 0 else 2):
            self._judge(settings, left, note, note.stored, f"a power loss {when}, {how}", depth, not settings.sync)

    def _power_losses(self, settings: Settings, platter: Platter, tries: int) -> Iterator[tuple[Platter, str]]:
        every = EveryPick()
        states = [platter.crash(every, stale=settings.stale)]
        while not every.ended():
            if every.at_least() > FEW:
                break
            states.append(platter.crash(every, stale=settings.stale))
        else:
            yield from ((left, "on any file system") for left in states)
            return
        yield states[0], "nothing unsynced kept"
        for number in range(tries):
            ordered = number % 3 == 0
            how = "on an ordered file system" if ordered else "on a weak file system"
            yield platter.crash(randomly(self._choices), ordered, settings.stale), how

    def _judge(
        self,
        settings: Settings,
        left: Platter,
        note: Note,
        least: int,
        how: str,
        depth: int,
        refusable: bool = False,
    ) -> None:
        """:param refusable: whether a start may refuse it that `repair` helps."""
        self.tally.states += 1
        digest = left.digest()
        self.tally.distinct.add(digest)
        if left.unsynced:
            digest += b"unsynced"  # what follows may be different
        model = self._known.get(digest)
        if model is None:
            try:
                if refusable and has_a_whole_frame_after_a_bad_one(self._place, left):
                    model = self._repair(settings, left.copy(), note, least)
                else:
                    model = self._survive(settings, left.copy(), note, least, depth)
            except (StoreError, Counterexample) as error:
                raise Counterexample(f"{how}: {type(error).__name__}: {error}") from error
            self._known[digest] = model
        elif not (least <= model.revision <= note.submitted and _same(note.states[model.revision], model)):
            raise Counterexample(f"{how}: revision {model.revision}, not {least} to {note.submitted}")

    def _repair(self, settings: Settings, left: Platter, note: Note, least: int) -> Model:
        """See that a start refuses it, repair it, and look at that; returns what was found."""
        clock = Clock()
        clock.advance(note.seconds)
        before = end_of_journal(self._place, left)
        try:
            contents_of(settings, self._place, left, clock)
        except StoreDamaged:
            pass
        else:
            raise Counterexample("it opens with a whole frame after a bad one")
        if end_of_journal(self._place, left) != before:
            raise Counterexample("a start that was refused has changed the journal")
        self.tally.repaired += 1
        told = repaired(self._place, MemoryDisk(root_of(self._place), left))
        missing = [report.revisions[0] for report in told if report.revisions is not None]
        behind = [report.revision or 0 for report in told if report.kind == "behind" and not report.saved]
        revision = min(missing) - 1
        if not least <= revision < min(behind) - 1 < max(behind) <= note.submitted:
            raise Counterexample(f"repaired to revision {revision}, without {behind}, not {least} to {note.submitted}")
        model = note.states[revision]
        found, now_ms = contents_of(settings, self._place, left, clock)
        if found != model.contents(now_ms):
            raise Counterexample(f"repaired to revision {revision} it holds {found}, not {model.contents(now_ms)}")
        return model

    def _survive(self, settings: Settings, left: Platter, note: Note, least: int, depth: int) -> Model:
        """Open a store on what is left, look at it, go on, crash, and look again; returns what was found."""
        before = left.copy()
        clock = Clock()
        clock.advance(note.seconds)
        visit = Visit(settings, self._place, left, note, clock, self._forgotten)
        try:
            visit.open(least, note.submitted)
            found = visit.states[-1]
            visit.go_on(self._choices)
            history = History(settings, before, visit.disk.log, visit.note())
        finally:
            visit.engine.die()
        if depth == 0 and self._choices.random() < self._again:
            self.check(history, depth=1)
        try:
            self._survive_again(history, clock)
        except (StoreError, Counterexample) as error:
            raise Counterexample(f"then {visit.went_on}, and {error}") from error
        return found

    def _survive_again(self, history: History, clock: Clock) -> None:
        """Once more, at the end of what was gone on with or on the way there."""
        choices = self._choices
        moment = len(history.changes)
        platter, note, how = history.before, history.end, "a power loss in the end"
        if choices.random() < 0.6:
            moment = choices.randrange(moment)
            change, note = history.changes[moment]
            how = f"a power loss before change {moment}, {change}"
        for change, _ in history.changes[:moment]:
            platter.apply(change)
        left = platter.crash(randomly(choices), ordered=choices.random() < 0.3, stale=history.settings.stale)
        try:
            if not history.settings.sync and has_a_whole_frame_after_a_bad_one(self._place, left):
                self._repair(history.settings, left, note, note.stored)
                return
            visit = Visit(history.settings, self._place, left, note, clock, self._forgotten)
            try:
                visit.open(note.stored, note.submitted)
            finally:
                visit.engine.die()
        except (StoreError, Counterexample) as error:
            raise Counterexample(f"{how}: {error}") from error


def _same(one: Model, other: Model) -> bool:
    return one is other or one.contents(0) == other.contents(0)
