"""Exit codes, which scripts rely on, and what ends a command before it is done."""

from __future__ import annotations

from typing import Final

from kvtwist.model import StoreError

FINE: Final = 0
PROBLEMS: Final = 1
USAGE: Final = 2
IN_USE: Final = 3
IMPOSSIBLE: Final = 4
INTERRUPTED: Final = 130
CLOSED_PIPE: Final = 141
SIGNALLED: Final = 128
"""What a shell adds the number of a signal to."""


class BadInput(Exception):
    """What a command was given to read is not what it should be; the message says where."""


class Interrupted(StoreError):
    """
    A signal has asked the command to stop. It is a `StoreError` so that the engine tidies up when it passes through.

    :ivar number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__("interrupted")
        self.number = number
