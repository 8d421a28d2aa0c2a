"""`history`: events are kept for two minutes, to the millisecond, and values for ever."""

from __future__ import annotations

import json

from tests.unit.profiles.case import ProfileCase

MILLISECOND = 1 / 1000


class TwoMinutesTests(ProfileCase):
    profile = "history"

    def setUp(self) -> None:
        super().setUp()
        self.engine.clock.advance(1 / 2048)  # later times are between two milliseconds

    def history(self) -> list[str | None]:
        """The values of a key's events, newest first."""
        body = self.ask("GET", "/foo/history").body
        assert isinstance(body, bytes)
        return [event["value"] for event in json.loads(body)]

    def test_a_write_is_listed_for_two_minutes(self) -> None:
        self.ask("PUT", "/foo", b"1")
        self.engine.clock.advance(120 - MILLISECOND)
        self.assertEqual(self.history(), ["1"])
        self.engine.clock.advance(MILLISECOND)
        self.assertEqual(self.history(), [])
        self.assertEqual(self.ask("GET", "/foo").body, b"1")

    def test_so_is_a_deletion(self) -> None:
        self.ask("PUT", "/foo", b"1")
        self.engine.clock.advance(60)
        self.ask("DELETE", "/foo")
        self.assertEqual(self.history(), [None, "1"])
        self.engine.clock.advance(60)
        self.assertEqual(self.history(), [None])
        self.engine.clock.advance(60 - MILLISECOND)
        self.assertEqual(self.history(), [None])
        self.engine.clock.advance(MILLISECOND)
        self.assertEqual(self.history(), [])
