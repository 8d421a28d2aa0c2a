"""What a command that takes its time shows on standard error, where that is a terminal; and how Ctrl-C stops it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

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
    Lets Ctrl-C, SIGTERM and SIGHUP wait until the command asks: `check` raises `Interrupted` then. A second one ends
    the process at once, which harms a store as little as any other death of a process. What the process was started to
    ignore stays ignored.
    """

    def __init__(self) -> None:
        self._at_once = False
        self._came: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        self._before = {number: signal.getsignal(number) for number in signals}
        self._before = {number: handler for number, handler in self._before.items() if handler != signal.SIG_IGN}
        for number in self._before:
            signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, came: int, frame: FrameType | None) -> None:
        self._came = came
        for number in self._before:
            signal.signal(number, signal.SIG_DFL)
        if self._at_once:
            self.check()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let them not wait within the block, which may take for ever and has no store in its hands."""
        self._at_once = True
        try:
            self.check()
            yield
        finally:
            self._at_once = False

    def check(self) -> None:
        """:raises Interrupted: a signal has come."""
        if self._came is not None:
            raise Interrupted(self._came)
