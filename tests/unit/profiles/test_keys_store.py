"""`keys` on a store whose clock and journal the test moves: expiry to the second, and deletions by a filter."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from klein import Response
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from kvtwist.engine import Limits
from kvtwist.model import DATA, JSON, Put
from kvtwist.profiles import Settings
from kvtwist.profiles.keys import DELETED_AT_ONCE, Keys
from kvtwist.web.routing import Router
from tests.support.engine import Engine, EngineCase, FaultyDisk, SteppedWorker, result_of


class Request:
    """As much of a request as the handlers look at."""

    def __init__(self, method: bytes, uri: bytes, body: bytes = b"") -> None:
        self.method = method
        self.uri = uri
        self.content = BytesIO(body)


class KeysCase(EngineCase):
    def make_engine(self) -> Engine:
        self.journal_jobs = SteppedWorker()
        return Engine(self.path / "store", disk=FaultyDisk(), journal=self.journal_jobs)

    def setUp(self) -> None:
        super().setUp()
        self.router = Router([Keys(self.engine.store, Settings())])

    def begin(self, method: str, target: str, body: bytes = b"") -> Deferred[Response]:
        """Send a request."""
        route, key = self.router.find(method.encode(), target)
        assert route.handler is not None
        request = Request(method.encode(), target.encode(), body)
        handler: Any = route.handler(route.profile, request, *([] if key is None else [key]))
        return Deferred.fromCoroutine(handler)

    def ask(self, method: str, target: str, body: bytes = b"") -> int:
        """The status of the answer, once all is written that there is to write."""
        done = self.begin(method, target, body)
        for _ in range(1000):
            if done.called:
                break
            self.journal_jobs.finish()
            reactor.iterate(0)
        answer = result_of(done.addErrback(lambda failure: failure.value))
        return int(answer.code)

    def put(self, *keys: str) -> None:
        """Write some keys."""
        self.engine.store.transact([], [Put(DATA, key.encode(), b"1", JSON) for key in keys])
        self.journal_jobs.finish()

    def keys(self) -> list[str]:
        """All that there are."""
        return [key.decode() for key, _ in self.engine.items()]


class ExpiryTests(KeysCase):
    def test_a_key_is_gone_at_the_second(self) -> None:
        for target, body in (("/keys/a", b"1"), ("/keys", b'{"a":1}')):
            for seconds in (1, 60, 315_360_000):
                self.assertEqual(self.ask("PUT", f"{target}?expire_in={seconds}", body), 201)
                self.engine.clock.advance(seconds - 0.25)
                self.assertEqual(self.ask("GET", "/keys/a"), 200, (target, seconds))
                self.assertEqual(self.ask("PUT", f"{target}?expire_in={seconds}", body), 200)
                self.engine.clock.advance(seconds - 0.25)
                self.assertEqual(self.ask("GET", "/keys/a"), 200, (target, seconds))
                self.engine.clock.advance(0.25)
                self.assertEqual(self.ask("GET", "/keys/a"), 404, (target, seconds))
                self.assertEqual(self.keys(), [])

    def test_a_put_without_expiry_makes_it_stay(self) -> None:
        self.ask("PUT", "/keys/a?expire_in=60", b"1")
        self.ask("PUT", "/keys/a", b"1")
        self.engine.clock.advance(3600)
        self.assertEqual(self.ask("GET", "/keys/a"), 200)


class FilteredDeletionTests(KeysCase):
    def transactions(self) -> int:
        """How many have been written."""
        return self.engine.store.figures().transactions

    def test_what_a_filter_matches_goes_in_one_transaction(self) -> None:
        # Others get their turn between two slices; by then nothing has been deleted.
        self.engine.store.limits = Limits(slice_steps=5)
        names = [f"{number:02}{letter}" for number in range(40) for letter in "ab"]
        self.put(*names)
        before = self.transactions()
        done = self.begin("DELETE", "/keys?filter=$a")
        seen = []
        while not done.called:
            self.journal_jobs.finish()
            seen.append(len(self.keys()))
            reactor.iterate(0)
        self.assertEqual(result_of(done).code, 204)
        self.assertGreater(len(seen), 10)
        self.assertEqual(set(seen) - {40}, {80})
        self.assertEqual(self.keys(), names[1::2])
        self.assertEqual(self.transactions() - before, 1)

    def test_more_than_fits_one_transaction_goes_in_several(self) -> None:
        for count, transactions in ((0, 0), (1, 1), (DELETED_AT_ONCE, 1), (DELETED_AT_ONCE + 1, 2)):
            self.put("b", *(f"a{number:05}" for number in range(count)))
            before = self.transactions()
            self.assertEqual(self.ask("DELETE", "/keys?filter=a$"), 204)
            self.assertEqual(self.transactions() - before, transactions, count)
            self.assertEqual(self.keys(), ["b"])

    def test_a_key_that_is_written_meanwhile_goes_if_it_had_been_seen(self) -> None:
        self.engine.store.limits = Limits(slice_steps=5)
        self.put(*(f"a{number:02}" for number in range(20)))
        done = self.begin("DELETE", "/keys?filter=a$")
        reactor.iterate(0)
        self.put("a00", "a000", "a99")
        while not done.called:
            self.journal_jobs.finish()
            reactor.iterate(0)
        self.assertEqual(self.keys(), ["a000"])

    def test_it_is_done_once_it_is_durable(self) -> None:
        self.put("a", "b")
        done = self.begin("DELETE", "/keys?filter=a")
        self.assertFalse(done.called)
        self.journal_jobs.finish()
        self.assertEqual(result_of(done).code, 204)

    def test_a_client_that_leaves_while_keys_are_looked_for_has_deleted_nothing(self) -> None:
        self.engine.store.limits = Limits(slice_steps=5)
        names = [f"a{number:02}" for number in range(20)]
        self.put(*names)
        done = self.begin("DELETE", "/keys?filter=a$")
        done.addErrback(lambda failure: None)
        reactor.iterate(0)
        done.cancel()
        for _ in range(10):
            reactor.iterate(0)
            self.journal_jobs.finish()
        self.assertEqual(self.keys(), names)
