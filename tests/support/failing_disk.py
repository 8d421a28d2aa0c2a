"""
twistd with a disk that fails when a test says so: for faults that no test can cause in earnest.

A file says which calls fail: a line for each with the name of the method of `Disk`, an error number, and a part of the
path that it is about. The server looks at it before each call.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Final

from kvtwist import tap
from kvtwist.engine.disk import Disk

_VARIABLE: Final = "TEST_DISK_FAULTS"
TWISTD: Final = (sys.executable, "-m", "tests.support.failing_disk")


class Faults:
    """What a test says."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.environment = {_VARIABLE: str(file)}

    def fail(self, call: str, number: int, path: str = "") -> None:
        """Let every such call fail from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{call} {number} {path}\n")
        new.rename(self._file)

    def heal(self) -> None:
        """Let every call succeed."""
        self._file.unlink()


class FailingDisk(Disk):
    """The disk of such a server."""

    def __init__(self, reserve: int = 0) -> None:
        super().__init__(reserve)
        self._file = Path(os.environ[_VARIABLE])

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("_"):
            return found
        file: Path = super().__getattribute__("_file")

        def call(*arguments: Any) -> Any:
            _fail(file, name, arguments[0])
            return found(*arguments)

        return call


def _fail(file: Path, name: str, what: str | int) -> None:
    if not file.exists():
        return
    path = what if isinstance(what, str) else os.readlink(f"/proc/self/fd/{what}")
    for line in file.read_text().splitlines():
        call, number, part = line.split(" ", 2)
        if call == name and part in path:
            raise OSError(int(number), os.strerror(int(number)))


if __name__ == "__main__":
    from twisted.scripts.twistd import run

    tap.Disk = FailingDisk  # type: ignore[misc]
    run()
