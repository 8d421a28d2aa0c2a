"""
A random life of a store: transactions, time, checkpoints and compactions, full disks, kills, power losses, stops and starts.

Jobs of the journal and of pages wait until they are let run, so transactions go to the disk in batches, and cross
checkpoints at every stage. Everything depends on the seed alone.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from attrs import Factory, define
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from kvtwist.engine import Store
from kvtwist.engine.admission import Pending
from kvtwist.engine.commit import Again, GroupCommit
from kvtwist.engine.frame import Transaction
from kvtwist.engine.housekeeping import STOP_SECONDS
from kvtwist.model import (
    DATA,
    HISTORY,
    STAGED,
    Append,
    Clear,
    Condition,
    Delete,
    Exists,
    Get,
    Operation,
    Outcome,
    Put,
    Record,
    StoreError,
    Unchanged,
    UnchangedSince,
)
from tests.crash.history import Counterexample, History, Note
from tests.crash.repairing import has_a_whole_frame_after_a_bad_one
from tests.crash.settings import Settings
from tests.support.engine import KEYSPACES, Model, SteppedWorker
from tests.support.memorydisk import Death, Forgotten, MemoryDisk, MemoryEngine, root_of
from tests.support.picks import randomly
from tests.support.powerloss import Platter

P = ParamSpec("P")
T = TypeVar("T")

KEYS = [b"", b"a", b"ab", b"b\x00", b"k1", b"k2", b"k3", b"zz", b"\xff"]
TTLS = [None, None, None, 500, 3000, 70_000]
STEPS = 60
"""In one life, from one power loss to the next."""


class MortalWorker(SteppedWorker):
    """A thread in which the process may die."""

    def run(self, job: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """See `Worker`."""
        done: Deferred[T] = Deferred()

        def do() -> None:
            try:
                result = job(*args, **kwargs)
            except Death:
                raise
            except BaseException:
                done.errback()
            else:
                done.callback(result)

        if not self.stopped:
            self._jobs.append(do)
        return done


@define
class _Call:
    """
    A transaction that was asked for.

    :ivar expected: what is to be answered, if it was applied and not taken back since.
    """

    conditions: Sequence[Condition]
    operations: Sequence[Operation]
    applied: bool = False
    expected: Outcome | None = None
    answers: list[Any] = Factory(list)


class Workload:
    """
    :param place: see `MemoryEngine`.
    :param forgotten: syncs that are left out.
    """

    def __init__(self, seed: int, place: Path, forgotten: Forgotten | None = None) -> None:
        self._choices = random.Random(seed)
        self.settings = Settings.made_from(self._choices)
        self._place = place
        self._forgotten = forgotten
        self._clock = Clock()
        self._states: list[Model] = [Model()]
        self._acknowledged = 0
        self._stored = 0
        self._calls: list[_Call] = []
        self._applied = 0
        self._values = 0
        self._running = False
        steps: dict[Callable[[], None], int] = {
            self._write: 30,
            self._commit_staged: 6,
            self._work: 25,
            self._pass_time: 4,
            self._begin_checkpoint: 3,
            self._clear: 1,
            self._fill_disk: 2,
            self._find_no_room: 1,
            self._fail_pages: 2,
            self._fail_directory: 2,
            self._heal: 3,
            self._kill: 1,
            self._plan_death: 3,
            self._stop: 2,
        }
        if self.settings.failing_syncs:
            steps[self._fail_sync] = 2
        self._steps, self._weights = list(steps), list(steps.values())

    def run(self, lives: int) -> Iterator[History]:
        """So many lives, one after the other, with power losses between them. The settings must be applied."""
        platter = Platter()
        for _ in range(lives):
            before = platter.copy()
            self._disk = MemoryDisk(root_of(self._place), platter, self._note)
            self._disk.forgotten = self._forgotten
            self._engine = MemoryEngine(
                self._place,
                clock=self._clock,
                disk=self._disk,
                limits=self.settings.limits,
                sync=self.settings.sync,
                reserve=self.settings.reserve,
            )
            try:
                self._open()
                for _ in range(STEPS):
                    self._survive(self._choices.choices(self._steps, self._weights)[0])
                yield History(self.settings, before, self._disk.log, self._note())
            finally:
                self._end()
            self._acknowledged = self._stored
            left = platter.crash(randomly(self._choices), self._choices.random() < 0.5, self.settings.stale)
            if not self.settings.sync and has_a_whole_frame_after_a_bad_one(self._place, left):
                left = platter.crash(lambda count: count - 1)  # a store that does not start lives no more: all is kept
            platter = left

    # --- life and death -------------------------------------------------------------------------------------------

    def _open(self) -> None:
        """Start the process, if need be over and over; look at what it has got."""
        engine = self._engine
        self._disk.heal()
        while True:
            engine.journal, engine.pages = MortalWorker(), MortalWorker()
            try:
                engine.open()
                break
            except Death:
                engine.die()
            except StoreError as error:
                raise Counterexample(f"the store cannot be opened: {error}") from error
        commit = engine.storage.commit
        revision = commit.assigned
        if not self._acknowledged <= revision < len(self._states):
            raise Counterexample(f"revision {revision}, not {self._acknowledged} to {len(self._states) - 1}")
        self._states = self._states[: revision + 1]
        self._calls.clear()
        self._acknowledged = self._stored = revision
        self._started_at = engine.storage.manifest.revision
        self._watch(engine.store, commit)
        self._running = True
        self._survive(self._check_contents)

    def _watch(self, store: Store, commit: GroupCommit) -> None:
        """Do everything to the model as well, at the moment at which the store does it."""
        submit_pending, submit = store._submit, commit.submit
        current: list[_Call] = []

        def submit_pending_watched(pending: Pending, effects: Any) -> Deferred[Outcome]:
            current[:] = [call for call in self._calls if call.operations is pending.operations]
            return submit_pending(pending, effects)

        def submit_watched(transaction: Transaction, undo: Any, outcome: Outcome, again: Again) -> Deferred[Outcome]:
            [call] = current
            self._apply(call, transaction)
            heard: Deferred[Outcome] = Deferred()
            done = submit(transaction, undo, outcome, lambda _, why: again(heard, self._taken_back(call, why)))
            done.addCallback(self._stored_now, transaction.revision)
            done.addErrback(lambda f: self._taken_back(call, f))
            done.chainDeferred(heard)
            return heard

        store._submit = submit_pending_watched  # type: ignore[method-assign]
        commit.submit = submit_watched  # type: ignore[method-assign]

    def _apply(self, call: _Call, transaction: Transaction) -> None:
        self._forget_behind(transaction.revision - 1)
        model = self._states[-1].copy()
        model.started_at = self._started_at
        call.expected = model.transact(call.conditions, call.operations, transaction.time_ms)
        assert call.expected.committed and model.revision == transaction.revision, (call, transaction)
        self._states.append(model)
        call.applied = True
        self._applied += 1

    def _forget_behind(self, revision: int) -> None:
        """What was given out behind it was taken back. Notes of the time before keep their list of states."""
        if len(self._states) > revision + 1:
            self._states = self._states[: revision + 1]

    def _stored_now(self, outcome: Outcome, revision: int) -> Outcome:
        self._acknowledged = revision
        return outcome

    def _taken_back(self, call: _Call, why: T) -> T:
        call.expected = None
        return why

    def _survive(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Death:
            self._end()
            self._open()

    def _end(self) -> None:
        if self._running:
            self._settle()
        self._running = False
        self._engine.die()

    def _kill(self) -> None:
        raise Death

    def _plan_death(self) -> None:
        self._disk.die_after(self._choices.choice([0, 1, 2, 3, 5, 8, 13, 21]))

    def _stop(self) -> None:
        self._disk.heal()
        if self._choices.random() < 0.3:
            self._disk.fail("create", errno.ENOSPC, path="pages", times=99)
        closed = self._engine.close()
        failures: list[Failure] = []
        closed.addErrback(failures.append)
        if self._choices.random() < 0.3:
            self._clock.advance(STOP_SECONDS)
        while not closed.called:
            self._work_once()
        if failures and failures[0].check(Death):
            raise Death
        assert not failures or self._engine.storage.commit.broken, failures
        self._settle()
        if self._engine.storage.commit.broken is None:
            self._acknowledged = self._stored = self._engine.storage.commit.assigned
        self._end()
        if self._choices.random() < 0.3:
            self._disk.die_after(self._choices.randint(0, 5))
        self._open()

    # --- what is known --------------------------------------------------------------------------------------------

    def _note(self) -> Note:
        if self._running:
            self._settle()
        return Note(self._states, len(self._states) - 1, self._acknowledged, self._stored, self._engine.clock.seconds())

    def _settle(self) -> None:
        """Learn what was answered by now."""
        commit = self._engine.storage.commit
        for call in [call for call in self._calls if call.answers]:
            self._calls.remove(call)
            if call.expected is not None:
                assert call.answers == [call.expected], call
        if commit.broken is None:
            self._forget_behind(commit.assigned)
        sure = self._acknowledged if self.settings.sync else self._engine.storage.manifest.revision
        self._stored = max(self._stored, sure)

    def _check_contents(self) -> None:
        now_ms = self._engine.now_ms()
        found = {name: dict(self._scan(name)) for name in KEYSPACES}
        expected = self._states[-1].contents(now_ms)
        if found != expected:
            raise Counterexample(f"revision {len(self._states) - 1} holds {found}, not {expected}")

    def _scan(self, keyspace: str) -> list[tuple[bytes, Record]]:
        found: list[tuple[bytes, Record]] = []
        start: bytes | None = b""
        while start is not None:
            scan = self._engine.store.scan(keyspace, start)
            answers: list[Any] = []
            scan.addBoth(answers.append)
            while not answers:
                self._work_once()
            if isinstance(answers[0], Failure):
                raise Counterexample(f"{keyspace} cannot be read: {answers[0].value}")
            found.extend(answers[0].items)
            start = answers[0].resume
        return found

    # --- steps ----------------------------------------------------------------------------------------------------

    def _work_once(self) -> None:
        workers = [worker for worker in (self._engine.journal, self._engine.pages) if len(worker)]  # type: ignore[arg-type]
        steps = [worker.step for worker in workers if isinstance(worker, SteppedWorker)]
        if self._in_slices():
            steps.append(self._engine.iterate)
        assert steps, "something waits for nothing"
        self._choices.choice(steps)()
        self._settle()

    def _in_slices(self) -> bool:
        return any(call.getTime() <= self._clock.seconds() for call in self._clock.getDelayedCalls())

    def _work(self) -> None:
        for _ in range(self._choices.choice([1, 1, 2, 3, 8, 30])):
            if self._engine.journal or self._engine.pages or self._in_slices():
                self._work_once()

    def _pass_time(self) -> None:
        self._clock.advance(self._choices.choice([0.3, 1.0, 1.0, 5.0, 61.0]))

    def _begin_checkpoint(self) -> None:
        self._engine.store.housekeeping.checkpoint()

    def _fill_disk(self) -> None:
        call = self._choices.choice(["write", "write", "write", "extend", "cut"])
        self._disk.fail(call, errno.ENOSPC, path="journal", times=self._choices.randint(1, 2))

    def _find_no_room(self) -> None:
        """And begin a checkpoint, so that the segment ends with what was taken back."""
        self._disk.heal()
        self._disk.fail("write", errno.ENOSPC, path="journal")
        self._transact([], [Put(DATA, b"large", bytes(2000), "text/plain")])
        self._begin_checkpoint()
        self._work()

    def _fail_sync(self) -> None:
        """After which the store is only good for reading, until it is started again."""
        self._disk.heal()
        self._disk.fail("sync", errno.EIO, path="journal")
        self._write()
        self._work()
        self._disk.heal()
        if self._choices.random() < 0.7:
            self._kill()

    def _fail_pages(self) -> None:
        call = self._choices.choice(["create", "write", "sync", "rename", "remove", "sync_directory", "sync_directory"])
        path = self._choices.choice(["pages", "manifest"]) if call != "sync_directory" else ""
        self._disk.fail(call, errno.EIO, path=path, skip=self._choices.randint(0, 3))

    def _fail_directory(self) -> None:
        """Let a checkpoint not know whether a name is on the disk: that of its segment, of a page, or of its manifest."""
        if self._choices.random() < 0.4:  # then there is no spare
            self._end()
            self._open()
        self._write()
        self._work()
        self._disk.heal()
        self._disk.fail("sync_directory", errno.EIO, path="store", skip=self._choices.choice([0, 1, 2, 2]))
        self._begin_checkpoint()
        self._work()
        self._write()

    def _heal(self) -> None:
        self._disk.heal()

    def _clear(self) -> None:
        self._transact([], [Clear(self._choices.choice(KEYSPACES)), *self._some(self._put, 1)])

    def _write(self) -> None:
        choices = self._choices
        conditions: list[Condition] = []
        if choices.random() < 0.2:
            key = choices.choice(KEYS)
            record = self._states[-1].records(DATA, self._engine.now_ms()).get(key)
            revision = record.revision if record and choices.random() < 0.8 else 0
            conditions.append(Exists(DATA, key) if choices.random() < 0.5 else Unchanged(DATA, key, revision))
        kind = choices.choice([self._put, self._put, self._delete, self._append, self._get])
        self._transact(conditions, self._some(kind, 1) + self._some(self._put, 3))

    def _commit_staged(self) -> None:
        """As the profile with staged changes does it."""
        now_ms = self._engine.now_ms()
        since = self._engine.storage.commit.assigned
        operations: list[Operation] = []
        for key, record in self._states[-1].records(STAGED, now_ms).items():
            operations.append(Put(DATA, key, record.value, record.media_type))
            operations.append(Delete(STAGED, key))
            operations.append(Append(HISTORY, key + b"\0", record.value, record.media_type, 30_000))
        self._transact([UnchangedSince(STAGED, since)], operations)

    def _some(self, kind: Callable[[], Operation], most: int) -> list[Operation]:
        return [kind() for _ in range(self._choices.randint(1 if most == 1 else 0, most))]

    def _keyspace(self) -> str:
        return self._choices.choice([DATA, DATA, STAGED])

    def _value(self) -> bytes:
        self._values += 1
        length = self._choices.choice([5, 5, 20, 20, 20, 100, 400, 1300])
        return (b"%d," % self._values * length)[:length]

    def _put(self) -> Operation:
        ttl_ms = self._choices.choice(TTLS)
        return Put(self._keyspace(), self._choices.choice(KEYS), self._value(), "text/plain", ttl_ms)

    def _append(self) -> Operation:
        return Append(HISTORY, self._choices.choice(KEYS) + b"\0", self._value(), "text/html", 30_000)

    def _delete(self) -> Operation:
        return Delete(self._keyspace(), self._choices.choice(KEYS))

    def _get(self) -> Operation:
        return Get(self._keyspace(), self._choices.choice(KEYS))

    def _transact(self, conditions: Sequence[Condition], operations: Sequence[Operation]) -> None:
        """Return once it is applied or answered."""
        call = _Call(conditions, operations)
        self._calls.append(call)
        applied = self._applied
        self._engine.store.transact(conditions, operations).addBoth(call.answers.append)
        while not call.answers and not call.applied:
            self._work_once()
        self._settle()
        if call.applied:
            return
        [answer] = call.answers
        if isinstance(answer, Failure):
            answer.trap(StoreError)
        elif applied == self._applied:
            model = self._states[self._engine.storage.commit.assigned].copy()
            model.started_at = self._started_at
            expected = model.transact(conditions, operations, self._engine.now_ms())
            assert answer == expected, (answer, expected)
