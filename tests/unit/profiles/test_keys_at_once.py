"""`PUT /keys` of many keys: how many there may be, in one request and in all together; and when they expire."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

from klein import Response
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from kvtwist.model import DATA
from kvtwist.profiles import Settings, _json
from kvtwist.profiles._steps import _SPAN, STEP, Permits, count_up_to, in_steps
from kvtwist.profiles.keys import Keys
from tests.support.engine import Engine, EngineCase, SteppedWorker, TestCase


class Put:
    """The part of a request that the handler uses."""

    def __init__(self, body: bytes, query: bytes = b"") -> None:
        self.content = BytesIO(body)
        self.uri = b"/keys" + query


def pairs(count: int, start: int = 0) -> dict[str, Any]:
    return {f"k{number:05}": number for number in range(start, start + count)}


class KeysCase(EngineCase):
    def make_engine(self) -> Engine:
        self.jobs = SteppedWorker()
        return Engine(self.path / "store", journal=self.jobs)

    def setUp(self) -> None:
        super().setUp()
        self.profile = Keys(self.engine.store, Settings(max_operations=10))

    def put(self, members: dict[str, Any] | bytes, query: bytes = b"") -> Deferred[Response]:
        body = members if isinstance(members, bytes) else json.dumps(members).encode()
        return Deferred.fromCoroutine(self.profile.put(Put(body, query)))  # type: ignore[arg-type]

    def finish(self) -> None:
        self.engine.pump()
        while self.jobs:
            self.jobs.step()
            self.engine.pump()

    def get(self, key: bytes) -> bytes | None:
        record = self.successResultOf(self.engine.store.get(DATA, key))
        return None if record is None else record.value


class ManyTests(KeysCase):
    def test_as_many_as_are_allowed(self) -> None:
        done = self.put(pairs(10))
        self.finish()
        self.assertEqual(json.loads(self.successResultOf(done).body), pairs(10))

    def test_one_more_is_refused_with_advice(self) -> None:
        for body in (json.dumps(pairs(11)).encode(), json.dumps(pairs(11)).encode()[:-1] + b"no JSON"):
            error = self.failureResultOf(self.put(body), RequestEntityTooLarge).value
            for word in ("10 keys", "several requests", "kvtwist import"):
                self.assertIn(word, error.description)
        self.assertEqual(self.engine.store.usage(DATA).records, 0)

    def test_all_requests_together_take_no_more_apart_at_a_time(self) -> None:
        first = self.put(pairs(6))
        second, third = self.put(pairs(6, 100)), self.put(pairs(4, 200))
        self.assertEqual(self.engine.store.usage(DATA).records, 6)
        self.finish()
        for done in (first, second, third):
            self.assertEqual(self.successResultOf(done).code, 201)
        self.assertEqual(self.engine.store.usage(DATA).records, 16)

    def test_a_request_that_fails_releases_its_permits(self) -> None:
        for body in (b'{"a":1,"b":2,"":3}', b"[::::::::::::]", b'{"a":1,"a":2}', b"::::::::::::::"):
            self.failureResultOf(self.put(body), BadRequest)
        done = self.put(pairs(10))
        self.finish()
        self.assertEqual(self.successResultOf(done).code, 201)

    def test_a_name_far_too_long_for_a_key_is_refused_as_one_that_is_a_little_too_long(self) -> None:
        def string(text: bytes) -> str:
            self.assertLessEqual(len(text), _json.LONGEST_NAME, "it would take long, at once")
            return decode(text)

        decode = _json.string
        self.patch(_json, "string", string)
        for length in (256, 10**6):
            for body in (b'{"%b":1}', b'{"id":"%b","value":1}'):
                done = self.put(body % (b"k" * length))
                while not done.called:
                    reactor.iterate(0)  # type: ignore[attr-defined]
                error = self.failureResultOf(done, BadRequest).value
                self.assertRegex(error.description, "1 to 255 bytes|too long")


class LargeTests(KeysCase):
    def test_it_works_in_steps(self) -> None:
        self.profile = Keys(self.engine.store, Settings(max_operations=5000))
        members = pairs(5000)
        done = self.put(members)
        self.assertNoResult(done)
        iterations = 0
        while not done.called:
            reactor.iterate(0)  # type: ignore[attr-defined]
            self.engine.iterate()
            if self.jobs:
                self.jobs.step()
            iterations += 1
        self.assertGreater(iterations, 5000 / 500)
        self.assertEqual(json.loads(self.successResultOf(done).body), members)
        self.assertEqual(self.engine.store.usage(DATA).records, 5000)


class ExpiryTests(KeysCase):
    def test_a_key_is_gone_after_so_many_seconds_and_not_before(self) -> None:
        for seconds in (1, 10, 60, 315_360_000):
            done = self.put(pairs(2), b"?expire_in=%d" % seconds)
            self.finish()
            self.successResultOf(done)
            self.engine.clock.advance(seconds - 0.5)
            self.assertEqual(self.get(b"k00001"), b"1")
            self.engine.clock.advance(0.5)
            self.assertIsNone(self.get(b"k00001"))
            self.finish()


class PermitsTests(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.permits = Permits(10)
        self.done: list[str] = []

    def hold(self, name: str, count: int) -> tuple[Deferred[None], Deferred[None]]:
        """Hold permits until the second Deferred fires; the first one fires then."""
        over: Deferred[None] = Deferred()

        async def work() -> None:
            async with self.permits.held(count):
                self.done.append(name)
                await over

        return Deferred.fromCoroutine(work()), over

    def test_they_are_given_in_order(self) -> None:
        _, first = self.hold("first", 6)
        _, second = self.hold("second", 6)
        self.hold("third", 1)
        self.assertEqual(self.done, ["first"], "the third does not pass the second")
        first.callback(None)
        self.assertEqual(self.done, ["first", "second", "third"])
        self.hold("fourth", 4)
        self.assertEqual(len(self.done), 3)
        second.callback(None)
        self.assertEqual(len(self.done), 4)

    def test_more_than_there_are_means_all(self) -> None:
        _, first = self.hold("first", 99)
        self.hold("second", 1)
        self.assertEqual(self.done, ["first"])
        first.callback(None)
        self.assertEqual(self.done, ["first", "second"])

    def test_a_request_that_leaves_the_queue_delays_none(self) -> None:
        _, first = self.hold("first", 6)
        waiting, _ = self.hold("second", 10)
        self.hold("third", 4)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertEqual(self.done, ["first", "third"])
        first.callback(None)
        self.hold("fourth", 6)
        self.assertEqual(self.done[-1], "fourth")


class StepsTests(TestCase):
    def test_one_that_is_cancelled_goes_on_no_more(self) -> None:
        steps: list[int] = []

        def work() -> Any:
            for number in range(10 * STEP):
                steps.append(number)
                yield

        done = Deferred.fromCoroutine(in_steps(work()))
        self.assertEqual(steps, [0])
        done.cancel()
        self.failureResultOf(done, CancelledError)
        reactor.iterate(0)  # type: ignore[attr-defined]
        self.assertEqual(steps, [0])

    def test_the_error_of_a_step_is_raised(self) -> None:
        def work() -> Any:
            yield
            raise ValueError("no")

        done = Deferred.fromCoroutine(in_steps(work()))
        while not done.called:
            reactor.iterate(0)  # type: ignore[attr-defined]
        self.failureResultOf(done, ValueError)

    def test_no_more_is_counted_than_is_asked_for(self) -> None:
        for text, most, count in (
            (b"", 5, 0),
            (b"a:b:", 5, 2),
            (b"::::", 4, 4),
            (b"::::", 3, 3),
            (b":" + b" " * _SPAN + b"::", 5, 3),
            (b":" + b" " * _SPAN + b"::", 2, 2),
            (b":" * (3 * _SPAN), 4 * _SPAN, 3 * _SPAN),
        ):
            self.assertEqual(count_up_to(text, b":", most), count)
