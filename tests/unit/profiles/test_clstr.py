"""The log lines of `clstr`: one for each request, in the words of the spec, with the beginning of a value."""

from __future__ import annotations

from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from tests.unit.profiles.case import ProfileCase


class LogTests(ProfileCase):
    profile = "clstr"

    def setUp(self) -> None:
        super().setUp()
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self.note)
        self.addCleanup(globalLogPublisher.removeObserver, self.note)

    def note(self, event: LogEvent) -> None:
        if event["log_namespace"] == "kvtwist.clstr":
            self.lines.append(formatEvent(event))

    def test_each_request_has_a_line(self) -> None:
        for method, target, body, line in (
            ("GET", "/kv/a", b"", "GET /kv/a returning 404"),
            ("PUT", "/kv/a", b"v", "PUT /kv/a accepted, value=v"),
            ("GET", "/kv/a", b"", "GET /kv/a returning 200"),
            ("DELETE", "/kv/a", b"", "DELETE /kv/a accepted"),
            ("DELETE", "/clear", b"", "DELETE /clear accepted"),
        ):
            self.lines.clear()
            self.status(method, target, body)
            self.assertEqual(self.lines, [line])

    def test_a_value_is_shown_in_one_line(self) -> None:
        for value, shown in (
            (b"v" * 64, "v" * 64),
            (b"v" * 65, "v" * 64 + "..."),
            (b"v" * 63 + "é".encode(), "v" * 63 + "..."),
            ("é😊".encode(), "é😊"),
            (b"a\nb", "'a\\nb'"),
            ("\u2028".encode() * 30, ascii("\u2028" * 21) + "..."),
        ):
            self.lines.clear()
            self.status("PUT", "/kv/a", value)
            self.assertEqual(self.lines, [f"PUT /kv/a accepted, value={shown}"])
