"""Ways to choose one of the states that a power loss may leave; see `tests.support.powerloss.Pick`."""

from __future__ import annotations

import random

from tests.support.powerloss import Pick


def randomly(choices: random.Random) -> Pick:
    """Makes choices at random: mostly to keep, mostly to lose, or without any preference."""
    kept = choices.choice([0.1, 0.5, 0.5, 0.9])

    def pick(count: int) -> int:
        if count == 2 or choices.random() < 0.5:
            return count - 1 if choices.random() < kept else 0
        return choices.randrange(count)

    return pick


class EveryPick:
    """Makes every possible sequence of choices, one after the other."""

    def __init__(self) -> None:
        self._made: list[list[int]] = []
        self._at = 0
        self._ended = 0

    def __call__(self, count: int) -> int:
        """See `Pick`."""
        if self._at == len(self._made):
            self._made.append([0, count])
        self._at += 1
        return self._made[self._at - 1][0]

    def ended(self) -> bool:
        """Go on to the next ones; returns whether there are none."""
        self._ended += 1
        self._at = 0
        while self._made:
            self._made[-1][0] += 1
            if self._made[-1][0] < self._made[-1][1]:
                return False
            self._made.pop()
        return True

    def at_least(self) -> int:
        """A lower bound on the number of sequences, from those made so far."""
        return self._ended + sum(count - choice - 1 for choice, count in self._made) + 1
