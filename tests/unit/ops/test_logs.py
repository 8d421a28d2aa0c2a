"""Log lines: one for each event, with time, level and namespace; further lines of an event are indented."""

from __future__ import annotations

import io
import os
import re
import shutil
import sys

from twisted.logger import FileLogObserver, Logger, LogLevel, LogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from kvtwist.model import OperatorError
from kvtwist.ops.log_writer import Target, TargetFile
from kvtwist.ops.logs import ACCESS, LEVELS, Log, _report, formatted, level_of, log_of
from tests.support.engine import TestCase, new_directory


class FormatTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.output = io.StringIO()
        self.publisher = LogPublisher(FileLogObserver(self.output, formatted))

    def logger(self, namespace: str = "kvtwist.test") -> Logger:
        return Logger(namespace=namespace, observer=self.publisher)

    def lines(self) -> list[str]:
        return self.output.getvalue().splitlines()

    def test_a_line_tells_time_level_and_place(self) -> None:
        self.logger().info("listening on {port}", port=4000)
        [line] = self.lines()
        self.assertRegex(
            line, r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*[+-]\d{4} info kvtwist\.test: listening on 4000\Z"
        )

    def test_levels_are_named(self) -> None:
        for level in LogLevel.iterconstants():
            self.logger().emit(level, "text")
        self.assertEqual([line.split()[1] for line in self.lines()], ["debug", "info", "warn", "error", "critical"])

    def test_a_traceback_follows_its_error(self) -> None:
        try:
            raise ValueError("reason")
        except ValueError:
            self.logger().failure("a request failed")
        first, *rest = self.lines()
        self.assertTrue(first.endswith("critical kvtwist.test: a request failed"), first)
        self.assertTrue(any("ValueError: reason" in line for line in rest))
        self.assertTrue(all(line.startswith("    ") for line in rest))

    def test_text_of_several_lines_cannot_pass_for_several_events(self) -> None:
        for text in ("a\nb", "a\r\nb", "a\x0bb", "a\u2028b", "a\n\nb", "\na"):
            self.logger().info("{text}", text=text)
        events = [line for line in self.output.getvalue().split("\n") if line and not line.startswith("    ")]
        self.assertEqual(len(events), 6)
        self.assertTrue(all(re.match(r"\d{4}-", line) for line in events), events)

    def test_an_event_without_text_has_no_line(self) -> None:
        for event in ({}, {"log_format": ""}, {"log_format": "\n"}, {"log_format": " \n"}):
            self.publisher({"log_namespace": "x", "log_level": LogLevel.info, "log_time": 0.0, **event})
        self.assertEqual([line for line in self.lines() if line.strip() and not line.rstrip().endswith(":")], [])
        for empty in ("", "\n", "\n\n"):
            self.assertIs(formatted({"log_format": empty}), None)

    def test_the_access_log_has_no_prefix(self) -> None:
        self.logger(ACCESS).info("{line}", line='1.2.3.4 - - [x] "GET / HTTP/1.1" 200 0')
        self.assertEqual(self.lines(), ['1.2.3.4 - - [x] "GET / HTTP/1.1" 200 0'])

    def test_events_of_the_old_kind_are_lines_too(self) -> None:
        self.publisher(
            {"log_namespace": "log_legacy", "log_level": LogLevel.info, "log_time": 0.0, "log_format": "{x}", "x": 1}
        )
        self.publisher({"log_time": 0.0, "log_failure": Failure(ValueError("old")), "log_format": "why"})
        self.assertEqual(len([line for line in self.lines() if not line.startswith("    ")]), 2)


class LevelTests(SynchronousTestCase):
    def test_events_of_twisted_are_debug(self) -> None:
        for namespace, level, expected in (
            ("twisted.internet.base", LogLevel.info, LogLevel.debug),
            ("twisted.internet.base", LogLevel.warn, LogLevel.warn),
            ("log_legacy", LogLevel.info, LogLevel.debug),
            ("log_legacy", LogLevel.critical, LogLevel.critical),
            ("stdout", LogLevel.info, LogLevel.info),
            ("kvtwist", LogLevel.info, LogLevel.info),
        ):
            self.assertIs(level_of({"log_namespace": namespace, "log_level": level}), expected)
        self.assertIs(level_of({}), LogLevel.info)


class LogTests(TestCase):
    def lines(self, least: str = "info", is_output: bool = False, **more: object) -> list[str]:
        """What is written of an event of each level, and of the access log."""
        path = new_directory() / "log"
        self.addCleanup(shutil.rmtree, path.parent)
        log = Log(TargetFile(str(path)), least, 10_000, is_output)
        publisher = LogPublisher(log)
        log.privilegedStartService()
        logger = Logger(namespace="kvtwist.test", observer=publisher)
        for level in LogLevel.iterconstants():
            logger.emit(level, level.name, **more)
        Logger(namespace=ACCESS, observer=publisher).info("access")
        log._writer.stop()
        self.assertEqual(log.dropped(), 0)
        with open(path) as file:
            return [line.split()[-1] for line in file]

    def test_levels_that_are_too_low_are_left_out_but_not_the_access_log(self) -> None:
        everything = ["debug", "info", "warn", "error", "critical", "access"]
        for number, level in enumerate(LEVELS):
            self.assertEqual(self.lines(level), everything[number:])

    def test_a_printed_event_is_not_logged_to_standard_output(self) -> None:
        self.assertEqual(self.lines("error", True, printed=True), ["access"])
        self.assertEqual(self.lines("error", False, printed=True), ["error", "critical", "access"])

    def test_the_report_of_dropped_lines(self) -> None:
        log = Log(Target(-1), "info", 10_000)
        log.privilegedStartService()
        Logger(namespace="kvtwist.test", observer=log).info("lost")
        log._writer.stop()
        self.assertEqual(log.dropped(), 1)
        self.assertRegex(_report(1234), r"\A\d{4}-.* warn kvtwist\.log: 1234 lines of the log were dropped: .*\n\Z")


class ChoiceTests(TestCase):
    """twistd's options choose the target of the log."""

    def setUp(self) -> None:
        super().setUp()
        self.options = {"logger": None, "syslog": False, "logfile": None, "nodaemon": True}
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.path)

    def log_of(self, **options: object) -> Log | None:
        return log_of({**self.options, **options}, "info", 10_000)

    def write(self, log: Log | None) -> None:
        assert log is not None
        log.privilegedStartService()
        Logger(namespace="kvtwist.test", observer=log).info("hello")
        log._writer.stop()

    def test_standard_output(self) -> None:
        for name in (None, "", "-"):
            with open("output", "w+") as output:
                self.patch(sys, "stdout", output)
                self.write(self.log_of(logfile=name))
            with open("output") as output:
                self.assertTrue(output.read().endswith(" info kvtwist.test: hello\n"))

    def test_no_standard_output(self) -> None:
        self.patch(sys, "stdout", None)
        self.write(self.log_of())
        self.assertEqual(os.listdir(), [])

    def test_a_file(self) -> None:
        for options, name in (
            ({"logfile": "a.log"}, "a.log"),
            ({"logfile": "b.log", "nodaemon": False}, "b.log"),
            ({"nodaemon": False}, "twistd.log"),
        ):
            self.write(self.log_of(**options))
            with open(name) as file:
                self.assertTrue(file.read().endswith(" info kvtwist.test: hello\n"))

    def test_twistd_does_it(self) -> None:
        self.assertIsNone(self.log_of(logger=print))
        self.assertIsNone(self.log_of(syslog=True))

    def test_a_log_that_cannot_be_opened_is_one_line(self) -> None:
        for options, part in (
            ({"logfile": "-", "nodaemon": False}, "standard output"),
            ({"logfile": "none/such"}, "none/such: No such file or directory"),
            ({"logfile": "."}, ".: Is a directory"),
        ):
            with self.assertRaises(OperatorError) as caught:
                self.log_of(**options)
            self.assertIn(part, str(caught.exception))
