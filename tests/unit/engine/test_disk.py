"""The store's files are its own: connections may take all that there are, and it still opens those that it needs."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

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


class DirectoryTests(TestCase):
    def test_each_directory_that_is_made_is_synced_in_the_one_above(self) -> None:
        disk = Disk()
        synced: list[Path] = []
        self.patch(disk, "sync_directory", lambda path: synced.append(Path(path)))
        root = self.path
        disk.make_directory(str(root / "a" / "b" / "c"))
        self.assertTrue((root / "a" / "b" / "c").is_dir())
        self.assertEqual(synced, [root.parent, root, root, root / "a", root / "a", root / "a" / "b"])
        synced.clear()
        disk.make_directory(str(root / "a" / "b"))
        self.assertEqual(synced, [], "it is there")
        disk.make_directory(str(root / "a" / "b" / "d"))
        self.assertEqual(synced, [root / "a", root / "a" / "b"], "a process may have died before it synced its name")

    def test_a_parent_that_may_not_be_read_is_no_fault(self) -> None:
        disk = Disk()
        sync = disk.sync_directory

        def refuse(path: str) -> None:
            if Path(path) == self.path.parent:
                raise PermissionError
            sync(path)

        self.patch(disk, "sync_directory", refuse)
        disk.make_directory(str(self.path / "a"))
        self.assertTrue((self.path / "a").is_dir())


class FileTests(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.disk = Disk()
        self.file = str(self.path / "file")

    def test_zeros_are_appended_and_written_over(self) -> None:
        descriptor = self.disk.create(self.file)
        self.disk.write(descriptor, b"123")
        self.disk.extend(descriptor, 5)
        self.assertEqual((self.disk.size(descriptor), Path(self.file).read_bytes()), (8, b"123" + bytes(5)))
        self.disk.write(descriptor, b"45")
        self.assertEqual(Path(self.file).read_bytes(), b"12345" + bytes(3))
        self.disk.cut(descriptor, 4)
        self.disk.write(descriptor, b"x")
        self.assertEqual(Path(self.file).read_bytes(), b"1234x")
        self.disk.close(descriptor)
        descriptor = self.disk.reopen(self.file)
        self.disk.write(descriptor, b"AB")
        self.disk.close(descriptor)
        self.assertEqual(Path(self.file).read_bytes(), b"AB34x")
        self.assertEqual(os.stat(self.file).st_mode & 0o777, 0o600)

    def test_a_write_that_is_taken_in_parts_is_whole(self) -> None:
        write, pwrite = os.write, os.pwrite
        with (
            patch("os.write", lambda fd, data: write(fd, data[:3])),
            patch("os.pwrite", lambda fd, data, at: pwrite(fd, data[:2], at)),
        ):
            descriptor = self.disk.create(self.file)
            self.disk.write(descriptor, b"1234567890")
            self.disk.extend(descriptor, 5)
            self.disk.close(descriptor)
            self.assertEqual(Path(self.file).read_bytes(), b"1234567890" + bytes(5))
            self.disk.cut_file(self.file, 12, b"abcde")
            self.assertEqual(Path(self.file).read_bytes(), b"1234567abcde")

    def test_a_part_of_a_file_ends_with_it(self) -> None:
        self.disk.save(self.file, b"1234567890")
        for position, count, part in ((0, 3, b"123"), (8, 3, b"90"), (10, 3, b""), (4, 2, b"56")):
            self.assertEqual(self.disk.read_part(self.file, position, count), part)
        self.assertEqual((self.disk.length(self.file), self.disk.read(self.file)), (10, b"1234567890"))

    def test_a_file_that_cannot_be_saved_is_gone(self) -> None:
        for call in ("write", "sync"):
            with patch.object(self.disk, call, side_effect=OSError(errno.EIO, "no")):
                self.assertRaises(OSError, self.disk.save, self.file, b"content")
            self.assertFalse(os.path.exists(self.file))

    def test_the_space_is_what_the_system_says(self) -> None:
        free, total = self.disk.space(str(self.path))
        found = os.statvfs(self.path)
        self.assertEqual(total, found.f_blocks * found.f_frsize)
        self.assertTrue(0 < free <= total)
        self.assertEqual(free % found.f_frsize, 0)
