"""Services start in order and stop in reverse order; one line says why one cannot start."""

from __future__ import annotations

import io
import resource
import sys

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from kvtwist.model import OperatorError
from kvtwist.ops.lifecycle import OrderedServices, StartFailed
from kvtwist.ops.system import WANTED_FILES, raise_file_limit


class Part(Service):
    """Records its calls."""

    def __init__(self, name: str, told: list[str], fails: Exception | None = None) -> None:
        self.setName(name)
        self._told = told
        self._fails = fails
        self.stopping: Deferred[None] = Deferred()

    def privilegedStartService(self) -> None:
        self._told.append(f"open {self.name}")
        if self._fails is not None:
            raise self._fails

    def startService(self) -> None:
        self._told.append(f"start {self.name}")

    def stopService(self) -> Deferred[None]:
        self._told.append(f"stop {self.name}")
        return self.stopping


class OrderedServicesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.told: list[str] = []
        self.parts = [Part(name, self.told) for name in ("store", "http", "admin")]
        self.services = OrderedServices()
        for part in self.parts:
            part.setServiceParent(self.services)

    def test_they_start_in_order(self) -> None:
        self.services.privilegedStartService()
        self.services.startService()
        names = ("store", "http", "admin")
        self.assertEqual(self.told, [*(f"open {name}" for name in names), *(f"start {name}" for name in names)])

    def test_each_stops_once_the_one_before_it_has_stopped(self) -> None:
        stopped = self.services.stopService()
        for part, expected in zip(reversed(self.parts), ("admin", "http", "store"), strict=True):
            self.assertEqual(self.told[-1], f"stop {expected}")
            self.assertNoResult(stopped)
            part.stopping.callback(None)
        self.successResultOf(stopped)

    def test_one_that_cannot_be_stopped_does_not_keep_the_others(self) -> None:
        stopped = self.services.stopService()
        self.parts[2].stopping.errback(ValueError("stuck"))
        self.parts[1].stopping.callback(None)
        self.parts[0].stopping.callback(None)
        self.successResultOf(stopped)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_a_failed_start_prints_one_line_and_ends_the_process(self) -> None:
        errors = io.StringIO()
        self.patch(sys, "__stderr__", errors)
        services = OrderedServices()
        Part("store", self.told, OperatorError("the disk is gone")).setServiceParent(services)
        Part("http", self.told).setServiceParent(services)
        with self.assertRaises(StartFailed) as caught:
            services.privilegedStartService()
        self.assertEqual(errors.getvalue(), "kvtwist: the disk is gone\n")
        self.assertEqual(caught.exception.code, 1)
        self.assertIsInstance(caught.exception, SystemExit)
        self.assertIsInstance(caught.exception, Exception)
        self.assertEqual(self.told[-1], "open store")

    def test_any_other_error_is_not_hidden(self) -> None:
        services = OrderedServices()
        Part("store", self.told, ValueError("a bug")).setServiceParent(services)
        self.assertRaises(ValueError, services.privilegedStartService)


class FileLimitTests(SynchronousTestCase):
    def limits(self, soft: int, hard: int, may_raise: bool) -> tuple[int, int]:
        """The limits after the call, from a system that starts out with these."""
        now = (soft, hard)

        def setrlimit(which: int, wanted: tuple[int, int]) -> None:
            nonlocal now
            if wanted[1] > now[1] and not may_raise:
                raise ValueError("not allowed to raise maximum limit")
            now = wanted

        self.patch(resource, "getrlimit", lambda which: now)
        self.patch(resource, "setrlimit", setrlimit)
        raise_file_limit()
        return now

    def test_it_goes_as_far_as_the_system_lets_it(self) -> None:
        self.assertEqual(self.limits(1024, 4096, may_raise=True), (WANTED_FILES, WANTED_FILES))
        self.assertEqual(self.limits(1024, 4096, may_raise=False), (4096, 4096))

    def test_it_never_lowers_a_limit(self) -> None:
        for limit in (WANTED_FILES, 10 * WANTED_FILES):
            self.assertEqual(self.limits(1024, limit, may_raise=False), (limit, limit))
