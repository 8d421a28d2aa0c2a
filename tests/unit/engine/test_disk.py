"""The store's files are its own: connections may take all that there are, and it still opens those that it needs."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from kvtwist.engine.disk import DESCRIPTORS, Disk, is_passing
from tests.support.engine import TestCase


@contextmanager
def no_file_left() -> Iterator[ExitStack]:
    """All files that this process may open are open; what is put on the stack is closed in the end."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = max(map(int, os.listdir("/proc/self/fd"))) + 50  # a limit below an open descriptor would leave it unusable
    with ExitStack() as taken:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
        taken.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        take_all(taken)
        yield taken


def take_all(taken: ExitStack) -> int:
    """Open files until there are no more; returns how many."""
    for count in range(1000):
        try:
            taken.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            assert error.errno == errno.EMFILE, error
            return count
    raise AssertionError("there is no limit")


class ReserveTests(TestCase):
    def calls(self, disk: Disk, directory: Path) -> dict[str, Callable[[], object]]:
        """Every call that takes a file for a moment, by name."""
        file = str(directory / "file")
        return {
            "create": lambda: disk.close(disk.create(str(directory / "new"))),
            "reopen": lambda: disk.close(disk.reopen(file)),
            "save": lambda: disk.save(str(directory / "saved"), b"content"),
            "cut_file": lambda: disk.cut_file(file, 4),
            "read": lambda: disk.read(file),
            "read_part": lambda: disk.read_part(file, 1, 2),
            "names": lambda: disk.names(str(directory)),
            "sync_directory": lambda: disk.sync_directory(str(directory)),
            "make_directory": lambda: disk.make_directory(str(directory / "below")),
        }

    def test_each_call_goes_on_where_no_file_is_left_and_gives_back_what_it_took(self) -> None:
        (self.path / "file").write_bytes(b"content")
        disk = Disk(DESCRIPTORS)
        disk.read(str(self.path / "file"))
        with no_file_left() as taken:
            for name, call in self.calls(disk, self.path).items():
                for _ in range(3 * DESCRIPTORS):
                    if name == "make_directory":
                        (self.path / "below").rmdir() if (self.path / "below").exists() else None
                    call()
                    if name != "names":  # the file of a listing is Python's own
                        self.assertEqual(take_all(taken), 0, name)

    def test_without_a_reserve_there_is_an_error_that_says_so(self) -> None:
        (self.path / "file").write_bytes(b"content")
        disk = Disk()
        with no_file_left():
            for name, call in self.calls(disk, self.path).items():
                with self.subTest(call=name), self.assertRaises(OSError) as caught:
                    call()
                self.assertTrue(is_passing(caught.exception))

    def test_it_is_made_up_again_when_there_are_files(self) -> None:
        (self.path / "file").write_bytes(b"content")
        disk = Disk(DESCRIPTORS)
        disk.read(str(self.path / "file"))
        with no_file_left():
            held = [disk.reopen(str(self.path / "file")) for _ in range(DESCRIPTORS)]
            self.assertRaises(OSError, disk.read, str(self.path / "file"))
        disk.read(str(self.path / "file"))
        with no_file_left():
            held += [disk.reopen(str(self.path / "file")) for _ in range(DESCRIPTORS)]
        for descriptor in held:
            disk.close(descriptor)

    def test_other_errors_are_as_they_are(self) -> None:
        disk = Disk(DESCRIPTORS)
        with self.assertRaises(FileNotFoundError) as caught:
            disk.read(str(self.path / "none"))
        self.assertFalse(is_passing(caught.exception))
