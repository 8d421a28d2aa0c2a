"""
Figures of interleaved rounds, and what is made of them.

In each round all contenders are measured one after the other, and a different one is first: what the machine does
meanwhile, it does to all. A ratio is the median of the ratios of each round, not the ratio of the medians.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import truediv
from statistics import median
from typing import Final

from attrs import frozen

MISSING: Final = "-"


@frozen
class Panel:
    """A part of a picture: by label, the values of a bar, one per round."""

    title: str
    form: Callable[[float], str]
    bars: dict[str, list[float]]


def rounds(count: int, names: Sequence[str]) -> Iterator[list[str]]:
    """The names in the order of each round."""
    for number in range(count):
        first = number % len(names)
        yield [*names[first:], *names[:first]]


class Figures:
    """For each row, contender and metric, one value per round."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str, str], list[float]] = defaultdict(list)

    def add(self, row: str, contender: str, **metrics: float) -> None:
        """Record what one contender did in one round."""
        for metric, value in metrics.items():
            self._values[row, contender, metric].append(value)

    def values(self, row: str, contender: str, metric: str) -> list[float]:
        """One per round; empty if this was not measured."""
        return self._values.get((row, contender, metric), [])

    def bars(self, bars: Mapping[str, tuple[str, str, str]]) -> dict[str, list[float]]:
        """By label, the values of a (row, contender, metric), where there are any."""
        found = {label: self.values(*key) for label, key in bars.items()}
        return {label: values for label, values in found.items() if values}

    def cell(
        self, row: str, contender: str, metric: str, form: Callable[[float], str], beside: str | None = None
    ) -> str:
        """
        The median, half the range in per cent, and the ratio to another contender.

        :param beside: the contender to compare with.
        """
        values = self.values(row, contender, metric)
        if not values:
            return MISSING
        middle = median(values)
        spread = (max(values) - min(values)) / 2 / middle if middle else 0
        text = form(middle) + (f" ±{spread:.0%}" if spread >= 0.005 else "")
        others = self.values(row, beside, metric) if beside not in (None, contender) else []
        if len(others) == len(values) and all(others):
            text += f" ({median(map(truediv, values, others)):.2f}x)"
        return text


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Markdown; lines without any figure are left out."""
    kept = [line for line in lines if set(line[1:]) != {MISSING}]
    rows = [head, ["---", *["---:"] * (len(head) - 1)], *kept]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def whole(value: float) -> str:
    """As a number without a fraction."""
    return f"{value:,.0f}"


def short(value: float) -> str:
    """With two or three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def micro(seconds: float) -> str:
    """Seconds as microseconds."""
    return f"{seconds * 1e6:.1f}"


def milli(seconds: float) -> str:
    """Seconds as milliseconds."""
    return short(seconds * 1e3)


def mebi(size: float) -> str:
    """Bytes as MiB."""
    return whole(size / 2**20)
