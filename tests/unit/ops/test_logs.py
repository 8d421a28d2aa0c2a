"""Log lines: one an event, with its time, level and place; what goes on behind the first line is indented."""

from __future__ import annotations

import io
import re

from twisted.logger import FileLogObserver, Logger, LogLevel, LogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from kvtwist.ops.logs import ACCESS, formatted, stdout


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

    def test_levels_are_told(self) -> None:
        for level in LogLevel.iterconstants():
            self.logger().emit(level, "text")
        self.assertEqual([line.split()[1] for line in self.lines()], ["debug", "info", "warn", "error", "critical"])

    def test_an_error_carries_its_traceback_behind_it(self) -> None:
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

    def test_what_says_nothing_is_no_line(self) -> None:
        for event in ({}, {"log_format": ""}, {"log_format": "\n"}, {"log_format": " \n"}):
            self.publisher({"log_namespace": "x", "log_level": LogLevel.info, "log_time": 0.0, **event})
        self.assertEqual([line for line in self.lines() if line.strip() and not line.rstrip().endswith(":")], [])

    def test_the_access_log_has_no_prefix(self) -> None:
        self.logger(ACCESS).info("{line}", line='1.2.3.4 - - [x] "GET / HTTP/1.1" 200 0')
        self.assertEqual(self.lines(), ['1.2.3.4 - - [x] "GET / HTTP/1.1" 200 0'])

    def test_events_of_the_old_kind_are_lines_too(self) -> None:
        self.publisher(
            {"log_namespace": "log_legacy", "log_level": LogLevel.info, "log_time": 0.0, "log_format": "{x}", "x": 1}
        )
        self.publisher({"log_time": 0.0, "log_failure": Failure(ValueError("old")), "log_format": "why"})
        self.assertEqual(len([line for line in self.lines() if not line.startswith("    ")]), 2)

    def test_the_observer_writes_to_standard_output(self) -> None:
        self.patch(__import__("sys"), "stdout", self.output)
        Logger(namespace="kvtwist.test", observer=stdout()).info("hello")
        self.assertTrue(self.lines()[0].endswith("info kvtwist.test: hello"))
