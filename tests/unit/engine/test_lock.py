"""A directory is open in one process, and free when that process has died in any way."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from unittest import mock

from kvtwist.engine.lock import DirectoryLock
from kvtwist.model import StoreDamaged, StoreInUse
from tests.support.engine import Engine, TestCase

_HOLD = """
import sys, time
from kvtwist.engine.lock import DirectoryLock
lock = DirectoryLock(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


class LockTests(TestCase):
    def test_a_second_one_is_refused_and_names_the_process_that_has_it(self) -> None:
        lock = DirectoryLock(str(self.path))
        with self.assertRaises(StoreInUse) as caught:
            DirectoryLock(str(self.path))
        self.assertIn(str(self.path), str(caught.exception))
        self.assertIn(str(os.getpid()), str(caught.exception))
        lock.release()

    def test_its_file_holds_the_number_of_the_process_for_its_owner(self) -> None:
        path = self.path / "lock"
        path.write_bytes(b"123456789012345\n")
        for _ in range(2):
            lock = DirectoryLock(str(self.path))
            self.assertEqual(path.read_bytes(), b"%d\n" % os.getpid())
            lock.release()
            path.unlink()
        DirectoryLock(str(self.path)).release()
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)

    def test_a_released_one_can_be_had_again(self) -> None:
        for _ in range(3):
            lock = DirectoryLock(str(self.path))
            self.assertRaises(StoreInUse, DirectoryLock, str(self.path))
            lock.release()

    def test_the_system_releases_it_when_a_process_is_killed(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen(
            [sys.executable, "-c", _HOLD, str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        ) as holder:
            assert holder.stdout is not None
            self.assertEqual(holder.stdout.readline(), b"held\n")
            with self.assertRaises(StoreInUse) as caught:
                DirectoryLock(str(self.path))
            self.assertIn(str(holder.pid), str(caught.exception))
            holder.kill()
        DirectoryLock(str(self.path)).release()

    def test_on_a_full_disk_the_process_that_has_it_is_unknown(self) -> None:
        def write(descriptor: int, data: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with mock.patch.object(os, "write", write):
            lock = DirectoryLock(str(self.path))
        with self.assertRaises(StoreInUse) as caught:
            DirectoryLock(str(self.path))
        self.assertIn("process unknown", str(caught.exception))
        lock.release()
        DirectoryLock(str(self.path)).release()

    def test_a_directory_that_is_not_there_cannot_be_locked(self) -> None:
        self.assertRaises(OSError, DirectoryLock, str(self.path / "none"))


class TwoStoresTests(TestCase):
    def test_a_second_store_on_a_directory_is_refused_and_harms_nothing(self) -> None:
        first, second = Engine(self.path / "store"), Engine(self.path / "store")
        first.open()
        self.addCleanup(first.die)
        first.put(b"k", b"v")
        before = first.files()
        with self.assertRaises(StoreInUse):
            second.open()
        self.assertEqual(first.files(), before)
        first.put(b"k", b"w")
        self.assertEqual(first.get(b"k"), b"w")

    def test_a_store_that_could_not_be_opened_lets_the_next_one_in(self) -> None:
        engine = Engine(self.path / "store")
        engine.open()
        engine.put(b"a", b"1")
        engine.put(b"b", b"2")
        engine.die()
        [name] = engine.files("journal")
        segment = engine.path / name
        content = segment.read_bytes()
        segment.write_bytes(content[:25] + b"\xff" + content[26:])
        self.assertRaises(StoreDamaged, engine.open)
        segment.write_bytes(content)
        self.assertEqual(engine.open().transactions, 2)
        engine.die()

    def test_a_closed_store_lets_the_next_one_in(self) -> None:
        first, second = Engine(self.path / "store"), Engine(self.path / "store")
        first.open()
        first.put(b"k", b"v")
        self.successResultOf(first.close())
        second.open()
        self.assertEqual(second.get(b"k"), b"v")
        second.die()
