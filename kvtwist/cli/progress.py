"""What a command that takes its time shows on standard error, where that is a terminal; and how Ctrl-C stops it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn
from rich.progress import TimeRemainingColumn as TimeRemaining


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
