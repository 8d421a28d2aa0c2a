"""A progress bar on standard error, if that is a terminal."""

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
    Show a progress bar; yields a function to call with the amount done since the last call.

    :param total: the whole amount, None if it is unknown.
    :param in_bytes: whether amounts are bytes.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    amount: ProgressColumn = DownloadColumn(binary_units=True) if in_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount, TimeRemaining())
    # If standard output is the terminal too, lines must appear above the bar. A file or pipe gets them directly.
    both = sys.stdout.isatty()
    with Progress(*columns, console=console, transient=True, redirect_stdout=both) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)
