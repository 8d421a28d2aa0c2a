"""What a command that takes its time shows on standard error, where that is a terminal; and how Ctrl-C stops it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn
from rich.progress import TimeRemainingColumn as TimeRemaining

from kvtwist.cli.exits import Interrupted


@contextmanager
def progress(what: str, total: int | None, in_bytes: bool = False) -> Iterator[Callable[[int], None]]:
    """
    Show how far something is; yields what is to be called with how much more is done.

    :param total: how much there is to do, None if nobody knows.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    amount: ProgressColumn = DownloadColumn(binary_units=True) if in_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeRemaining())
    # Lines go above the bar where both are on the terminal; what goes elsewhere must go there.
    both = sys.stdout.isatty()
    with Progress(*columns, console=console, transient=True, redirect_stdout=both) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)


class Interrupts:
    """
    Lets Ctrl-C wait until the command asks: `check` raises `Interrupted` then. A second one ends the process at once,
    which harms a store as little as any other death of a process.

    :ivar at_once: whether it need not wait: set it around what may take for ever and has no store in its hands.
    """

    def __init__(self) -> None:
        self.at_once = False
        self._came = False

    def __enter__(self) -> Interrupts:
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came = True
        signal.signal(number, signal.SIG_DFL)
        if self.at_once:
            self.check()

    def check(self, _: int = 0) -> None:
        """:raises Interrupted: somebody has pressed Ctrl-C."""
        if self._came:
            raise Interrupted("interrupted")
