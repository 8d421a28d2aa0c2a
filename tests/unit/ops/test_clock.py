"""A reactor's timers go by a clock that never jumps, those that were set before included."""

from __future__ import annotations

from typing import Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.pollreactor import PollReactor
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kvtwist.model import OperatorError
from kvtwist.ops.clock import run_timers_on_monotonic_time


class ClockTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.wall = 1_800_000_000.0
        self.monotonic = 5.0

    def reactors(self) -> list[Any]:
        """One of each kind, that does not run; its clock is the wall's."""
        reactors: list[Any] = [EPollReactor(), PollReactor(), SelectReactor(), AsyncioSelectorReactor()]
        for reactor in reactors:
            reactor.seconds = lambda: self.wall
            self.addCleanup(self.close, reactor)
        return reactors

    def close(self, reactor: Any) -> None:
        for call in reactor.getDelayedCalls():
            call.cancel()
        reactor.fireSystemEvent("shutdown")  # closes its own descriptors
        reactor.removeAll()

    def test_timers_fire_in_time_whatever_happens_to_the_clock(self) -> None:
        for reactor in self.reactors():
            fired: list[str] = []
            reactor.callLater(10, fired.append, "set before")
            reactor.callLater(1, fired.append, "cancelled before").cancel()
            run_timers_on_monotonic_time(reactor, lambda: self.monotonic)
            reactor.callLater(5, fired.append, "set after")
            for jump in (-3600.0, 10.0**9, -2.0 * 10**9):
                self.wall += jump
                reactor.runUntilCurrent()
                self.assertEqual(fired, [], reactor)
                self.assertTrue(0 < reactor.timeout() <= 5, reactor)  # it may wake up for one that was cancelled
            self.monotonic += 5
            reactor.runUntilCurrent()
            self.assertEqual(fired, ["set after"], reactor)
            self.assertEqual(reactor.timeout(), 5, reactor)
            later = reactor.callLater(1, fired.append, "put off")
            later.reset(100)
            self.monotonic += 5
            reactor.runUntilCurrent()
            self.assertEqual(fired, ["set after", "set before"], reactor)
            self.monotonic += 95
            reactor.runUntilCurrent()
            self.assertEqual(fired, ["set after", "set before", "put off"], reactor)

    def test_doing_it_again_changes_nothing(self) -> None:
        reactor = Clock()
        for _ in range(3):
            run_timers_on_monotonic_time(reactor, lambda: self.monotonic)
            self.monotonic += 1
        self.assertEqual(reactor.seconds(), 3)
        self.assertEqual(reactor.getDelayedCalls(), [])

    def test_a_reactor_with_a_clock_of_its_own_is_refused(self) -> None:
        class Own(Clock):
            def callLater(self, delay: float, *arguments: Any, **more: Any) -> Any:
                call = super().callLater(delay, *arguments, **more)
                call.time = self.rightNow + delay
                return call

        reactor = Own()
        reactor.advance(7)
        with self.assertRaises(OperatorError) as caught:
            run_timers_on_monotonic_time(reactor)
        self.assertIn("Own cannot use a monotonic clock", str(caught.exception))
