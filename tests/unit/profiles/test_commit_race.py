"""`POST /commit` while other requests stage and commit: it is atomic, and it ends however busy they are."""

from __future__ import annotations

import errno
from io import BytesIO
from typing import Any

from klein import Response
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from kvtwist.engine import Limits
from kvtwist.model import DATA, STAGED, NoRoom
from kvtwist.profiles import Settings
from kvtwist.profiles.transactional import Transactional
from tests.support.engine import Engine, EngineCase, FaultyDisk, SteppedWorker, failure_of, result_of


class Body:
    """The part of a request that the handlers use."""

    def __init__(self, text: bytes) -> None:
        self.content = BytesIO(text)


class CommitRaceTests(EngineCase):
    """The test decides when the journal is written."""

    disk: FaultyDisk

    def make_engine(self) -> Engine:
        self.disk = FaultyDisk()
        self.journal_jobs = SteppedWorker()
        return Engine(self.path / "store", disk=self.disk, journal=self.journal_jobs)

    def setUp(self) -> None:
        super().setUp()
        self.profile = Transactional(self.engine.store, Settings())

    def stage(self, text: bytes) -> Deferred[Response]:
        return run(self.profile.stage(Body(text)))

    def commit(self) -> Deferred[Response]:
        return run(self.profile.commit(None))

    def test_two_commits_at_once_both_succeed(self) -> None:
        for number in range(5):
            self.stage(b'{"k%d":%d}' % (number, number))
        commits = [self.commit(), self.commit()]
        self.journal_jobs.finish()
        self.assertEqual([self.successResultOf(done).code for done in commits], [204, 204])
        self.assertEqual(self.engine.items(STAGED), [])
        self.assertEqual(self.engine.items(DATA), [(b"k%d" % n, b"%d" % n) for n in range(5)])

    def test_it_ends_after_a_change_that_found_no_room(self) -> None:
        self.stage(b'{"k":1}')
        self.journal_jobs.finish()
        self.disk.fail("write", errno.ENOSPC, times=2)
        lost = [self.stage(b'{"k":2}'), self.stage(b'{"l":2}')]
        self.journal_jobs.finish()
        for deferred in lost:
            self.failureResultOf(deferred, NoRoom)
        self.allow_transactions(50)
        commit = self.commit()
        self.journal_jobs.finish()
        self.assertEqual(self.successResultOf(commit).code, 204)
        self.assertEqual(self.engine.items(DATA), [(b"k", b"1")])

    def test_changes_that_were_rolled_back_are_not_committed(self) -> None:
        self.stage(b'{"k":1}')
        self.journal_jobs.finish()
        self.disk.fail("write", errno.ENOSPC)
        lost = self.stage(b'{"k":2}')
        commit = self.commit()
        self.journal_jobs.finish()
        self.failureResultOf(lost, NoRoom)
        self.assertEqual(self.successResultOf(commit).code, 204)
        self.assertEqual(self.engine.items(DATA), [(b"k", b"1")])
        self.assertEqual(self.engine.items(STAGED), [])

    def test_a_commit_that_finds_no_room_delays_no_request(self) -> None:
        self.stage(b'{"k":1}')
        self.journal_jobs.finish()
        self.disk.fail("write", errno.ENOSPC)
        commits = [self.commit(), self.commit()]
        staged = self.stage(b'{"k":2}')
        self.allow_transactions(50)
        self.journal_jobs.finish()
        for deferred in (*commits, staged):
            self.assertTrue(deferred.called)
            self.assertIn(type(failure_of(deferred)), (type(None), NoRoom))
        again = self.commit()
        self.journal_jobs.finish()
        self.assertEqual(self.successResultOf(again).code, 204)
        self.assertEqual(self.engine.items(STAGED), [])
        self.assertEqual([key for key, _ in self.engine.items(DATA)], [b"k"])

    def allow_transactions(self, count: int) -> None:
        """Let so many succeed, and then none, to end a loop that would go on for ever."""
        transact = self.engine.store.transact
        left = [None] * count

        def counted(*arguments: Any) -> Any:
            if not left:
                raise AssertionError("it goes on for ever")
            left.pop()
            return transact(*arguments)

        self.patch(self.engine.store, "transact", counted)

    def test_changes_staged_meanwhile_are_committed_or_stay(self) -> None:
        for steps in range(8):
            self.stage(b'{"k":"old"}')
            self.journal_jobs.finish()
            commit = self.commit()
            for _ in range(steps):
                if self.journal_jobs:
                    self.journal_jobs.step()
            staged = self.stage(b'{"k":"new"}')
            self.journal_jobs.finish()
            self.assertEqual(self.successResultOf(commit).code, 204)
            self.assertEqual(self.successResultOf(staged).code, 200)
            [(_, value)] = self.engine.items(DATA)
            left = self.engine.items(STAGED)
            self.assertIn((value, left), [(b'"new"', []), (b'"old"', [(b"k", b'"new"')])])
            done = self.commit()
            self.journal_jobs.finish()
            self.successResultOf(done)
            self.assertEqual(self.engine.items(DATA), [(b"k", b'"new"')])

    def test_it_comes_to_an_end_while_others_stage_the_same_key_all_the_time(self) -> None:
        self.stage(b'{"k":0}')
        commit = self.commit()
        for number in range(100):
            self.stage(b'{"k":%d}' % number)
            self.stage(b'{"k%d":%d}' % (number, number))
            self.journal_jobs.step()
            if commit.called:
                break
        self.assertTrue(commit.called, "it looks again and again, and there is always something new")
        self.assertEqual(result_of(commit).code, 204)
        self.journal_jobs.finish()

    def test_a_long_queue_is_committed_as_it_was_at_one_instant(self) -> None:
        # It is scanned in several slices, and other requests are answered in between.
        self.engine.store.limits = Limits(slice_entries=5)
        for number in range(40):
            self.stage(b'{"m%02d":1}' % number)
        self.journal_jobs.finish()
        commit = self.commit()
        first = self.stage(b'{"a":1}')
        self.journal_jobs.finish()
        self.successResultOf(first)
        last = self.stage(b'{"z":1}')
        attempts = 0
        while not commit.called:
            reactor.iterate(0)
            self.journal_jobs.finish()
            attempts += 1
            self.assertLess(attempts, 1000)
        self.assertEqual(result_of(commit).code, 204)
        self.successResultOf(last)
        committed = dict(self.engine.items(DATA))
        self.assertEqual(len([key for key in committed if key.startswith(b"m")]), 40)
        self.assertLessEqual(
            b"z" in committed, b"a" in committed, "what was staged later was committed, what before was not"
        )


def run(handler: Any) -> Deferred[Response]:
    return Deferred.fromCoroutine(handler)
