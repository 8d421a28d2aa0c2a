"""
File systems of a test's own: one that is small enough to be filled up, and one that can be broken.

Without the right to mount, a test is skipped. With `KVTWIST_TEST_MOUNTS=required`, which
.ci/run sets, it fails instead where there can be no small disk. Disks that break need more than that, of the kernel.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

BLOCK: Final = 4096
"""Bytes that a tmpfs gives to a file at a time."""


class Unavailable(Exception):
    """There can be no such disk here."""


@contextmanager
def small_disk(place: Path, size: int, files: int = 0) -> Iterator[Path]:
    """
    An empty disk of so many bytes.

    :param files: how many files it can hold; 0 for any number.
    """
    try:
        with _mounted(place, "-t", "tmpfs", "-o", f"size={size},nr_inodes={files},mode=755", "tmpfs"):
            yield place
    except Unavailable as error:
        if os.environ.get("KVTWIST_TEST_MOUNTS") == "required":
            raise
        pytest.skip(str(error))


@contextmanager
def breakable_disk(place: Path, image: Path) -> Iterator[Path]:
    """A disk in a file, which turns read-only when it finds an error, as many in earnest are told to. See `break_disk`."""
    try:
        if not image.exists():
            image.write_bytes(b"")
            os.truncate(image, 16 * 2**20)
            _run("mkfs.ext4", "-q", "-F", str(image))
        with _mounted(place, "-o", "loop,errors=remount-ro", str(image)):
            yield place
    except Unavailable as error:
        pytest.skip(str(error))


def break_disk(place: Path) -> None:
    """Let the kernel find an error on a disk. Nothing that is synced is lost."""
    device = os.stat(place).st_dev
    name = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name
    try:
        Path(f"/sys/fs/ext4/{name}/trigger_fs_error").write_text("1")
    except OSError as error:
        raise Unavailable(f"this kernel breaks no disks for us: {error}") from error
    with pytest.raises(OSError, match="Read-only file system"):
        (place / "probe").touch()


def make_read_only(place: Path, read_only: bool = True) -> None:
    """Change how a disk is mounted that nobody writes to."""
    subprocess.run(["mount", "-o", f"remount,{'ro' if read_only else 'rw'}", str(place)], check=True)


class Ballast:
    """Something that takes up room on a disk."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file = directory / "ballast"

    def fill(self, leave: int = 0) -> None:
        """Take all room that there is, but for so many bytes."""
        with self._file.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(BLOCK))
            except OSError as error:
                assert error.errno == errno.ENOSPC, error
            os.truncate(self._file, max(file.tell() // BLOCK * BLOCK - leave, 0))

    def fill_names(self) -> None:
        """Take all files that there may be."""
        try:
            for number in range(10**6):
                (self._directory / f"ballast-{number}").touch()
        except OSError as error:
            assert error.errno == errno.ENOSPC, error

    def remove(self) -> None:
        """Give all of it back."""
        for path in self._directory.glob("ballast*"):
            path.unlink()


@contextmanager
def _mounted(place: Path, *what: str) -> Iterator[None]:
    place.mkdir(exist_ok=True)
    _run("mount", *what, str(place))
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def _run(*command: str) -> None:
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise Unavailable(str(error)) from error
    if result.returncode:
        raise Unavailable(result.stderr.strip())
