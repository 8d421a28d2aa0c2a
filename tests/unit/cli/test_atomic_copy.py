"""`kvtwist backup` and `restore` make a whole copy or none, and touch no file that is not theirs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from errno import EIO
from functools import partial
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGTERM

from kvtwist.cli.files import PARTIAL, Files
from kvtwist.engine.lock import DirectoryLock
from tests.support.engine import TestCase
from tests.support.tools import Contents, contents_of, eventful, kvtwist


class HookedFiles(Files):
    """Files that call a function once, before a given call of a given method."""

    def __init__(self, call: str, function: Callable[[], object], skip: int = 0, path: str = "") -> None:
        super().__init__()
        self._call = call
        self._function = function
        self._skip = skip
        self._path = path

    def _before(self, call: str, path: str) -> None:
        if call == self._call and self._path in path:
            self._skip -= 1
            if self._skip == -1:
                self._function()

    def create(self, path: str) -> int:
        self._before("create", path)
        return super().create(path)

    def sync(self, descriptor: int) -> None:
        self._before("sync", os.readlink(f"/proc/self/fd/{descriptor}"))
        super().sync(descriptor)

    def rename(self, old: str, new: str) -> None:
        self._before("rename", new)
        super().rename(old, new)

    def sync_directory(self, path: str) -> None:
        self._before("sync_directory", path)
        super().sync_directory(path)


class ArrivalCase(TestCase):
    """A store to copy, and two targets: a free name and an empty directory."""

    def setUp(self) -> None:
        super().setUp()
        self.store = eventful(self.path / "store").end()
        self.before: Contents = contents_of(self.store)
        self.place = self.path / "place"
        self.place.mkdir()
        self.new = self.place / "new"
        self.empty = self.place / "empty"

    def make(self, target: Path, disk: Files | None = None, status: int = 0) -> str:
        """Copy the store; returns standard error, which holds one line if the command failed."""
        result = kvtwist("backup", self.store, target, disk=disk)
        self.assertEqual(result.exit_code, status, result.output)
        self.assertEqual(result.stderr.count("\n"), 1 if status else 0, result.stderr)
        return result.stderr

    def assert_whole(self, target: Path) -> None:
        self.assertEqual(contents_of(target), self.before)
        self.assertEqual(kvtwist("check", target).exit_code, 0)
        self.assertFalse((target / PARTIAL).exists())

    def targets(self) -> Iterator[Path]:
        """A free name, then an empty directory. Everything else is removed before each."""
        for target in (self.new, self.empty):
            shutil.rmtree(self.place)
            self.empty.mkdir(parents=True)
            yield target


class TargetTests(ArrivalCase):
    def test_valid_targets(self) -> None:
        (self.place / "link").symlink_to("empty")
        self.empty.mkdir()
        (self.place / "mount" / "lost+found").mkdir(parents=True)
        for target in (self.new, self.place / "link", self.place / "mount", self.place / "not" / "yet" / "there"):
            with self.subTest(target=target):
                self.make(target)
                self.assert_whole(target)
        self.assertTrue((self.place / "link").is_symlink())
        self.assertEqual(
            {path.name for path in self.place.iterdir()}, {"new", "link", "empty", "mount", "not"}, "nothing is left"
        )

    def test_an_empty_directory_is_filled_not_replaced(self) -> None:
        self.empty.mkdir(mode=0o750)
        before = self.empty.stat()
        self.make(self.empty)
        after = self.empty.stat()
        self.assertEqual((after.st_ino, after.st_mode), (before.st_ino, before.st_mode))

    def test_an_existing_target_is_refused_and_stays(self) -> None:
        cases: list[tuple[str, Callable[[Path], object]]] = [
            ("file", Path.touch),
            ("dangling", lambda path: path.symlink_to("nowhere")),
            ("pipe", os.mkfifo),
            ("full", lambda path: (path / "mine").mkdir(parents=True)),
            ("store", lambda path: shutil.copytree(self.store, path)),
        ]
        for name, make in cases:
            with self.subTest(name):
                target = self.place / name
                make(target)
                before = sorted(self.place.rglob("*"))
                self.assertIn("already exists", self.make(target, status=4))
                self.assertEqual(sorted(self.place.rglob("*")), before)

    def test_a_store_that_is_being_opened_is_not_filled(self) -> None:
        self.empty.mkdir()
        lock = DirectoryLock(str(self.empty))
        self.addCleanup(lock.release)
        self.make(self.empty, status=3)
        self.assertEqual([path.name for path in self.empty.iterdir()], ["lock"])


class LeftoverTests(ArrivalCase):
    """A file or directory under the temporary name: left by an interrupted command, or foreign."""

    def partial_of(self, target: Path) -> Path:
        return target / PARTIAL if target.exists() else target.with_name(target.name + PARTIAL)

    def test_leftovers_of_an_interrupted_copy_are_removed(self) -> None:
        def nothing(left: Path) -> None: ...

        def half(left: Path) -> None:
            (left / PARTIAL).touch()
            (left / "pages").mkdir()
            (left / "pages" / "MQ==_").write_bytes(b"half")
            (left / "manifest-00000000000000000099").write_bytes(b"half")
            (left / "journal-00000000000000000999.log").write_bytes(b"half")

        for leave in (nothing, half):
            for target in self.targets():
                with self.subTest(leave=leave.__name__, target=target.name):
                    left = self.partial_of(target)
                    left.mkdir()
                    leave(left)
                    self.make(target)
                    self.assert_whole(target)

    def linked_pages(self, left: Path) -> None:
        left.mkdir()
        (left / PARTIAL).touch()
        (left / "pages").symlink_to(self.store / "pages")

    def test_foreign_files_stay_and_are_reported(self) -> None:
        cases: list[tuple[str, Callable[[Path], object]]] = [
            ("a file", Path.touch),
            ("a link", lambda left: left.symlink_to(self.store)),
            ("a directory without a mark", lambda left: (left / "pages").mkdir(parents=True)),
            ("a store", lambda left: shutil.copytree(self.store, left)),
            ("a mark that is a directory", lambda left: (left / PARTIAL).mkdir(parents=True)),
            (
                "something beside the mark",
                lambda left: (left.mkdir(), (left / PARTIAL).touch(), (left / "mine").touch()),
            ),
            ("pages that are elsewhere", self.linked_pages),
            (
                "something among the pages",
                lambda left: (
                    (left / "pages").mkdir(parents=True),
                    (left / PARTIAL).touch(),
                    (left / "pages/x").touch(),
                ),
            ),
        ]
        for name, make in cases:
            for target in self.targets():
                with self.subTest(name, target=target.name):
                    make(self.partial_of(target))
                    before = sorted(self.place.rglob("*"))
                    self.make(target, status=4)
                    self.assertEqual([path for path in before if not path.exists() and not path.is_symlink()], [])
                    self.assertEqual(contents_of(self.store), self.before)

    def test_an_unrelated_directory_of_the_old_name_stays(self) -> None:
        unrelated = self.place / "new.partial" / "mine"
        unrelated.mkdir(parents=True)
        self.make(self.new)
        self.assertTrue(unrelated.is_dir())


class ConcurrencyTests(ArrivalCase):
    def test_of_two_commands_with_one_target_one_succeeds(self) -> None:
        other = shutil.copytree(self.store, self.path / "other")
        for call in ("create", "sync", "rename", "sync_directory"):
            for target in self.targets():
                with self.subTest(call, target=target.name):
                    results = []
                    disk = HookedFiles(call, lambda: results.append(kvtwist("restore", other, target)))  # noqa: B023
                    results.append(kvtwist("backup", self.store, target, disk=disk))
                    done, failed = sorted(results, key=lambda result: result.exit_code)
                    self.assertEqual(done.exit_code, 0, done.output)
                    self.assertIn(failed.exit_code, (3, 4), failed.output)
                    self.assertEqual(failed.stderr.count("\n"), 1, failed.stderr)
                    self.assert_whole(target)

    def test_files_made_meanwhile_stay(self) -> None:
        for target in self.targets():
            with self.subTest(target=target.name):
                mine = target / "mine"
                disk = HookedFiles("sync", partial(mine.mkdir, parents=True))
                self.assertIn("already exists", self.make(target, disk, status=4))
                self.assertEqual({path.name for path in target.iterdir()} - {"lock"}, {"mine"})
                self.assertFalse(self.new.with_name(self.new.name + PARTIAL).exists())


class FailureTests(ArrivalCase):
    def assert_nothing(self) -> None:
        for unfinished in self.place.rglob(f"*{PARTIAL}"):
            unfinished.rmdir()  # it is empty: its own name could not be synced
        self.assertEqual({path.name for path in self.place.rglob("*")} - {"lock"}, {"empty"})

    def test_a_failure_leaves_nothing_or_a_whole_copy(self) -> None:
        """Each call of each method fails once."""

        def fail() -> None:
            raise OSError(EIO, os.strerror(EIO))

        for call in ("create", "sync", "rename", "sync_directory"):
            for skip in range(100):
                failed = 0
                for target in self.targets():
                    with self.subTest(call, skip=skip, target=target.name):
                        result = kvtwist("backup", self.store, target, disk=HookedFiles(call, fail, skip, "place"))
                        if result.exit_code == 0:
                            continue
                        failed += 1
                        self.assertEqual((result.exit_code, result.stderr.count("\n")), (4, 1), result.stderr)
                        if (target / "pages").exists():  # only the last steps, which tidy up, have failed
                            self.assertEqual(contents_of(target), self.before)
                        else:
                            self.assert_nothing()
                            self.make(target)
                        self.assertEqual(kvtwist("check", target).exit_code, 0)
                if not failed:
                    break
            self.assertGreater(skip, 2, call)

    def test_a_signal_leaves_nothing(self) -> None:
        for number in (SIGINT, SIGTERM, SIGHUP):
            for call, skip in (("create", 0), ("create", 5), ("sync", 3)):
                for target in self.targets():
                    with self.subTest(number=number, call=call, target=target.name):
                        disk = HookedFiles(call, partial(os.kill, os.getpid(), number), skip)
                        self.assertEqual(self.make(target, disk, status=128 + number), "kvtwist: interrupted\n")
                        self.assert_nothing()

    def test_a_signal_after_the_rename_changes_nothing(self) -> None:
        for target in self.targets():
            disk = HookedFiles("rename", partial(os.kill, os.getpid(), SIGTERM))
            self.make(target, disk)
            self.assert_whole(target)

    def test_a_damaged_store_is_not_copied(self) -> None:
        pages = sorted((self.store / "pages").iterdir())
        for damage in (lambda: pages[0].write_bytes(b"?"), lambda: pages[0].unlink()):
            damage()
            for target in self.targets():
                said = self.make(target, status=1)
                self.assertIn(pages[0].name, said)
                self.assertIn(f"run: kvtwist check {self.store}", said)
                self.assert_nothing()
