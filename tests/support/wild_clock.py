"""
twistd with a wall clock that a test sets.

A file says by how many seconds the clock is wrong. It is patched before Twisted is imported, which keeps the function.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Final

_VARIABLE: Final = "TEST_WALL_CLOCK"
TWISTD: Final = (sys.executable, "-m", "tests.support.wild_clock")


class WallClock:
    """What a test says."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.environment = {_VARIABLE: str(file)}
        self.set(0)

    def set(self, seconds: float) -> None:
        """Let the clock be wrong by that from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(str(seconds))
        new.rename(self._file)


if __name__ == "__main__":
    right, file = time.time, os.environ[_VARIABLE]

    def wrong() -> float:
        with open(file) as content:
            return right() + float(content.read())

    time.time = wrong
    from twisted.scripts.twistd import run

    run()
