"""No error inside the admission of a transaction keeps later transactions waiting."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred, fail

from kvtwist.engine import Limits
from kvtwist.engine.memtable import ENTRY_COST
from kvtwist.model import Operation, Outcome
from tests.support.engine import Engine, EngineCase, FaultyDisk, SteppedWorker, failure_of, put


class Surprise(Exception):
    """An error that nothing in the engine expects."""


class SurpriseTests(EngineCase):
    """Memory has space for ten keys, and as many again while a checkpoint runs; the test lets the page thread run."""

    def make_engine(self) -> Engine:
        self.page_jobs = SteppedWorker()
        limits = Limits(pages=1000, memtables=10 * (ENTRY_COST + 10))
        return Engine(self.path / "store", disk=FaultyDisk(), pages=self.page_jobs, limits=limits)

    def setUp(self) -> None:
        super().setUp()
        self.store = self.engine.store
        writes = [self.write(f"{number:04}") for number in range(24)]
        self.queued = [done for done in writes if not done.called]
        self.assertEqual(len(self.queued), 4)

    def write(self, name: str) -> Deferred[Outcome]:
        return self.store.transact([], [put(name.encode(), b"v" * 6)])

    def assert_writes_are_admitted(self) -> None:
        done = self.write("later")
        self.page_jobs.finish()
        self.assertTrue(self.successResultOf(done).committed)
        self.assertTrue(self.successResultOf(self.write("last")).committed, "and no longer waits")

    def test_an_error_fails_the_transaction_that_was_to_be_admitted_alone(self) -> None:
        wait_before = self.store.housekeeping.wait_before

        def raise_once(operations: Sequence[Operation]) -> Deferred[None] | None:
            if operations == [put(b"0021", b"v" * 6)]:
                raise Surprise
            return wait_before(operations)

        self.patch(self.store.housekeeping, "wait_before", raise_once)
        self.page_jobs.finish()
        self.assertEqual([type(failure_of(done)) for done in self.queued], [type(None), Surprise, *[type(None)] * 2])
        self.assert_writes_are_admitted()

    def test_an_error_between_two_transactions_fails_those_that_wait_and_is_logged(self) -> None:
        wait_before = self.store.housekeeping.wait_before
        self.patch(self.store.housekeeping, "wait_before", lambda operations: fail(Surprise()))
        self.page_jobs.finish()
        self.assertEqual([type(failure_of(done)) for done in self.queued], [Surprise] * 4)
        self.assertEqual(len(self.flushLoggedErrors(Surprise)), 1)
        self.patch(self.store.housekeeping, "wait_before", wait_before)
        self.assert_writes_are_admitted()
