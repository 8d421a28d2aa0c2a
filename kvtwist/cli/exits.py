"""Exit codes, which scripts rely on, and the exceptions that end a command early."""

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
"""Added to the number of the signal that ended the command, as shells do."""


class BadInput(Exception):
    """The input of a command is not valid; the message says where."""


class Interrupted(StoreError):
    """
    A signal asked the command to stop. It is a `StoreError` so that the engine cleans up when it passes through.

    :ivar number: the signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__("interrupted")
        self.number = number
