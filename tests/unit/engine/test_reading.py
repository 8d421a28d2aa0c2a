"""A transaction may ask for any number of keys: it holds what it has found, and never all pages that it took."""

from __future__ import annotations

from kvtwist.engine import Limits, compaction, reading
from kvtwist.engine.sorted_run import PageRef
from kvtwist.model import DATA, Clear, Exists, Get, Put
from tests.support.engine import Engine, EngineCase, SteppedWorker, finish, result_of

COUNT = 60


def key(number: int) -> bytes:
    return b"%04d" % number


class ReadingTests(EngineCase):
    def make_engine(self) -> Engine:
        engine = Engine(self.path / "store", limits=Limits(pages=1))
        self.reads = engine.pages = SteppedWorker()
        return engine

    def setUp(self) -> None:
        super().setUp()
        self.patch(compaction, "SMALL", 0)
        self.patch(compaction, "FULL_SHARE", 100.0)
        for round_ in range(3):
            for number in range(round_, COUNT, round_ + 1):
                self.engine.put(key(number), b"%d" % round_)
            self.checkpoint()
        self.most = 0
        call = reading.Pinned.__call__

        def watched(pinned: reading.Pinned, ref: PageRef) -> object:
            self.most = max(self.most, len(pinned.pages))
            return call(pinned, ref)

        self.patch(reading.Pinned, "__call__", watched)

    def checkpoint(self) -> None:
        done = self.engine.store.housekeeping.checkpoint()
        finish(self.reads)
        result_of(done)

    def expected(self, number: int) -> bytes:
        return b"2" if number >= 2 and (number - 2) % 3 == 0 else b"1" if number % 2 else b"0"

    def test_few_pages_are_held_at_a_time(self) -> None:
        conditions = [Exists(DATA, key(number)) for number in range(COUNT)]
        gets = [Get(DATA, key(number)) for number in range(COUNT)]
        waiting = self.engine.store.transact(conditions, gets)
        finish(self.reads)
        found = result_of(waiting).results
        self.assertEqual([r.value for r in found if r], [self.expected(n) for n in range(COUNT)])
        self.assertGreater(self.most, 0)
        self.assertLessEqual(self.most, 3, "more than a page of each run")

    def test_what_was_written_and_flushed_while_it_waited_is_seen(self) -> None:
        for steps in range(0, 42, 5):
            waiting = self.engine.store.transact([], [Get(DATA, key(number)) for number in range(COUNT)])
            for _ in range(steps):
                if self.reads:
                    self.reads.step()
            self.assertFalse(waiting.called)
            mark = b"after %d" % steps
            changing = self.engine.store.transact([], [Put(DATA, key(n), mark, "text/plain") for n in (0, 30, 59)])
            self.checkpoint()
            finish(self.reads)
            result_of(changing)
            found = [r.value if r else None for r in result_of(waiting).results]
            self.assertEqual([found[n] for n in (0, 30, 59)], [mark] * 3, steps)
            self.assertEqual(found[1], b"1")

    def test_a_keyspace_cleared_while_it_waited_is_empty(self) -> None:
        for steps in (1, 3):
            for number in range(COUNT):
                self.engine.put(key(number), b"0")
            self.checkpoint()
            waiting = self.engine.store.transact([], [Get(DATA, key(number)) for number in range(COUNT)])
            for _ in range(steps):
                if self.reads:
                    self.reads.step()
            self.assertFalse(waiting.called)
            clearing = self.engine.store.transact([], [Clear(DATA)])
            self.checkpoint()
            finish(self.reads)
            result_of(clearing)
            self.assertEqual(set(result_of(waiting).results), {None})
