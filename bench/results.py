"""What was measured, round by round, and its medians."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from attrs import Factory, asdict, define, frozen


@frozen
class Result:
    """
    One phase of one contender in one round.

    :ivar figures: by name; empty where there is an `error`.
    """

    size: int
    round: int
    phase: str
    contender: str
    figures: dict[str, float]
    error: str | None = None


@frozen
class Spread:
    """A median, and how far the rounds were apart."""

    median: float
    low: float
    high: float

    @property
    def share(self) -> float:
        """Half of the range, as a share of the median."""
        return (self.high - self.low) / 2 / self.median if self.median else 0.0


@define
class Results:
    """
    :ivar machine: what it was measured on.
    :ivar version: what was measured.
    :ivar how: the command.
    """

    machine: str
    version: str
    how: str
    date: str
    results: list[Result] = Factory(list)

    def sizes(self) -> list[int]:
        """Numbers of keys, ascending."""
        return sorted({result.size for result in self.results})

    def contenders(self) -> list[str]:
        """Who took part, in the order in which they came."""
        return list(dict.fromkeys(result.contender for result in sorted(self.results, key=lambda r: r.round)))

    def of(self, size: int, phase: str, contender: str) -> list[Result]:
        """All rounds of one."""
        asked = (size, phase, contender)
        return [result for result in self.results if (result.size, result.phase, result.contender) == asked]

    def spread(self, size: int, phase: str, contender: str, name: str, per: str | None = None) -> Spread | None:
        """A figure over all rounds, divided by another one if `per` names it; None where nobody has it."""
        values = []
        for result in self.of(size, phase, contender):
            divisor = 1.0 if per is None else result.figures.get(per)
            if name in result.figures and divisor:
                values.append(result.figures[name] / divisor)
        return Spread(statistics.median(values), min(values), max(values)) if values else None

    def errors(self) -> Sequence[Result]:
        """What failed."""
        return [result for result in self.results if result.error]

    def save(self, path: Path) -> None:
        """As JSON, for `load`."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Results:
        """What was saved."""
        held = json.loads(path.read_text())
        return cls(**{**held, "results": [Result(**result) for result in held["results"]]})
