"""The store's time never runs backwards, whatever happens to the clock, and does not believe one that jumps far."""

from __future__ import annotations

from twisted.logger import capturedLogs

from kvtwist.engine.timeline import Timeline, WallTime, since_boot
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

    def test_it_follows_a_clock_that_is_a_little_ahead(self) -> None:
        for seconds in (0.5, 0.002, 1.0):
            self.wall += seconds
            self.assertEqual(self.timeline.now_ms(), int(self.wall * 1000))

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

    # --- a clock that is not believed ---------------------------------------------------------------------------------

    def levels(self, *jumps: float) -> list[str]:
        """How grave what is logged is while the wall clock jumps, and the time is asked for again and again."""
        with capturedLogs() as events:
            for jump in jumps:
                self.wall += jump
                for _ in range(3):
                    self.timeline.now_ms()
        return [event["log_level"].name for event in events]

    def test_it_follows_a_jump_of_a_day_and_no_more(self) -> None:
        for jump, followed in ((86_400.0, True), (86_400.5, False), (10 * 365 * 86_400.0, False)):
            self.setUp()
            before = self.timeline.now_ms()
            self.wall += jump
            self.assertEqual(self.timeline.now_ms(), before + int(jump * 1000) * followed)

    def test_how_far_it_follows_can_be_said(self) -> None:
        timeline = Timeline(lambda: self.wall, lambda: self.monotonic, 10)
        before = timeline.now_ms()
        self.wall += 10
        self.assertEqual(timeline.now_ms(), before + 10_000)
        self.wall += 11
        self.assertEqual(timeline.now_ms(), before + 10_000)

    def test_it_goes_on_at_its_pace_when_the_clock_is_years_ahead(self) -> None:
        before = self.timeline.now_ms()
        self.wall += 10**9
        for seconds in (1, 60, 100_000):
            self.pass_seconds(seconds)
        self.assertEqual(self.timeline.now_ms(), before + 100_061_000)
        self.wall -= 10**9
        self.assertEqual(self.timeline.now_ms(), before + 100_061_000)
        self.wall += 7
        self.assertEqual(self.timeline.now_ms(), before + 100_068_000)

    def test_what_it_makes_of_the_clock_is_told_once(self) -> None:
        self.assertEqual(self.levels(0, 3600, -1, 0.5), [])
        self.assertEqual(self.levels(10**9), ["error"])
        self.assertEqual(self.levels(3600, -5, -(10**9)), ["info"])
        self.assertEqual(self.levels(-7200), ["warn"])
        self.assertEqual(self.levels(-1, 7200), ["info"])
        self.assertEqual(self.levels(-7200, 10**9, -(10**9)), ["warn", "error", "warn"])

    def test_a_clock_that_is_a_little_behind_is_not_logged(self) -> None:
        self.assertEqual(self.levels(0, -60), [])
        self.assertEqual(self.levels(-0.5), ["warn"])

    def test_a_start_believes_a_clock_that_is_ahead(self) -> None:
        self.timeline.not_before(1_500_000_000_000)
        self.assertEqual(self.levels(0), [])
        self.assertEqual(self.timeline.now_ms(), 1_800_000_000_000)

    def test_a_start_with_a_clock_that_is_a_minute_behind_is_not_logged(self) -> None:
        for ahead_ms, levels in ((59_999, []), (60_001, ["warn"])):
            self.setUp()
            self.timeline.not_before(1_800_000_000_000 + ahead_ms)
            self.assertEqual(self.levels(0), levels)
        self.setUp()
        self.timeline._last = self.wall + 60
        self.assertEqual(self.levels(0), [])

    def test_a_start_with_a_clock_that_is_behind_is_logged(self) -> None:
        self.timeline.not_before(1_900_000_000_000)
        self.assertEqual(self.levels(0), ["warn"])
        self.assertEqual(self.timeline.now_ms(), 1_900_000_000_000)

    def test_a_clock_that_is_set_after_the_start_is_believed_once(self) -> None:
        self.timeline.not_before(1_900_000_000_000)  # a machine without a battery begins somewhere in the past
        self.assertEqual(self.levels(0, 300_000_000), ["warn", "info"])
        self.assertEqual(self.timeline.now_ms(), 2_100_000_000_000)
        self.assertEqual(self.levels(300_000_000), ["error"])
        self.assertEqual(self.timeline.now_ms(), 2_100_000_000_000)

    def test_a_start_a_moment_after_what_was_written_down_believes_no_jump(self) -> None:
        self.timeline.not_before(1_800_000_030_000)
        self.assertEqual(self.levels(0, 10**9), ["error"])
        self.assertEqual(self.timeline.now_ms(), 1_800_000_030_000)

    def test_the_clock_that_it_goes_by_never_jumps(self) -> None:
        shown = [since_boot() for _ in range(1000)]
        self.assertEqual(shown, sorted(shown))

    def test_wall_time_does_not_care_what_was_written_down(self) -> None:
        timeline = WallTime(lambda: self.wall, lambda: self.monotonic)
        for ms in (1_900_000_000_000, 1_950_000_000_000, 1_800_000_000_000):
            timeline.not_before(ms)
        self.assertEqual(timeline.now_ms(), 1_800_000_000_000)
        self.assertEqual(timeline.written_ms, 1_950_000_000_000)
