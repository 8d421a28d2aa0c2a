"""
A large transaction is applied in steps, and is atomic all the same: whatever happens between two steps, it is seen whole
or not at all, and the reactor goes on meanwhile.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from kvtwist.engine import Limits, Store
from kvtwist.engine.disk_space import DiskSpace
from kvtwist.engine.housekeeping import SWEEP_SECONDS
from kvtwist.engine.store import GATHERING
from kvtwist.engine.timeline import Timeline
from kvtwist.model import (
    DATA,
    STAGED,
    Clear,
    Delete,
    Exists,
    Get,
    NoRoom,
    Operation,
    Outcome,
    Peek,
    Put,
    StoreDamaged,
    StoreError,
    StoreUnavailable,
    Unchanged,
    UnchangedSince,
)
from tests.support.engine import Engine, EngineCase, FaultyDisk, SteppedWorker, TestCase, failure_of, iterate, put

STEP = 3
COUNT = 10
OLD = {b"%d" % number: b"old" for number in range(COUNT)}
NEW = {b"%d" % number: b"new" for number in range(COUNT)}


def puts(value: bytes) -> list[Operation]:
    return [put(b"%d" % number, value) for number in range(COUNT)]


class StepCase(EngineCase):
    """The test decides when the journal and pages are written, and when the reactor goes on."""

    disk: FaultyDisk

    def make_engine(self) -> Engine:
        self.disk = FaultyDisk()
        self.journal_jobs, self.page_jobs = SteppedWorker(), SteppedWorker()
        limits = Limits(pages=1, step=STEP)
        return Engine(
            self.path / "store", disk=self.disk, journal=self.journal_jobs, pages=self.page_jobs, limits=limits
        )

    def setUp(self) -> None:
        super().setUp()
        self.store = self.engine.store
        self.store.transact([], puts(b"old"))
        self.finish()

    def begin(self, operations: list[Operation], *conditions: Any, iterations: int | None = None) -> Deferred[Outcome]:
        """A transaction, so many iterations later; or as many as it takes for the first step to be applied."""
        done = self.store.transact(conditions, operations)
        if iterations is None:
            for _ in range(50):
                if not self.store._commit.unsubmitted:
                    self.iterate()
            assert self.store._commit.unsubmitted, "it is never applied"
        for _ in range(iterations or 0):
            self.iterate()
        return done

    def iterate(self) -> None:
        self.engine.iterate()

    def finish(self) -> None:
        self.engine.pump()
        while self.journal_jobs or self.page_jobs:
            for jobs in (self.journal_jobs, self.page_jobs):
                if jobs:
                    jobs.step()
            self.engine.pump()

    def restart(self) -> None:
        """Die, and open again."""
        self.engine.die()
        self.journal_jobs, self.page_jobs = SteppedWorker(), SteppedWorker()
        self.engine.journal, self.engine.pages = self.journal_jobs, self.page_jobs
        self.engine.open()
        self.store = self.engine.store

    def contents(self) -> dict[bytes, bytes]:
        found = self.store.scan(DATA)
        self.finish()
        return {key: record.value for key, record in self.successResultOf(found).items}

    def iterations_of(self, operations: list[Operation]) -> int:
        """How many iterations it takes to apply them."""
        done = self.begin(operations, iterations=0)
        iterations = 0
        while self.engine.clock.getDelayedCalls() and not self.journal_jobs:
            self.iterate()
            iterations += 1
        self.finish()
        self.successResultOf(done)
        return iterations


class ReadingTests(StepCase):
    def test_no_iteration_applies_more_than_a_step(self) -> None:
        sizes: list[int] = []
        apply = self.store._apply

        def counted(operations: list[Operation], *rest: Any) -> None:
            sizes.append(len(operations))
            apply(operations, *rest)

        self.patch(self.store, "_apply", counted)
        self.assertGreater(self.iterations_of(puts(b"new")), COUNT // STEP)
        self.assertEqual(sizes, [3, 3, 3, 1])
        sizes.clear()
        self.store.transact([], puts(b"few")[:STEP])
        self.assertEqual(sizes, [3], "what fits into a step is applied at once")
        self.finish()

    def test_a_key_that_it_does_not_touch_is_read_meanwhile(self) -> None:
        self.begin([operation for operation in puts(b"new") if operation != put(b"0", b"new")])
        record = self.successResultOf(self.store.get(DATA, b"0"))
        assert record is not None
        self.assertEqual(record.value, b"old")
        self.finish()

    def test_others_see_all_of_it_or_nothing(self) -> None:
        ways: dict[str, Callable[[], Deferred[Any]]] = {
            "scan": lambda: self.store.scan(DATA).addCallback(lambda s: [record.value for _, record in s.items]),
            "gets": lambda: self.store.transact([], [Get(DATA, b"0"), Get(DATA, b"9")]).addCallback(
                lambda outcome: [record.value for record in outcome.results]
            ),
            "get of the first": lambda: self.store.get(DATA, b"0").addCallback(lambda record: [record.value]),
        }
        for way, ask in ways.items():
            for iterations in range(16):
                value = b"%d" % iterations
                before = next(iter(self.contents().values()))
                done = self.begin(puts(value), iterations=iterations)
                answer = ask()
                self.finish()
                self.successResultOf(done)
                self.assertIn(set(self.successResultOf(answer)), ({value}, {before}), (way, iterations))

    def test_it_is_not_seen_before_it_is_durable(self) -> None:
        self.begin(puts(b"new"))
        waiting = [self.store.get(DATA, b"0"), self.store.scan(DATA), self.store.transact([Exists(DATA, b"0")], [])]
        self.engine.pump()
        for deferred in waiting:
            self.assertNoResult(deferred)
        self.finish()
        for deferred in waiting:
            self.successResultOf(deferred)

    def test_a_clear_within_it_shows_with_all_the_rest(self) -> None:
        done = self.begin([Clear(DATA), *puts(b"new")[:5]])
        missing = self.store.get(DATA, b"9")
        self.assertNoResult(missing)
        self.finish()
        self.successResultOf(done)
        self.assertIsNone(self.successResultOf(missing))
        self.assertEqual(len(self.contents()), 5)

    def test_reads_within_it_see_what_was_there_before_each(self) -> None:
        gets: list[Operation] = [Get(DATA, b"%d" % number) for number in range(4)]
        done = self.begin([*gets, *puts(b"new")[:2], *gets, Clear(DATA), *gets])
        self.finish()
        results = self.successResultOf(done).results
        values = [record.value if record else None for record in results]
        self.assertEqual(values[:4], [b"old"] * 4)
        self.assertEqual(values[6:10], [b"new", b"new", b"old", b"old"])
        self.assertEqual(values[11:], [None] * 4)


class OthersTests(StepCase):
    def test_they_change_things_after_it(self) -> None:
        done = self.begin(puts(b"new"))
        small = self.store.transact([], [put(b"9", b"later")])
        large = self.store.transact([], puts(b"latest")[:5])
        self.engine.pump()
        self.finish()
        self.assertEqual([self.successResultOf(d).committed for d in (done, small, large)], [True] * 3)
        self.assertEqual(self.contents(), {**NEW, b"9": b"later", **dict.fromkeys(list(NEW)[:5], b"latest")})

    def test_conditions_are_those_of_the_moment_at_which_it_is_applied(self) -> None:
        revision = self.engine.storage.commit.assigned
        late = self.begin(puts(b"new"), UnchangedSince(DATA, revision), iterations=1)
        self.successResultOf(self.store.transact([], [Get(DATA, b"1")]))
        self.store.transact([], [put(b"1", b"first")])
        self.finish()
        self.assertFalse(self.successResultOf(late).committed)
        self.assertEqual(self.contents(), {**OLD, b"1": b"first"})
        done = self.begin(puts(b"new"), UnchangedSince(DATA, revision + 1), Unchanged(DATA, b"1", revision + 1))
        self.finish()
        self.assertTrue(self.successResultOf(done).committed)

    def test_a_key_that_is_too_long_is_refused_wherever_it_stands(self) -> None:
        for at in range(COUNT + 1):
            operations = puts(b"new")
            operations.insert(at, put(bytes(2**16), b""))
            done = self.store.transact([], operations)
            self.finish()
            self.failureResultOf(done, StoreError)
        self.assertEqual(self.contents(), OLD)

    def test_it_looks_up_in_steps(self) -> None:
        pauses: list[None] = []
        pause = self.store._pause

        def counted() -> Deferred[None]:
            pauses.append(None)
            return pause()

        self.patch(self.store, "_pause", counted)
        for reads, conditions in ((0, 0), (STEP, 0), (STEP - 1, 1), (STEP, 2 * STEP - 1), (0, 8)):
            pauses.clear()
            peeks: list[Operation] = [Peek(DATA, b"%d" % number) for number in range(reads)]
            parts = [Exists(DATA, b"%d" % number) for number in range(conditions)]
            writes = puts(b"new")
            self.store.transact(parts, [*peeks, *writes])
            self.finish()
            total = (reads + conditions + COUNT) // STEP
            checked = applied = -(-(reads + COUNT) // STEP)
            self.assertEqual(len(pauses), checked + 2 * total + applied, (reads, conditions))

    def test_few_that_return_records_are_looked_up_at_a_time(self) -> None:
        looked: list[None] = []

        async def look_up(pending: object, reading: object) -> None:
            looked.append(None)
            await Deferred()

        self.patch(self.store, "_look_up_in_steps", look_up)
        for returning, most in ((Get, GATHERING), (Peek, 2 * GATHERING)):
            looked.clear()
            waiting = [self.store.transact([], [returning(DATA, b"k")] * (STEP + 1)) for _ in range(2 * GATHERING)]
            self.engine.clock.advance(0)
            self.engine.clock.advance(0)
            self.assertEqual(len(looked), most)
            for done in waiting:
                self.assertNoResult(done)

    def test_others_are_admitted_while_it_reads_pages(self) -> None:
        self.engine.close()
        self.finish()
        self.restart()
        reads: list[Operation] = [Get(DATA, b"%d" % number) for number in range(COUNT)]
        done = self.store.transact([], [*reads, put(b"k", b"v")])
        for _ in range(5):
            self.iterate()
        self.assertEqual(len(self.page_jobs), 1)
        other = self.store.transact([], [put(b"other", b"v")])
        self.journal_jobs.finish()
        self.assertTrue(self.successResultOf(other).committed)
        self.assertNoResult(done)
        self.finish()
        self.assertTrue(self.successResultOf(done).committed)

    def test_a_client_that_leaves_does_not_stop_it(self) -> None:
        for iterations in range(16):
            done = self.begin(puts(b"%d" % iterations), iterations=iterations)
            done.cancel()
            self.failureResultOf(done, CancelledError)
            self.finish()
            self.assertEqual(set(self.contents().values()), {b"%d" % iterations})

    def test_a_page_that_cannot_be_read_stops_it_before_anything_is_changed(self) -> None:
        checkpoint = self.store.housekeeping.checkpoint()
        self.finish()
        self.successResultOf(checkpoint)
        self.disk.fail("read", errno.EIO, path="pages", times=99)
        done = self.store.transact([Exists(DATA, b"%d" % number) for number in range(COUNT)], puts(b"new"))
        self.finish()
        self.assertIsInstance(failure_of(done), (StoreDamaged, StoreError))
        self.disk.heal()
        self.assertEqual(self.contents(), OLD)
        again = self.store.transact([], puts(b"new"))
        self.finish()
        self.successResultOf(again)


class CheckpointTests(StepCase):
    def test_one_that_begins_meanwhile_has_all_of_it_or_nothing(self) -> None:
        for iterations in range(16):
            value = b"%d" % iterations
            done = self.begin(puts(value), iterations=iterations)
            checkpoint = self.store.housekeeping.checkpoint()
            self.finish()
            self.successResultOf(checkpoint)
            self.successResultOf(done)
            self.assertEqual(set(self.contents().values()), {value})
            self.restart()
            self.assertEqual(set(self.contents().values()), {value}, iterations)

    def test_one_that_freezes_while_its_batch_fails_has_nothing_of_it(self) -> None:
        lost = 0
        for iterations in range(16):
            before, value = self.contents(), b"%d" % iterations
            self.disk.fail("write", errno.ENOSPC, path="journal", times=2)  # of a spare segment, and then of a new one
            done = self.begin(puts(value), iterations=iterations)
            checkpoint = self.store.housekeeping.checkpoint()
            self.finish()
            self.successResultOf(checkpoint)
            refused = failure_of(done)
            lost += refused is not None
            self.disk.heal()
            self.restart()
            self.assertEqual(self.contents(), before if refused else dict.fromkeys(OLD, value))
        self.assertGreater(lost, 3, "this would not tell")

    def test_the_sweeper_keeps_away(self) -> None:
        # Else what has expired would be counted as gone twice: when it is swept, and when it is replaced.
        expiring = [Put(DATA, b"%d" % number, b"", "text/plain", 500) for number in range(COUNT)]
        self.store.transact([], expiring)
        self.finish()
        peeks: list[Operation] = [Get(DATA, b"%d" % number) for number in range(COUNT)]
        self.begin([*peeks, *puts(b"new")])
        self.engine.clock.advance(SWEEP_SECONDS)
        self.finish()
        self.assertEqual(self.store.usage(DATA).records, COUNT)
        self.assertEqual(self.contents(), NEW)


class FailureTests(StepCase):
    def test_a_batch_that_fails_meanwhile_takes_back_its_steps_and_it_starts_over(self) -> None:
        usage = self.store.usage(DATA)
        for iterations in range(16):
            self.disk.fail("write", errno.ENOSPC, path="journal")
            lost = self.store.transact([], [put(b"0", b"lost"), put(b"more", b"lost")])
            done = self.begin([Get(DATA, b"0"), *puts(b"%d" % iterations)], iterations=iterations)
            read = self.store.get(DATA, b"0")
            self.journal_jobs.step()
            self.finish()
            self.failureResultOf(lost, NoRoom)
            outcome = self.successResultOf(done)
            assert outcome.results[0] is not None
            self.assertEqual(outcome.results[0].value, b"old")
            record = self.successResultOf(read)
            assert record is not None
            self.assertIn(record.value, (b"old", b"%d" % iterations))
            self.assertEqual(self.contents(), dict.fromkeys(OLD, b"%d" % iterations))
            self.store.transact([], puts(b"old"))
            self.finish()
            self.assertEqual(self.store.usage(DATA), usage)

    def test_it_is_taken_back_in_steps(self) -> None:
        usage = self.store.usage(DATA)
        self.disk.fail("write", errno.ENOSPC, path="journal")
        done = self.begin([*puts(b"lost"), Delete(DATA, b"1"), Clear(DATA), *puts(b"lost")], iterations=0)
        self.engine.pump()
        self.journal_jobs.step()
        waiting = [
            self.store.get(DATA, b"0"),
            self.store.scan(DATA),
            self.store.transact([], [put(b"1", b"next")]),
            self.store.transact([], [Get(DATA, b"%d" % number) for number in range(COUNT)]),
        ]
        iterations = 0
        while not done.called:
            for deferred in waiting[1:]:
                self.assertNoResult(deferred)
            self.iterate()
            iterations += 1
        self.failureResultOf(done, NoRoom)
        self.assertGreater(iterations, 6)
        self.finish()
        record, found, outcome, seen = map(self.successResultOf, waiting)
        self.assertEqual([record.value for record in seen.results], [b"old", b"next", *[b"old"] * (COUNT - 2)])
        self.assertEqual(record.value, b"old")
        self.assertTrue(outcome.committed)
        self.assertEqual({key: record.value for key, record in found.items}, OLD)
        self.assertEqual(self.contents(), {**OLD, b"1": b"next"})
        self.assertEqual(self.store.usage(DATA).records, usage.records)

    def test_a_journal_that_cannot_be_written_any_more_refuses_it_whole(self) -> None:
        self.disk.fail("sync", errno.EIO, path="journal")
        self.store.transact([], [put(b"0", b"lost")]).addErrback(lambda _: None)
        done = self.begin(puts(b"new"))
        self.journal_jobs.step()
        self.finish()
        self.failureResultOf(done, StoreUnavailable)
        self.assertEqual(self.contents(), OLD)

    def test_a_crash_meanwhile_leaves_nothing_of_it(self) -> None:
        for iterations in range(16):
            self.begin(puts(b"new"), iterations=iterations)
            self.restart()
            self.assertEqual(self.contents(), OLD)

    def test_another_large_one_does_not_look_while_it_is_taken_back(self) -> None:
        for iterations in range(10):
            self.disk.fail("write", errno.ENOSPC, path="journal")
            lost = self.begin(puts(b"lost"), iterations=0)
            self.engine.pump()
            looking = self.begin([Get(DATA, b"%d" % number) for number in range(COUNT)], iterations=iterations)
            self.journal_jobs.step()
            self.assertTrue(self.store._commit.latch.held)
            self.finish()
            self.failureResultOf(lost, NoRoom)
            results = self.successResultOf(looking).results
            self.assertEqual({record and record.value for record in results}, {b"old"})

    def test_what_waits_for_a_page_is_not_done_while_it_is_taken_back(self) -> None:
        self.store.transact([], [put(b"paged", b"old")])
        self.run_checkpoint()
        self.patch(
            DiskSpace, "release_piece", lambda disk_space, leave=0: False
        )  # there is no spare segment that would make way
        self.disk.fail("write", errno.ENOSPC, path="journal")
        lost = self.begin(puts(b"lost"))
        small = self.store.transact([Exists(DATA, b"paged"), Exists(DATA, b"0")], [put(b"0", b"another")])
        self.engine.pump()
        self.assertTrue(self.page_jobs, "it reads no page")
        self.journal_jobs.step()
        self.page_jobs.finish()
        self.assertTrue(self.store._commit.latch.held)
        self.finish()
        self.failureResultOf(lost, NoRoom)
        self.assertTrue(self.successResultOf(small).committed)
        expected = {**OLD, b"0": b"another", b"paged": b"old"}
        self.assertEqual(self.contents(), expected)
        self.assertEqual(self.store.usage(DATA).size, sum(len(key) + len(value) for key, value in expected.items()))

    def run_checkpoint(self) -> None:
        done = self.store.housekeeping.checkpoint()
        self.finish()
        self.successResultOf(done)

    def test_a_close_meanwhile_leaves_all_of_it_or_refuses_it(self) -> None:
        for at_once in (False, True):
            for iterations in range(16):
                value = b"%d" % iterations
                before = self.contents()
                if at_once:
                    self.run_checkpoint()  # then there is nothing else to do
                done = self.begin(puts(value), iterations=iterations)
                closed = self.engine.close()
                if at_once:
                    self.journal_jobs.finish()
                self.finish()
                self.successResultOf(closed)
                refused = failure_of(done)
                if refused is not None:
                    self.assertIsInstance(refused, StoreUnavailable)
                self.restart()
                self.assertEqual(
                    self.contents(), before if refused else dict.fromkeys(OLD, value), (at_once, iterations)
                )


class MemoryStoreTests(TestCase):
    """Without a disk, what is removed leaves no trace that would say since when."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.store = Store(self.clock, Timeline(self.clock.seconds, self.clock.seconds), None, Limits(step=STEP))
        self.store.open()
        self.store.start()

    def pump(self) -> None:
        for _ in range(20):
            self.clock.advance(0)

    def test_others_see_all_of_it_or_nothing(self) -> None:
        for iterations in range(16):
            self.store.transact([], puts(b"old"))
            self.pump()
            deletions: list[Operation] = [Delete(DATA, b"%d" % number) for number in range(COUNT - 1)]
            done = self.store.transact([], [*deletions, put(b"9", b"new")])
            for _ in range(iterations):
                iterate(self.clock)
            gets = [self.store.get(DATA, b"%d" % number) for number in range(COUNT)]
            scan = self.store.scan(DATA)
            if not done.called:
                answers = [self.successResultOf(got) for got in gets if got.called]
                self.assertEqual({answer and answer.value for answer in answers} - {b"old"}, set())
            self.pump()
            self.successResultOf(done)
            self.assertIn(len(self.successResultOf(scan).items), (1, COUNT))
            last = self.successResultOf(self.store.scan(DATA))
            self.assertEqual([(key, record.value) for key, record in last.items], [(b"9", b"new")])
            self.store.transact([], [Clear(DATA)])

    def test_what_there_is_no_room_for_is_refused_whole(self) -> None:
        self.store.limits = Limits(pages=0, memtables=2000, unsynced=0, changes=0, step=STEP)
        self.store.housekeeping._limits = self.store.limits
        done = self.store.transact([], [put(b"%d" % number, bytes(400)) for number in range(COUNT)])
        self.pump()
        self.failureResultOf(done, NoRoom)
        self.assertEqual(self.store.usage(DATA).records, 0)


class TraceTests(StepCase):
    """A transaction that does not ask for values does not hold them, however many keys it is about."""

    def test_a_large_value_that_is_replaced_is_not_kept(self) -> None:
        large: list[Operation] = [put(b"%d" % number, bytes(1000), keyspace=STAGED) for number in range(2)]
        for again in range(2):
            self.store.transact([], large)
            checkpoint = self.store.housekeeping.checkpoint()
            self.finish()
            self.successResultOf(checkpoint)
            peeks: list[Operation] = [Peek(STAGED, b"0"), Peek(STAGED, b"1")]
            changes: list[Operation] = [put(b"0", b"s", keyspace=STAGED), Delete(STAGED, b"1")]
            done = self.store.transact([], [*peeks, *(changes if again else changes[:1])])
            self.finish()
            results = self.successResultOf(done).results
            self.assertEqual([record.value if record else None for record in results[:2]], [b"", b""])
            self.assertEqual(self.store.usage(STAGED).size, 2 if again else 2 + 1001, "it is counted to the byte")
