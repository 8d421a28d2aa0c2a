"""The limit of staged changes: counted to the byte, with the memory that a change really takes, and replacements."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from typing import Any
from unittest.mock import patch

from klein import Response
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from werkzeug.exceptions import BadRequest

from kvtwist.engine import Limits
from kvtwist.model import DATA, STAGED, NoRoom
from kvtwist.profiles import Settings, transactional
from kvtwist.profiles.transactional import CHANGE_COST, Transactional
from tests.support.engine import Engine, EngineCase, SteppedWorker, put


class Body:
    """The part of a request that the handlers use."""

    def __init__(self, text: bytes) -> None:
        self.content = BytesIO(text)


class StagingCase(EngineCase):
    """The test decides when the journal and pages are written, and pages are read."""

    def make_engine(self) -> Engine:
        self.jobs, self.page_jobs = SteppedWorker(), SteppedWorker()
        limits = Limits(pages=1, slice_entries=5)
        return Engine(self.path / "store", journal=self.jobs, pages=self.page_jobs, limits=limits)

    def setUp(self) -> None:
        super().setUp()
        self.allow(2**20)

    def allow(self, size: int) -> None:
        self.profile = Transactional(self.engine.store, Settings(max_staged=size))

    def stage(self, key: str, value: object = None) -> Deferred[Response]:
        return self.run_handler(self.profile.stage(Body(json.dumps({key: value}).encode())))

    def delete(self, key: str) -> Deferred[Response]:
        return self.run_handler(self.profile.stage_deletion(Body(json.dumps(key).encode())))

    def commit(self) -> Deferred[Response]:
        return self.run_handler(self.profile.commit(None))

    def run_handler(self, handler: Any) -> Deferred[Response]:
        return Deferred.fromCoroutine(handler)

    def finish(self) -> None:
        self.engine.pump()
        while self.jobs or self.page_jobs:
            for jobs in (self.jobs, self.page_jobs):
                if jobs:
                    jobs.step()
            self.engine.pump()

    def checkpoint(self) -> None:
        done = self.engine.store.housekeeping.checkpoint()
        self.finish()
        self.successResultOf(done)

    def is_taken(self, done: Deferred[Response]) -> None:
        self.finish()
        self.assertIn(self.successResultOf(done).code, (200, 201))

    def is_refused(self, done: Deferred[Response]) -> None:
        self.finish()
        error = self.failureResultOf(done, NoRoom).value
        self.assertIn("commit first", str(error))


class RoomTests(StagingCase):
    def test_a_change_counts_its_key_its_value_and_its_overhead(self) -> None:
        cases = [
            (CHANGE_COST + 1 + 3, lambda: self.stage("k", 123)),
            (CHANGE_COST + 3 + 4, lambda: self.stage("key", "é"[:0] + "ab")),
            (CHANGE_COST + 3, lambda: self.delete("key")),
        ]
        for size, act in cases:
            self.allow(size - 1)
            self.is_refused(act())
            self.allow(size)
            self.is_taken(act())
            self.is_refused(self.stage("x"))
            self.successResultOf(self.committed())

    def committed(self) -> Deferred[Response]:
        done = self.commit()
        self.finish()
        return done

    def test_many_tiny_changes_are_refused_long_before_their_bytes_are_so_many(self) -> None:
        self.allow(10 * (CHANGE_COST + 2))
        for number in range(10):
            self.is_taken(self.stage(str(number), 1))
        self.is_refused(self.stage("x", 1))

    def test_a_replaced_change_is_no_longer_counted(self) -> None:
        for in_pages in (False, True):
            self.allow(2 * CHANGE_COST + 2 + 3 + 300)
            self.is_taken(self.stage("a", 123))
            self.is_taken(self.stage("b", int("1" * 300)))
            if in_pages:
                self.checkpoint()
            self.is_refused(self.stage("a", 1234))
            self.is_taken(self.stage("a", 456))
            self.is_refused(self.stage("c"))
            self.is_refused(self.stage("b", int("1" * 301)))
            self.is_taken(self.stage("b", int("1" * 299)))
            self.is_refused(self.stage("a", 12345))
            self.is_taken(self.stage("a", 1234))
            self.is_taken(self.delete("b"))
            self.is_taken(self.stage("a", int("1" * 303)))
            self.is_refused(self.stage("b", 1))
            self.successResultOf(self.committed())
            self.assertEqual(self.engine.store.usage(STAGED).size, 0)

    def test_of_those_that_come_at_once_only_as_many_are_taken_as_fit(self) -> None:
        # All wait for a page; when it is loaded, there is memory for two.
        self.engine.store.transact([], [put(b"%d" % number, b"1") for number in range(5)])
        self.checkpoint()
        self.allow(2 * (CHANGE_COST + 2))
        staged = [self.stage(str(number), 1) for number in range(5)]
        self.finish()
        taken = [done for done in staged if isinstance(done.result, Response)]
        self.assertEqual(len(taken), 2)
        for done in staged:
            done.addErrback(lambda failure: failure.trap(NoRoom))


class WaitingTests(StagingCase):
    def test_a_commit_that_was_overtaken_waits_for_those_that_stage_already(self) -> None:
        # It gathers in slices. Whoever stages meanwhile would overtake it again and again.
        self.engine.store.transact([], [put(b"slow", b"1")])
        self.checkpoint()
        for number in range(12):
            self.is_taken(self.stage(f"m{number:02}"))
        attempts: list[bytes] = []
        scan = self.engine.store.scan

        def counted(keyspace: str, start: bytes = b"", *rest: Any, **more: Any) -> Any:
            if keyspace == STAGED and not start:
                attempts.append(start)
            return scan(keyspace, start, *rest, **more)

        self.patch(self.engine.store, "scan", counted)
        commit = self.commit()
        slow = self.stage("slow")  # has to read a page first
        first = self.stage("first")
        while len(attempts) < 2 and not commit.called and self.profile._delayed is None:
            reactor.iterate(0)  # type: ignore[attr-defined]
            self.jobs.finish()
        self.jobs.finish()
        self.assertNoResult(commit)
        self.assertEqual(len(attempts), 1, "it looks again, though somebody is staging")
        held = self.stage("held")
        while not commit.called:
            self.finish()
            reactor.iterate(0)  # type: ignore[attr-defined]
        self.assertEqual(self.successResultOf(commit).code, 204)
        self.assertEqual(len(attempts), 2)
        self.finish()
        for done in (slow, first, held):
            self.successResultOf(done)
        self.assertIn(b"slow", dict(self.scanned(DATA)))
        self.assertEqual([key for key, _ in self.scanned(STAGED)], [b"held"])

    def scanned(self, keyspace: str) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        start: bytes | None = b""
        while start is not None:
            scan = self.engine.store.scan(keyspace, start)
            self.finish()
            piece = self.successResultOf(scan)
            found += [(key, record.value) for key, record in piece.items]
            start = piece.resume
        return found


class LargeBodyTests(StagingCase):
    def test_an_object_of_many_members_is_refused_at_the_second(self) -> None:
        body = b"{" + b",".join(b'"%d":1' % number for number in range(1000)) + b" no JSON"
        done = self.run_handler(self.profile.stage(Body(body)))
        self.assertIn("one key", str(self.failureResultOf(done, BadRequest).value))

    def test_the_deletion_of_a_key_that_is_too_long_changes_nothing(self) -> None:
        body = b'"' + b"k" * 10_000 + b'"'
        done = self.run_handler(self.profile.stage_deletion(Body(b" " + body + b"\n")))
        self.assertEqual(self.successResultOf(done).body, body)
        self.assertEqual(self.engine.store.usage(STAGED).records, 0)


class GatheringTests(StagingCase):
    def test_commits_together_gather_no_more_than_may_be_staged(self) -> None:
        gathered: list[int] = []
        for most, at_once in ((60_000, 3), (30_000, 2), (20_000, 1)):
            self.allow(most)
            for number in range(12):  # of several slices
                self.is_taken(self.stage(f"a{number}", "v" * 200))
            with patch.object(transactional, "gathered", counted_by(gathered)):
                gathered.clear()
                commits = [self.commit() for _ in range(3)]
                self.assertEqual(len(gathered), at_once, most)
                while not all(commit.called for commit in commits):
                    reactor.iterate(0)  # type: ignore[attr-defined]
                    self.finish()
            for commit in commits:
                self.assertEqual(self.successResultOf(commit).code, 204)


def counted_by(calls: list[int]) -> Callable[..., Any]:
    """`gathered`, with its calls counted."""
    before = transactional.gathered

    async def counted(*arguments: Any) -> Any:
        calls.append(1)
        return await before(*arguments)

    return counted
