"""The store as a part of an application: what it tells the log, and what keeps it from starting."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, capturedLogs, formatEvent

from kvtwist.engine import Store, StoreService
from kvtwist.engine.storage import Storage
from kvtwist.engine.timeline import Timeline
from kvtwist.model import DATA, StoreDamaged, StoreInUse
from tests.support.engine import Engine, InlineWorker, TestCase, put, result_of


class StoreServiceTests(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.engine = Engine(self.path / "store")
        self.engine.open()
        for number in range(3):
            self.engine.put(b"%d" % number, b"v")
        self.engine.die()

    def service(self) -> StoreService:
        engine = self.engine
        timeline = Timeline(lambda: engine.clock.seconds() + engine.wall, engine.clock.seconds)
        engine.journal, engine.pages = InlineWorker(), InlineWorker()
        storage = Storage(str(engine.path), engine.disk, engine.journal, engine.pages)
        return StoreService(Store(engine.clock, timeline, storage), storage.path)

    def told(self, events: Sequence[LogEvent]) -> list[tuple[str, str]]:
        return [(event["log_level"].name, formatEvent(event)) for event in events]

    def test_it_tells_what_recovery_found(self) -> None:
        service = self.service()
        with capturedLogs() as events:
            service.privilegedStartService()
        [(level, text)] = self.told(events)
        self.assertEqual(level, LogLevel.info.name)
        self.assertIn(str(self.engine.path), text)
        self.assertIn(": 3 transactions replayed from 1 journal segment (", text)
        service.startService()
        self.successResultOf(service.stopService())

    def test_it_warns_of_a_torn_tail(self) -> None:
        journal = self.engine.path / self.engine.files("journal")[0]
        content = journal.read_bytes().rstrip(b"\0")
        journal.write_bytes(content[:-3])
        service = self.service()
        with capturedLogs() as events:
            service.privilegedStartService()
        [_, (level, text)] = self.told(events)
        self.assertEqual(level, LogLevel.warn.name)
        self.assertRegex(text, r"unfinished frame .*\(\d+ bytes\)")
        service.startService()
        self.successResultOf(service.stopService())

    def test_what_keeps_it_from_starting_is_raised(self) -> None:
        self.engine.open()
        self.assertRaises(StoreInUse, self.service().privilegedStartService)
        self.engine.die()
        journal = self.engine.path / self.engine.files("journal")[0]
        journal.write_bytes(b"?" + journal.read_bytes()[1:])
        damaged = self.assertRaises(StoreDamaged, self.service().privilegedStartService)
        self.assertTrue(str(damaged).startswith(str(journal)))
        self.assertTrue(str(damaged).endswith(f"; run: kvtwist check {self.engine.path}"))

    def test_nothing_runs_before_it_is_started_and_after_it_has_stopped(self) -> None:
        service = self.service()
        service.privilegedStartService()
        self.assertEqual(self.engine.clock.getDelayedCalls(), [])
        service.startService()
        self.assertNotEqual(self.engine.clock.getDelayedCalls(), [])
        result_of(service.store.transact([], [put(b"more", b"v")]))
        self.successResultOf(service.stopService())
        self.assertEqual(self.engine.clock.getDelayedCalls(), [])
        self.engine.reopen()
        self.assertEqual(self.engine.recovery.transactions, 0)
        self.assertEqual(len(self.engine.items(DATA)), 4)
        self.engine.die()

    def test_a_store_in_memory_is_a_service_too(self) -> None:
        clock = Clock()
        service = StoreService(Store(clock, Timeline(clock.seconds, clock.seconds)), "memory")
        with capturedLogs() as events:
            service.privilegedStartService()
        self.assertIn("memory", self.told(events)[0][1])
        service.startService()
        self.successResultOf(service.stopService())
        self.assertEqual(clock.getDelayedCalls(), [])
