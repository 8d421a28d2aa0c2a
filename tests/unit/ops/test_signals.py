"""SIGHUP and SIGUSR1 reload everything, even if a part of it fails."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from kvtwist.ops.signals import RELOADING, Signals


class Reactor:
    """Records the calls."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []

    def callFromThread(self, function: Callable[..., object], *arguments: Any) -> None:
        self.calls.append(lambda: function(*arguments))

    def run(self) -> None:
        while self.calls:
            self.calls.pop(0)()


class SignalsTests(SynchronousTestCase):
    def setUp(self) -> None:
        for number in (*RELOADING, signal.SIGINT):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        self.reactor = Reactor()
        self.signals = Signals(self.reactor)  # type: ignore[arg-type]
        self.reloaded: list[str] = []

    def start(self) -> list[str]:
        with capturedLogs() as events:
            self.signals.privilegedStartService()
        return [str(formatEvent(event)) for event in events]

    def test_a_signal_reloads_everything_between_two_events(self) -> None:
        self.signals.add("a", lambda: self.reloaded.append("a"))
        self.signals.add("b", lambda: self.reloaded.append("b"))
        self.assertEqual(self.start(), [])
        for number in (signal.SIGHUP, signal.SIGUSR1):
            self.reloaded.clear()
            os.kill(os.getpid(), number)
            self.assertEqual(self.reloaded, [])
            with capturedLogs() as events:
                self.reactor.run()
            self.assertEqual(self.reloaded, ["a", "b"])
            self.assertEqual([formatEvent(event) for event in events], [f"{number.name}: reloading a, b"])

    def test_a_failed_reload_does_not_stop_the_others(self) -> None:
        self.signals.add("a", lambda: 1 // 0)
        self.signals.add("b", lambda: self.reloaded.append("b"))
        self.start()
        os.kill(os.getpid(), signal.SIGHUP)
        self.reactor.run()
        self.assertEqual(self.reloaded, ["b"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_without_reloads_the_log_says_so(self) -> None:
        self.start()
        os.kill(os.getpid(), signal.SIGHUP)
        with capturedLogs() as events:
            self.reactor.run()
        self.assertIn("nothing", str(formatEvent(events[0])))

    def test_an_ignored_sigint_stays_ignored_and_is_logged(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        [line] = self.start()
        self.assertIn("SIGINT is ignored", line)
        self.assertIs(signal.getsignal(signal.SIGINT), signal.SIG_IGN)
