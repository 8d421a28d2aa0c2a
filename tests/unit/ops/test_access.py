"""The access log: one line for each exchange, in two formats; no client can forge a line."""

from __future__ import annotations

import json as stdlib_json

from attrs import frozen
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from kvtwist.model import LEFT, Exchange
from kvtwist.ops.access import FLUSH_LINES, FLUSH_SECONDS, FORMATS, AccessLog, common, json
from kvtwist.ops.logs import ACCESS, formatted

NOW = 1_605_097_943.904
STRANGE = (
    '/a"b',
    "/a\\",
    '/a\\"',
    "/a\nb",
    "/a\r\n1.2.3.4 - -",
    "/\x00\x1b[31m",
    "/caf\xc3\xa9",
    "/{line}",
    "/%s%d",
    "/\x85\xa0",
)


def exchange(target: str = "/kv/a?x=1", status: int = 200, ended: float = NOW) -> Exchange:
    called = "192.0.2.7", b"GET", target.encode("latin-1"), b"HTTP/1.1"
    return Exchange("lsfr", "/kv/<key>", *called, status, 0.0125, 31, ended)


@frozen
class Request:
    """One that is over."""

    told: Exchange

    def exchange(self, route: object, seconds: float) -> Exchange:
        return self.told


class AccessLogTests(SynchronousTestCase):
    def test_common_log_format(self) -> None:
        expected = '192.0.2.7 - - [11/Nov/2020:12:32:23 +0000] "GET /kv/a?x=1 HTTP/1.1" 200 31'
        self.assertEqual(common([exchange()]), expected)

    def test_a_client_that_left_is_499(self) -> None:
        self.assertTrue(common([exchange(status=LEFT)]).endswith('" 499 31'))

    def test_json(self) -> None:
        self.assertEqual(
            stdlib_json.loads(json([exchange()])),
            {
                "time": 1605097943.904,
                "profile": "lsfr",
                "route": "/kv/<key>",
                "client": "192.0.2.7",
                "method": "GET",
                "target": "/kv/a?x=1",
                "version": "HTTP/1.1",
                "status": 200,
                "seconds": 0.0125,
                "size": 31,
            },
        )

    def test_no_target_breaks_out_of_its_line(self) -> None:
        for target in STRANGE:
            for lines in FORMATS.values():
                text = lines([exchange(target)])
                self.assertFalse(any(letter < " " for letter in text), repr(text))
            self.assertTrue(common([exchange(target)]).isprintable())

    def test_no_target_breaks_out_of_its_quotes(self) -> None:
        for target in STRANGE:
            _, _, rest = common([exchange(target)]).partition('] "')
            end = next(at for at, letter in enumerate(rest) if letter == '"' and _backslashes(rest[:at]) % 2 == 0)
            self.assertEqual(rest[end:], '" 200 31')

    def test_lines_do_not_depend_on_each_other(self) -> None:
        later = NOW + 1.5
        told = [exchange("/a"), exchange("/b", status=LEFT, ended=later), exchange("/c", ended=later)]
        for lines in FORMATS.values():
            self.assertEqual(lines(told), "\n".join(lines([one]) for one in told))
            for target in STRANGE:
                mixed = [*told, exchange(target, ended=later), *told]
                self.assertEqual(len(lines(mixed).splitlines()), len(mixed))
                self.assertLessEqual({lines([one]) for one in told}, set(lines(mixed).split("\n")), target)

    def test_json_keeps_every_target(self) -> None:
        for target in STRANGE:
            self.assertEqual(stdlib_json.loads(json([exchange(target)]))["target"], target)

    def test_lines_are_gathered_for_a_moment(self) -> None:
        clock = Clock()
        clock.advance(NOW)
        access = AccessLog(common, clock)
        with capturedLogs() as events:
            access(Request(exchange()), None, 0.0125)
            access(Request(exchange("/{client}")), None, 0.0125)
            self.assertEqual(events, [])
            clock.advance(FLUSH_SECONDS)
            access(Request(exchange("/%s", ended=NOW + FLUSH_SECONDS)), None, 0.0125)
            clock.advance(FLUSH_SECONDS)
        self.assertEqual([event["log_namespace"] for event in events], [ACCESS] * 2)
        first = common([exchange()]) + "\n" + common([exchange("/{client}")])
        self.assertEqual(formatEvent(events[0]), first)
        self.assertEqual(formatted(events[0]), first + "\n")
        self.assertEqual(formatted(events[1]), common([exchange("/%s", ended=NOW + FLUSH_SECONDS)]) + "\n")
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_many_lines_wait_no_moment(self) -> None:
        clock = Clock()
        access = AccessLog(json, clock)
        with capturedLogs() as events:
            for _ in range(FLUSH_LINES + 1):
                access(Request(exchange()), None, 0.0125)
        [event] = events
        self.assertEqual(formatEvent(event).count("\n"), FLUSH_LINES - 1)

    def test_the_last_lines_are_written_at_the_end(self) -> None:
        clock = Clock()
        access = AccessLog(common, clock)
        access.startService()
        with capturedLogs() as events:
            access(Request(exchange()), None, 0.0125)
            access.stopService()
            access.stopService()
        self.assertEqual(len(events), 1)
        self.assertEqual(clock.getDelayedCalls(), [])


def _backslashes(text: str) -> int:
    return len(text) - len(text.rstrip("\\"))
