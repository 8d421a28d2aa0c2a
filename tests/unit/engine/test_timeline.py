"""The store's time never runs backwards, whatever happens to the clock, and keeps its pace while the clock is behind."""

from __future__ import annotations

from kvtwist.engine.timeline import Timeline
from tests.support.engine import TestCase


class TimelineTests(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.wall = 1_800_000_000.0
        self.monotonic = 5.0
        self.timeline = Timeline(lambda: self.wall, lambda: self.monotonic)

    def pass_seconds(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds

    def test_it_shows_the_wall_clock_in_milliseconds(self) -> None:
        self.pass_seconds(0.25)
        self.assertEqual(self.timeline.now_ms(), 1_800_000_000_250)

    def test_it_follows_a_clock_that_is_set_forward(self) -> None:
        self.wall += 3600
        self.assertEqual(self.timeline.now_ms(), 1_800_003_600_000)

    def test_it_goes_on_at_its_pace_when_the_clock_is_set_back(self) -> None:
        before = self.timeline.now_ms()
        self.wall -= 3600
        self.assertEqual(self.timeline.now_ms(), before)
        self.pass_seconds(60)
        self.assertEqual(self.timeline.now_ms(), before + 60_000)

    def test_it_follows_the_clock_again_once_that_has_caught_up(self) -> None:
        self.wall -= 10
        self.pass_seconds(5)
        self.timeline.now_ms()
        self.wall += 20
        self.assertEqual(self.timeline.now_ms(), int(self.wall * 1000))

    def test_it_never_runs_backwards(self) -> None:
        jumps = [0.0, -1.0, 0.5, -3600.0, 0.0005, 7200.0, -0.1, 0.0001]
        shown = []
        for jump in jumps * 20:
            self.wall += jump
            self.monotonic += 0.0001
            shown.append(self.timeline.now_ms())
        self.assertEqual(shown, sorted(shown))

    def test_it_goes_on_from_what_was_written_down(self) -> None:
        for ms in range(1_900_000_000_000, 1_900_000_000_300):
            self.timeline.not_before(ms)
            self.assertEqual(self.timeline.now_ms(), ms)
        self.pass_seconds(1)
        self.assertEqual(self.timeline.now_ms(), 1_900_000_001_299)

    def test_what_was_written_down_earlier_changes_nothing(self) -> None:
        self.timeline.not_before(1_700_000_000_000)
        self.assertEqual(self.timeline.now_ms(), 1_800_000_000_000)
