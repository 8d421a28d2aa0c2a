"""The log writer keeps order and its limit whatever its target does; dropped lines are counted and reported."""

from __future__ import annotations

import errno
import os
import select
import threading
from collections.abc import Callable

from twisted.logger import capturedLogs

from kvtwist.ops import log_writer
from kvtwist.ops.log_writer import LogWriter, Target, TargetFile
from tests.support.engine import TestCase
from tests.support.server import PATIENCE


class FakeTarget(Target):
    """Takes bytes while it is open, up to its room."""

    def __init__(self) -> None:
        self.written = b""
        self.room: int | None = None
        self.opened = 0
        self.fails: OSError | None = None
        self.asked = threading.Event()
        self.is_open = threading.Event()
        self.is_open.set()

    def write(self, data: bytes) -> int:
        self.asked.set()
        assert self.is_open.wait(PATIENCE)
        taken = data if self.room is None else data[: self.room]
        if self.room is not None:
            self.room -= len(taken)
        self.written += taken
        return len(taken)

    def reopen(self) -> None:
        if self.fails is not None:
            raise self.fails
        self.written += b"<reopened>"


class LogWriterTests(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.target = FakeTarget()
        self.writer = LogWriter(self.target, 100, "({} dropped)\n".format)
        self.addCleanup(self.writer.stop)
        self.addCleanup(self.target.is_open.set)

    def start_blocked(self) -> None:
        """Start with a line that the target does not take yet."""
        self.target.is_open.clear()
        self.writer.start()
        self.writer.write("first\n")
        self.assertTrue(self.target.asked.wait(PATIENCE))

    def written(self) -> str:
        self.target.is_open.set()
        self.patch(log_writer, "FLUSH_SECONDS", PATIENCE)
        self.writer.flush()
        return self.target.written.decode()

    def test_lines_are_written_in_their_order(self) -> None:
        self.writer.start()
        lines = [f"{number}\n" for number in range(20)]
        for line in lines:
            self.writer.write(line)
        self.assertEqual(self.written(), "".join(lines))

    def test_nothing_is_written_before_the_start(self) -> None:
        self.writer.write("a\n")
        self.assertEqual(self.target.written, b"")
        self.writer.start()
        self.assertEqual(self.written(), "a\n")

    def test_other_characters_are_utf_8_and_half_surrogates_escaped(self) -> None:
        self.writer.start()
        self.writer.write("\u00e9 \udc80\n")
        self.assertEqual(self.written(), "\u00e9 \\udc80\n")

    def test_lines_beyond_the_capacity_are_dropped_and_reported(self) -> None:
        self.start_blocked()
        self.writer.write("b" * 93 + "\n")  # fills the capacity, with the line that is being written
        self.writer.write("c\nd\n")
        self.assertEqual(self.writer.dropped, 2)
        self.writer.write("e\n")
        self.assertEqual(self.written(), "first\n" + "b" * 93 + "\n(3 dropped)\n")
        self.writer.write("f\n")
        self.assertEqual(self.written(), "first\n" + "b" * 93 + "\n(3 dropped)\nf\n")
        self.assertEqual(self.writer.dropped, 3)

    def test_after_dropped_lines_the_report_comes_first(self) -> None:
        self.start_blocked()
        self.writer.write("b" * 95 + "\n")
        self.writer.write("c\n")  # it would fit
        self.assertEqual(self.written(), "first\n(2 dropped)\n")

    def test_written_lines_free_capacity(self) -> None:
        self.writer.start()
        for _ in range(10):
            self.writer.write("a" * 90 + "\n")
            self.written()
        self.assertEqual(self.writer.dropped, 0)

    def test_a_text_larger_than_the_capacity_is_accepted_when_none_waits(self) -> None:
        self.writer.start()
        self.writer.write("a" * 1000 + "\n")
        self.assertEqual(self.written(), "a" * 1000 + "\n")

    def test_lines_that_cannot_be_written_are_reported_once_one_can(self) -> None:
        self.writer.start()
        self.target.room = 0
        for _ in range(3):
            self.writer.write("a\nb\n")
            self.assertEqual(self.written(), "")
        self.assertEqual(self.writer.dropped, 6)
        self.target.room = None
        self.writer.write("c\n")
        self.assertEqual(self.written(), "(6 dropped)\nc\n")
        self.writer.write("d\n")
        self.assertEqual(self.written(), "(6 dropped)\nc\nd\n")

    def test_a_torn_line_is_ended_before_the_next(self) -> None:
        for room in range(1, 6):
            self.target.written = b""
            self.writer = LogWriter(self.target, 100, "({} dropped)\n".format)
            self.addCleanup(self.writer.stop)
            self.writer.start()
            self.target.room = room
            self.writer.write("ab\ncd\n")
            self.written()
            self.target.room = None
            self.writer.write("e\n")
            there = "ab\ncd\n"[:room]
            lost = 2 - there.count("\n")
            end = "" if there.endswith("\n") else "\n"
            self.assertEqual(self.written(), f"{there}{end}({lost} dropped)\ne\n")
            self.assertEqual(self.writer.dropped, lost)

    def test_a_flush_waits_for_a_moment_only(self) -> None:
        self.start_blocked()
        self.patch(log_writer, "FLUSH_SECONDS", 0)
        self.writer.flush()
        self.assertEqual(self.target.written, b"")

    def test_a_signal_handler_may_log_while_the_code_that_it_interrupts_does(self) -> None:
        self.writer.start()
        with self.writer._lock:
            self.writer.write("a\n")
        self.assertEqual(self.written(), "a\n")

    def test_threads_that_log_at_once_lose_nothing(self) -> None:
        self.writer = LogWriter(self.target, 10**6, "({} dropped)\n".format)
        self.addCleanup(self.writer.stop)
        self.writer.start()

        def some(name: int) -> Callable[[], None]:
            return lambda: [self.writer.write(f"{name} {number}\n") for number in range(500)] and None

        threads = [threading.Thread(target=some(name)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        lines = self.written().splitlines()
        self.assertEqual(len(lines), 2000)
        for name in range(4):
            of_one = [line for line in lines if line.startswith(f"{name} ")]
            self.assertEqual(of_one, [f"{name} {number}" for number in range(500)])

    def test_it_is_reopened_after_earlier_lines(self) -> None:
        self.writer.start()
        self.writer.write("a\n")
        self.writer.reopen()
        self.assertEqual(self.written(), "a\n<reopened>")

    def test_that_it_cannot_be_reopened_is_logged(self) -> None:
        self.target.fails = OSError(errno.EACCES, "Permission denied")
        self.writer.start()
        with capturedLogs() as events:
            self.writer.reopen()
            self.writer.write("a\n")
            self.assertEqual(self.written(), "a\n")
        [event] = events
        self.assertEqual(event["log_level"].name, "error")


class TargetTests(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.reader, self.descriptor = os.pipe()
        self.target = Target(self.descriptor)

    def test_a_descriptor_that_another_process_has_made_non_blocking(self) -> None:
        reader = self.reader
        received: list[bytes] = []

        class Poll:
            """Somebody reads while it waits."""

            def register(self, descriptor: int, events: int) -> None:
                assert events == select.POLLOUT

            def poll(self) -> None:
                received.append(os.read(reader, 2**20))

        self.patch(log_writer.select, "poll", Poll)
        os.set_blocking(self.descriptor, False)
        self.assertEqual(self.target.write(bytes(1_000_000)), 1_000_000)
        self.assertEqual(sum(map(len, received)) + len(os.read(reader, 2**20)), 1_000_000)

    def test_a_pipe_without_a_reader(self) -> None:
        os.close(self.reader)
        self.assertEqual(self.target.write(b"a\n"), 0)

    def test_a_full_device(self) -> None:
        with open("/dev/full", "wb") as full:
            self.assertEqual(Target(full.fileno()).write(b"a\n"), 0)

    def test_a_descriptor_that_is_closed(self) -> None:
        os.close(self.descriptor)
        self.assertEqual(self.target.write(b"a\n"), 0)


class TargetFileTests(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.file = str(self.path / "log")
        self.addCleanup(os.umask, os.umask(0o022))
        self.target = TargetFile(self.file)

    def content(self, suffix: str = "") -> bytes:
        with open(self.file + suffix, "rb") as file:
            return file.read()

    def test_it_appends(self) -> None:
        self.target.write(b"a\n")
        TargetFile(self.file).write(b"b\n")
        self.assertEqual(self.content(), b"a\nb\n")

    def test_it_goes_on_in_the_file_that_has_its_name(self) -> None:
        self.target.write(b"a\n")
        os.rename(self.file, self.file + ".1")
        self.target.write(b"b\n")
        os.umask(0o077)
        self.target.reopen()
        self.target.write(b"c\n")
        self.assertEqual((self.content(".1"), self.content()), (b"a\nb\n", b"c\n"))
        self.assertEqual(os.stat(self.file).st_mode & 0o777, 0o644)

    def test_the_mode_of_a_file_that_is_there_already_is_kept(self) -> None:
        os.rename(self.file, self.file + ".1")
        with open(self.file, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
        self.target.reopen()
        self.assertEqual(os.stat(self.file).st_mode & 0o777, 0o600)

    def test_the_directory_of_the_process_may_change(self) -> None:
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.path)
        target = TargetFile("relative")
        os.chdir("/")
        (self.path / "relative").unlink()
        target.reopen()
        self.assertTrue((self.path / "relative").exists())

    def test_where_it_cannot_be_reopened_it_goes_on(self) -> None:
        os.rename(self.file, self.file + ".1")
        os.mkdir(self.file)
        self.assertRaises(OSError, self.target.reopen)
        self.target.write(b"a\n")
        self.assertEqual(self.content(".1"), b"a\n")

    def test_no_descriptor_is_left_open(self) -> None:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            self.target.reopen()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)
