"""A store without files is the same engine: it keeps nothing on any disk, and nothing in memory that it does not need."""

from __future__ import annotations

from twisted.internet.task import Clock

from kvtwist.engine import Store
from kvtwist.engine.timeline import Timeline
from kvtwist.model import DATA, Clear, Delete, Exists, StoreUnavailable, Usage
from tests.support.engine import TestCase, put, result_of, whole_scan


class MemoryStoreTests(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.store = Store(self.clock, Timeline(self.clock.seconds, self.clock.seconds))
        self.store.open()
        self.store.start()

    def test_everything_is_answered_at_once(self) -> None:
        self.assertTrue(self.successResultOf(self.store.transact([], [put(b"k", b"v")])).committed)
        record = self.successResultOf(self.store.get(DATA, b"k"))
        assert record is not None
        self.assertEqual(record.value, b"v")
        self.assertEqual([key for key, _ in whole_scan(self.store)], [b"k"])
        self.assertFalse(self.successResultOf(self.store.transact([Exists(DATA, b"no")], [Clear(DATA)])).committed)
        self.assertEqual(self.store.usage(DATA), Usage(1, 2))

    def test_what_has_expired_is_swept(self) -> None:
        for number in range(2500):
            result_of(self.store.transact([], [put(b"%d" % number, b"v", ttl_ms=1000)]))
        self.clock.pump([0.5] * 6)
        self.assertEqual(self.store.usage(DATA), Usage(0, 0))
        self.assertEqual(len(self.store._keyspaces[DATA].tables.active), 0)

    def test_what_was_deleted_leaves_nothing(self) -> None:
        for number in range(100):
            result_of(self.store.transact([], [put(b"%d" % number, b"v")]))
            result_of(self.store.transact([], [Delete(DATA, b"%d" % number)]))
        self.clock.pump([1.0] * 3)
        self.assertEqual(len(self.store._keyspaces[DATA].tables.active), 0, "tombstones pile up for ever")

    def test_a_checkpoint_has_nothing_to_do(self) -> None:
        self.successResultOf(self.store.housekeeping.checkpoint())
        self.assertEqual(self.store.figures().checkpoints, 0)

    def test_it_ends_at_once_and_takes_no_more(self) -> None:
        from twisted.internet.defer import Deferred

        self.successResultOf(Deferred.fromCoroutine(self.store.close()))
        self.failureResultOf(self.store.transact([], [put(b"k", b"v")]), StoreUnavailable)
        self.assertEqual(self.clock.getDelayedCalls(), [])
