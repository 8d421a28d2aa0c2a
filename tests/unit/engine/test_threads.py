"""Threads that do the engine's blocking work: in order, off the caller's thread, and none that outlives its store."""

from __future__ import annotations

import queue
import random
import threading
import weakref
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from kvtwist.engine import Limits, Store, run_writer
from kvtwist.engine.disk import Disk
from kvtwist.engine.storage import Storage
from kvtwist.engine.timeline import Timeline
from kvtwist.engine.worker import ThreadWorker
from kvtwist.model import DATA, Clear, Delete, Get, Operation, Outcome
from tests.support.engine import Model, TestCase, put

PATIENCE = 30.0
"""Seconds after which what a thread owes counts as never coming."""


class Mailbox:
    """As much of a reactor as threads need: what they call from theirs is run by who asks for it."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()

    def callFromThread(self, callable: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        self._calls.put(lambda: callable(*args, **kwargs))

    def run_until(self, deferred: Deferred[Any]) -> None:
        """Run what threads have called until a Deferred has fired."""
        while not deferred.called:
            self._calls.get(timeout=PATIENCE)()

    def run_all(self) -> None:
        """Run what threads have called by now."""
        while not self._calls.empty():
            self._calls.get()()


class ThreadWorkerTests(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.mailbox = Mailbox()
        self.worker = ThreadWorker(self.mailbox, "test")  # type: ignore[arg-type]
        self.threads = threading.active_count()

    def test_jobs_run_in_order_on_one_other_thread(self) -> None:
        self.worker.start()
        seen: list[tuple[int, threading.Thread]] = []

        def see(number: int) -> None:
            seen.append((number, threading.current_thread()))

        done = [self.worker.run(see, number) for number in range(100)]
        self.mailbox.run_until(done[-1])
        self.assertEqual([number for number, _ in seen], list(range(100)))
        [thread] = {thread for _, thread in seen}
        self.assertIsNot(thread, threading.current_thread())
        self.worker.stop()

    def test_a_result_or_an_error_comes_back_to_the_reactor(self) -> None:
        self.worker.start()
        result = self.worker.run(divmod, 7, 2)
        error = self.worker.run(divmod, 7, 0)
        self.mailbox.run_until(error)
        self.assertEqual(self.successResultOf(result), (3, 1))
        self.failureResultOf(error, ZeroDivisionError)
        self.worker.stop()

    def test_a_job_that_is_done_is_not_held_until_the_next_one(self) -> None:
        held: list[bool] = []

        class Watched(queue.SimpleQueue[Any]):
            def get(self, *arguments: Any) -> Any:
                held.append(large() is not None)
                return super().get(*arguments)

        argument = Mailbox()  # or anything else
        large = weakref.ref(argument)
        self.worker._jobs = Watched()
        self.worker.run(id, argument)
        del argument
        self.worker.start()
        self.worker.stop()
        self.assertEqual(held, [True, False])

    def test_jobs_given_before_it_starts_are_not_lost(self) -> None:
        done = self.worker.run(int, "7")
        self.worker.start()
        self.mailbox.run_until(done)
        self.assertEqual(self.successResultOf(done), 7)
        self.worker.stop()

    def test_it_ends_once_all_jobs_given_are_done(self) -> None:
        self.worker.start()
        seen: list[int] = []
        done = [self.worker.run(seen.append, number) for number in range(100)]
        self.worker.stop()
        self.assertEqual(seen, list(range(100)))
        self.mailbox.run_until(done[-1])
        self.assertEqual(threading.active_count(), self.threads)

    def test_one_that_was_never_started_leaves_no_thread(self) -> None:
        self.worker.stop()
        self.assertEqual(threading.active_count(), self.threads)


class ThreadedStoreTests(TestCase):
    """A whole store with real threads and a real disk, busy with everything at once."""

    def open(self) -> Store:
        self.mailbox = Mailbox()
        journal, pages = (ThreadWorker(self.mailbox, name) for name in ("journal", "pages"))  # type: ignore[arg-type]
        for worker in (journal, pages):
            self.addCleanup(worker.stop)  # whatever becomes of the test: the process would never end
        storage = Storage(str(self.path / "store"), Disk(), journal, pages)
        clock = Clock()
        store = Store(clock, Timeline(clock.seconds, clock.seconds), storage, Limits(pages=2_000))
        store.open()
        store.start()
        return store

    def test_it_holds_what_it_should_while_checkpoints_run_and_after_a_restart(self) -> None:
        self.patch(run_writer, "PAGE_SIZE", 500)
        threads = threading.active_count()
        chance = random.Random(20)
        model = Model()
        store = self.open()
        checked: list[bool] = []
        done: Deferred[Any] = store.transact([], [])
        checkpoint = store.housekeeping.checkpoint()
        for number in range(3000):
            if number % 300 == 100:
                self.mailbox.run_until(checkpoint)
            elif number % 300 == 200:
                checkpoint = store.housekeeping.checkpoint()
            key = b"%03d" % chance.randrange(300)
            kind = chance.random()
            change: Operation = Delete(DATA, key) if kind < 0.2 else put(key, b"%d " % number * 20)
            operations = [Clear(DATA)] if kind > 0.998 else [change]
            model.transact([], operations, 0)
            done = store.transact([], operations)
            if kind > 0.5:
                record = model.records(DATA, 0).get(key)
                expected = None if record is None else record.value
                read = store.transact([], [Get(DATA, key)])

                def check(outcome: Outcome, value: bytes | None = expected) -> None:
                    [record] = outcome.results
                    checked.append((record and record.value) == value)

                if (
                    store._keyspaces[DATA].tables.active.get(key) is not None
                ):  # else it waits, and later ones overtake it
                    read.addCallback(check)
            if number % 50 == 0:
                self.mailbox.run_until(done)
        self.mailbox.run_until(checkpoint)
        self.mailbox.run_until(done)
        self.assertGreaterEqual(store.figures().checkpoints, 10)
        self.assertGreater(len(checked), 100)
        self.assertTrue(all(checked))
        self.assert_holds(store, model)
        closed = Deferred.fromCoroutine(store.close())
        self.mailbox.run_until(closed)
        self.successResultOf(closed)
        self.mailbox.run_all()
        self.assertEqual(threading.active_count(), threads)

        store = self.open()
        self.assert_holds(store, model)
        closed = Deferred.fromCoroutine(store.close())
        self.mailbox.run_until(closed)
        self.assertEqual(threading.active_count(), threads)

    def assert_holds(self, store: Store, model: Model) -> None:
        found: dict[bytes, bytes] = {}
        start: bytes | None = b""
        while start is not None:
            scan = store.scan(DATA, start, limit=50)
            self.mailbox.run_until(scan)
            piece = self.successResultOf(scan)
            found.update((key, record.value) for key, record in piece.items)
            start = piece.resume
        self.assertEqual(found, {key: record.value for key, record in model.records(DATA, 0).items()})
