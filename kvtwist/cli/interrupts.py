"""Stopping a command by Ctrl-C, SIGTERM or SIGHUP."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from kvtwist.cli.exits import Interrupted


class Interrupts:
    """
    Defers the signals until the command calls `check`, which raises `Interrupted`. A second signal kills the process at
    once; like any kill, that loses nothing. Signals that the process was started to ignore stay ignored.
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
        """Raise at once within the block, which may block for ever and changes no store."""
        self._at_once = True
        try:
            self.check()
            yield
        finally:
            self._at_once = False

    def check(self) -> None:
        """:raises Interrupted: a signal was received."""
        if self._came is not None:
            raise Interrupted(self._came)
