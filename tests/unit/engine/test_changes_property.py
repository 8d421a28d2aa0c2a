"""
Watches beside the store, through random histories: a listing, and all changes after it, make the store at any moment.

A follower lists, and then keeps its copy by what it is told. It may stay away for any time, and the store may run
checkpoints, refuse writes, be killed and started anew meanwhile. Only if changes are gone it may have to list again.
"""

from __future__ import annotations

import errno
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule
from twisted.internet.defer import Deferred

from kvtwist.engine import backlog, changes, events, expiry
from kvtwist.model import (
    CLEAR,
    DATA,
    PUT,
    Append,
    Changes,
    ChangesGone,
    Clear,
    Delete,
    Operation,
    Position,
    Put,
    Record,
    StoreUnavailable,
    Watched,
)
from tests.support.engine import failure_of, put, result_of
from tests.unit.engine.test_model_property import Machine, keys, keyspaces, values

ttls = st.sampled_from([None, None, 500, 3000, 100_000])
operations = st.lists(
    st.one_of(
        st.builds(Put, keyspaces, keys, values, st.just("text/plain"), ttls),
        st.builds(Put, keyspaces, keys, values, st.just("text/plain"), ttls),
        st.builds(Delete, keyspaces, keys),
        st.builds(Clear, keyspaces),
        st.builds(Append, st.just("history"), keys, values, st.just("text/plain"), ttls),
    ),
    min_size=1,
    max_size=6,
)
WATCHED = [Watched(DATA, b"", True), Watched(DATA, b"k", True), Watched(DATA, b"k1"), Watched(DATA, b"b\x00", True)]


class Follower:
    """A copy of what it watches."""

    def __init__(self, watched: Watched) -> None:
        self.watched = watched
        self.copy: dict[bytes, Record] = {}
        self.position = Position(0)
        self.unfinished = 0
        """The revision of a transaction that it was not told of to its end."""

    def has(self, key: bytes) -> bool:
        return key.startswith(self.watched.key) if self.watched.is_prefix else key == self.watched.key

    def apply(self, told: Changes) -> None:
        for event in told.events:
            assert event.revision > self.position.revision
            assert event.revision == (self.unfinished or event.revision)
            self.unfinished = 0 if event.is_last else event.revision
            if event.kind == CLEAR:
                self.copy.clear()
                continue
            assert self.has(event.key)
            if event.kind == PUT:
                assert event.record is not None
                assert event.record.revision == event.revision
                self.copy[event.key] = event.record
            else:
                self.copy.pop(event.key, None)
        assert told.position.revision >= self.position.revision
        self.position = told.position


SMALL = (
    (events, {"PIECE": 20, "_MOST": 2, "LOOK": 3}),
    (changes, {"LOOK": 3, "_WAKE": 1}),
    (backlog, {"_AT_A_TIME": 150, "_PLACES": 3}),
    (expiry, {"_AT_ONCE": 2}),
)
"""Everything is told, looked at, read and removed in small parts."""


class WatchMachine(Machine):
    def __init__(self) -> None:
        super().__init__()
        self.small = ExitStack()
        for module, sizes in SMALL:
            self.small.enter_context(patch.multiple(module, **sizes))
        self.engine.open()
        self.followers = [Follower(watched) for watched in WATCHED]
        self.patient = Follower(WATCHED[1])
        """It always waits for more."""
        self.failures: list[Any] = []
        self.begun = 0
        self.wait()

    def teardown(self) -> None:
        super().teardown()
        self.small.close()

    def list(self, follower: Follower) -> None:
        found = result_of(self.engine.store.scan(DATA, limit=1))
        follower.position = Position(found.revision)
        follower.copy = {key: record for key, record in self.engine.records() if follower.has(key)}
        follower.unfinished = 0

    def ask(self, follower: Follower) -> Deferred[Changes]:
        asked = self.engine.store.changes(follower.watched, follower.position)
        self.engine.pump()
        return asked

    def catch_up(self, follower: Follower) -> None:
        while True:
            found = result_of(self.ask(follower))
            follower.apply(found)
            if not found.events:
                return

    def is_exact(self, follower: Follower) -> None:
        now_ms = self.engine.now_ms()
        copy = {k: r for k, r in follower.copy.items() if r.expires_ms is None or r.expires_ms > now_ms}
        assert copy == {k: r for k, r in self.engine.records() if follower.has(k)}

    @rule(number=st.integers(0, len(WATCHED) - 1))
    def follow(self, number: int) -> None:
        follower = self.followers[number]
        try:
            self.catch_up(follower)
        except ChangesGone as gone:
            assert gone.oldest > follower.position.revision
            self.list(follower)
            assert gone.oldest <= follower.position.revision
            self.catch_up(follower)
        self.is_exact(follower)

    @rule(seconds=st.sampled_from([1.5, 5.0]))
    def follow_for_a_while(self, seconds: float) -> None:
        for number in range(len(WATCHED)):
            self.follow(number)
        for _ in range(int(seconds / 0.25)):
            self.engine.clock.advance(0.25)
        for number, follower in enumerate(self.followers):
            self.follow(number)
            assert follower.copy == {k: r for k, r in self.engine.records() if follower.has(k)}

    # --- one that waits -------------------------------------------------------------------------------------------

    def wait(self) -> None:
        self.begun += 1
        asked = self.engine.store.changes(self.patient.watched, self.patient.position, 20.0)
        asked.addCallbacks(self.told, self.lost, callbackArgs=(self.begun,), errbackArgs=(self.begun,))
        asked.addErrback(self.failures.append)

    def told(self, told: Changes, begun: int) -> None:
        if begun == self.begun:
            assert told.events or told.position != self.patient.position or self.engine.clock.seconds() >= 20
            self.patient.apply(told)
            self.wait()

    def lost(self, failure: Any, begun: int) -> None:
        if begun == self.begun and not failure.check(StoreUnavailable):
            failure.trap(ChangesGone)
            self.list(self.patient)
            self.wait()

    @invariant()
    def the_patient_one_knows_everything(self) -> None:
        for _ in range(20):
            self.engine.pump()
        for failure in self.failures:
            failure.raiseException()
        self.is_exact(self.patient)

    # --- what happens ---------------------------------------------------------------------------------------------

    @rule(operations=operations)
    def transact(self, operations: list[Operation]) -> None:
        self.engine.do(*operations)

    @rule(operations=operations)
    def find_no_room(self, operations: list[Operation]) -> None:
        self.disk.fail("write", errno.ENOSPC, path="journal", times=9)
        refused = self.engine.store.transact([], operations)
        self.engine.pump()
        self.disk.heal()
        failure_of(refused)

    @rule(seconds=st.sampled_from([0.25, 0.5, 1.0, 2.5, 59.0, 61.0]))
    def pass_time(self, seconds: float) -> None:
        self.engine.clock.advance(seconds)

    @rule()
    def checkpoint(self) -> None:
        self.engine.checkpoint()

    @rule(orderly=st.booleans())
    def restart(self, orderly: bool) -> None:
        if orderly:
            result_of(self.engine.close())
        self.engine.reopen()
        self.wait()

    @precondition(lambda self: self.engine.store.limits.changes > 10_000)
    @rule()
    def keep_little(self) -> None:
        result_of(self.engine.close())
        self.engine.limits = self.engine.limits.__class__(
            journal=2000, pages=self.pages, slice_bytes=150, slice_entries=7, step=2, changes=1500
        )
        self.engine.reopen()
        self.wait()

    @rule(count=st.integers(1, 30))
    def write_much(self, count: int) -> None:
        for number in range(count):
            self.engine.do(put(b"k%d" % (number % 4), b"%d" % number))


TestWatches = WatchMachine.TestCase
TestWatches.settings = settings(max_examples=100, stateful_step_count=30, deadline=None, derandomize=True)
