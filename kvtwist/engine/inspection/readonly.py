"""A disk for reading a store without changing it."""

from __future__ import annotations

import errno
import os
from typing import NoReturn

from kvtwist.engine.disk import Disk


class ReadOnlyDisk(Disk):
    """Skips the cut of a torn tail, which a start does; refuses every other change."""

    def create(self, path: str) -> NoReturn:
        _refuse(path)

    def reopen(self, path: str) -> NoReturn:
        _refuse(path)

    def cut_file(self, path: str, size: int, tail: bytes = b"") -> None:
        """Leave a torn tail where it is."""

    def link(self, old: str, new: str) -> NoReturn:
        _refuse(new)

    def rename(self, old: str, new: str) -> NoReturn:
        _refuse(new)

    def remove(self, path: str) -> NoReturn:
        _refuse(path)

    def make_directory(self, path: str) -> NoReturn:
        _refuse(path)


def _refuse(path: str) -> NoReturn:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)
