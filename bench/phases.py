"""What memory.py and holds.py share: a server that goes through phases while another client asks for one key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from attrs import frozen

from bench.checkout import Checkout
from bench.command import Run
from bench.figures import Figures, Panel, rounds, table
from bench.probe import Probe


@frozen
class Phase:
    """:ivar began: and `ended`, on the clock of time.monotonic."""

    title: str
    began: float
    ended: float
    figures: dict[str, float]

    def with_waits(self, probe: Probe) -> Phase:
        """The phase with what the other client saw."""
        return Phase(self.title, self.began, self.ended, {**self.figures, **probe.waits(self.began, self.ended)})


@frozen
class Metric:
    """:ivar drawn: whether the picture shows it."""

    name: str
    title: str
    form: Callable[[float], str]
    drawn: bool = False


def compare(
    run: Run, name: str, metrics: Sequence[Metric], measure: Callable[[Checkout, Path], Iterable[Phase]]
) -> None:
    """Measure each contender in each round, and report the section of that name: a row for each phase."""
    figures = Figures()
    titles: dict[str, None] = {}
    contenders = run.chosen(list(run.checkouts))
    for number, order in enumerate(rounds(run.rounds, contenders)):
        for contender in order:
            for phase in measure(run.checkouts[contender], run.place / f"{contender}-{number}"):
                titles[phase.title] = None
                figures.add(phase.title, contender, **phase.figures)
    columns = [(contender, metric) for contender in contenders for metric in metrics]
    head = ["", *(f"{contender}: {metric.title}" if run.options.old else metric.title for contender, metric in columns)]
    lines = [
        [title, *(figures.cell(title, who, metric.name, metric.form) for who, metric in columns)] for title in titles
    ]
    panels = [
        Panel(head[at], metric.form, figures.bars({title: (title, contender, metric.name) for title in titles}))
        for at, (contender, metric) in enumerate(columns, 1)
        if metric.drawn
    ]
    run.report(name, table(head, lines), panels)
