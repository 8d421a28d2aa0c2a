"""Locks: who holds one, for how long, and how a holder learns that it does not any more."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.defer import CancelledError, Deferred

from kvtwist.client import Lease, LockLost, PreconditionFailed, Unavailable
from tests.unit.client.network import ClientCase, Connection
from tests.unit.client.test_watch import put, removed

MODIFIED = "Tue, 14 Nov 2023 22:13:20 GMT"
TTL = 12
RENEWAL = TTL / 3


class LockCase(ClientCase):
    def setUp(self) -> None:
        super().setUp()
        self.lock = self.client.lock("leader", TTL, owner="me")

    def tearDown(self) -> None:
        super().tearDown()
        self.clock.advance(100)
        self.assertEqual(self.clock.getDelayedCalls(), [], "nothing is left of a lock")

    def taken(self, token: int = 7) -> Lease:
        done = self.lock.acquire()
        self.connection.answer(201, ETag=f'"{token}"')
        return self.successResultOf(done)

    def cancel(self, done: Deferred[Any]) -> None:
        """Give up what has no result yet."""
        self.assertNoResult(done)
        done.cancel()
        self.failureResultOf(done, CancelledError)

    def answer_with(self, connection: Connection, value: bytes, revision: int) -> None:
        headers = {"ETag": f'"{revision}"', "Last_Modified": MODIFIED, "Content_Type": "application/json"}
        connection.answer(200, value, **headers)


class AcquireTests(LockCase):
    def test_a_lock_is_a_key_that_is_new_and_expires(self) -> None:
        done = self.lock.acquire()
        self.assertEqual(self.connection.asked, ("PUT", f"/base/v1/kv/leader?ttl={TTL}"))
        self.assertEqual(self.connection.header("If-None-Match"), "*")
        self.assertEqual(msgspec.json.decode(self.connection.body)["owner"], "me")
        first = self.connection.body
        self.connection.answer(201, ETag='"7"')
        lease = self.successResultOf(done)
        self.assertEqual((lease.key, lease.token, lease.is_held), ("leader", 7, True))
        lease.check()
        done = self.lock.acquire()
        self.assertNotEqual(self.connection.body, first, "two holders of the same name are told apart")
        self.cancel(done)

    def test_it_waits_until_the_holder_has_left(self) -> None:
        for ending in (removed("delete", "leader", 9), removed("expire", "leader", 9), removed("clear", None, 9)):
            done = self.lock.acquire()
            self.connection.problem(412)
            self.assertEqual(self.connection.asked[0], "GET")
            self.answer_with(self.connection, b"{}", 5)
            self.assertEqual(self.connection.query, {"key": "leader", "after": "5"})
            events = self.connection
            events.begin_events("id: 5\n\n" + put("leader", 6) + put("leader", 7))
            self.assertNoResult(done)
            self.assertIs(self.connection, events)
            events.send_events(ending)
            self.assertTrue(events.is_closed)
            self.assertEqual(self.connection.asked[0], "PUT")
            self.connection.answer(201, ETag='"10"')
            self.assertEqual(self.successResultOf(done).token, 10)

    def test_a_holder_that_has_left_meanwhile(self) -> None:
        done = self.lock.acquire()
        self.connection.problem(412)
        self.connection.problem(404)
        self.assertEqual(self.connection.asked[0], "PUT")
        self.connection.answer(201, ETag='"10"')
        self.assertEqual(self.successResultOf(done).token, 10)

    def test_a_history_that_is_gone(self) -> None:
        done = self.lock.acquire()
        self.connection.problem(412)
        self.answer_with(self.connection, b"{}", 5)
        self.connection.problem(410, oldest=50)
        self.assertEqual(self.connection.asked[0], "PUT")
        self.cancel(done)

    def test_one_try(self) -> None:
        done = self.lock.try_acquire()
        self.connection.problem(412)
        self.assertIsNone(self.successResultOf(done))
        done = self.lock.try_acquire()
        self.connection.answer(201, ETag='"7"')
        self.assertEqual(self.successResultOf(done).token, 7)  # type: ignore[union-attr]

    def uncertain(self) -> tuple[Deferred[Lease], bytes]:
        """Two tries of which the first may have been done."""
        done = self.lock.acquire()
        value = self.connection.body
        self.connection.cut()
        self.next_connection(wait=1.0).problem(412)
        self.assertEqual(self.connection.asked[0], "GET")
        return done, value

    def test_its_own_write_is_recognized(self) -> None:
        done, value = self.uncertain()
        self.answer_with(self.connection, value, 8)
        lease = self.successResultOf(done)
        self.assertEqual(lease.token, 8)
        self.clock.advance(TTL - 1.001)
        self.assertTrue(lease.is_held)
        self.clock.advance(0.001)
        self.assertFalse(lease.is_held, "the time counts from the first try")

    def test_so_is_that_of_another(self) -> None:
        done, value = self.uncertain()
        self.answer_with(self.connection, value + b" ", 8)
        self.assertEqual(self.connection.asked[0], "GET")
        self.cancel(done)

    def test_so_is_that_it_was_not_done(self) -> None:
        done, _ = self.uncertain()
        self.connection.problem(404)
        self.connection.problem(404)
        self.assertEqual(self.connection.asked[0], "PUT")
        self.cancel(done)

    def test_a_server_that_cannot_be_reached(self) -> None:
        self.network.refuses = True
        done = self.lock.acquire()
        self.clock.pump([1.0, 2.0, 4.0])
        self.failed(done, Unavailable)

    def test_an_answer_that_comes_too_late_is_no_lock(self) -> None:
        client = self.new_client(timeout=60)
        done = client.lock("leader", TTL).acquire()
        self.clock.advance(TTL)
        self.connection.answer(201, ETag='"7"')
        lease = self.successResultOf(done)
        self.assertFalse(lease.is_held)
        self.assertRaises(LockLost, lease.check)
        lost = lease.lost()
        self.clock.advance(0)
        self.successResultOf(lost)


class RenewalTests(LockCase):
    def renewal(self) -> Connection:
        """The next one."""
        connection = self.next_connection(wait=RENEWAL)
        self.assertEqual(connection.asked, ("PUT", f"/base/v1/kv/leader?ttl={TTL}"))
        return connection

    def test_it_is_renewed_three_times_in_its_life(self) -> None:
        lease = self.taken()
        value = self.connection.body
        for revision in range(7, 20):
            renewal = self.renewal()
            self.assertEqual((renewal.header("If-Match"), renewal.body), (f'"{revision}"', value))
            renewal.answer(204, ETag=f'"{revision + 1}"')
            self.assertTrue(lease.is_held)
        self.assertEqual(lease.token, 7)

    def test_its_life_counts_from_when_a_renewal_was_asked_for(self) -> None:
        lease = self.taken()
        renewal = self.renewal()
        self.clock.advance(3)
        renewal.answer(204, ETag='"8"')
        lost = lease.lost()
        self.network.refuses = True
        self.clock.advance(TTL - 3 - 0.001)
        self.assertTrue(lease.is_held)
        self.assertNoResult(lost)
        self.clock.advance(0.001)
        self.assertFalse(lease.is_held)
        self.assertEqual(self.successResultOf(lost), "it was not renewed in time")

    def test_a_lock_that_another_has_is_lost(self) -> None:
        lease = self.taken()
        both = [lease.lost(), lease.lost()]
        self.renewal().problem(412)
        for lost in [*both, lease.lost()]:
            self.assertIn("another client", self.successResultOf(lost))
        self.assertFalse(lease.is_held)
        self.assertIn("another client", str(self.assertRaises(LockLost, lease.check)))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_server_that_is_away_for_a_moment(self) -> None:
        lease = self.taken()
        self.network.refuses = True
        self.clock.pump([RENEWAL, 1.0, 2.0])
        self.network.refuses = False
        self.clock.advance(4.0)
        self.assertTrue(lease.is_held)
        self.connection.answer(204, ETag='"8"')
        self.clock.advance(TTL - 7.0 - 0.001)
        self.assertTrue(lease.is_held)

    def test_one_that_is_away_for_too_long(self) -> None:
        lease = self.taken()
        lost = lease.lost()
        self.network.refuses = True
        self.clock.pump([0.125] * (TTL * 8 - 1))
        self.assertNoResult(lost)
        self.clock.advance(0.125)
        self.successResultOf(lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertFalse(lease.is_held)

    def test_a_server_that_does_not_answer(self) -> None:
        lease = self.taken()
        lost = lease.lost()
        renewal = self.renewal()
        self.clock.advance(TTL - RENEWAL)
        self.successResultOf(lost)
        self.assertTrue(renewal.is_closed)

    def test_a_renewal_that_was_done_after_all(self) -> None:
        for value_of, revision, held in (
            (bytes, 8, True),
            (lambda value: value + b" ", 8, False),
            (lambda value: None, 0, False),
        ):
            lease = self.taken()
            value = self.connection.body
            self.renewal().cut()
            self.next_connection(wait=1.0).problem(412)
            found = value_of(value)
            if found is None:
                self.connection.problem(404)
            else:
                self.answer_with(self.connection, found, revision)
            self.assertIs(lease.is_held, held)
            if held:
                self.clock.advance(TTL - 1 - 0.001)
                self.assertTrue(lease.is_held)
                self.assertEqual(self.connection.header("If-Match"), '"8"')
                self.clock.advance(0.001)
                self.assertFalse(lease.is_held)

    def test_one_that_was_not_done_is_tried_again(self) -> None:
        lease = self.taken()
        value = self.connection.body
        self.renewal().cut()
        self.next_connection(wait=1.0).problem(412)
        self.answer_with(self.connection, value, 7)
        self.next_connection(wait=RENEWAL / 4).answer(204, ETag='"8"')
        self.clock.advance(TTL - 0.001)
        self.assertTrue(lease.is_held)

    def test_a_renewal_that_the_server_refuses(self) -> None:
        lease = self.taken()
        lost = lease.lost()
        self.renewal().problem(400, detail="no")
        self.assertEqual(self.successResultOf(lost), "no")


class ReleaseTests(LockCase):
    def test_it_is_deleted_if_it_is_still_its_own(self) -> None:
        lease = self.taken()
        lost = lease.lost()
        self.next_connection(wait=RENEWAL).answer(204, ETag='"8"')
        done = lease.release()
        self.assertEqual((self.connection.asked[0], self.connection.header("If-Match")), ("DELETE", '"8"'))
        self.assertFalse(lease.is_held)
        self.assertIn("it was released", str(self.assertRaises(LockLost, lease.check)))
        self.connection.answer(204)
        self.successResultOf(done)
        self.assertNoResult(lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_once_is_enough(self) -> None:
        lease = self.taken()
        done = lease.release()
        self.connection.answer(204)
        self.successResultOf(done)
        made = self.network.attempts
        self.successResultOf(lease.release())
        self.assertEqual(self.network.attempts, made)

    def test_what_was_lost_is_not_released(self) -> None:
        lease = self.taken()
        self.next_connection(wait=RENEWAL).problem(412)
        made = self.network.attempts
        self.successResultOf(lease.release())
        self.assertEqual(self.network.attempts, made)

    def test_what_cannot_be_released_expires(self) -> None:
        lease = self.taken()
        self.network.refuses = True
        done = lease.release()
        self.clock.pump([1.0, 2.0, 4.0])
        self.successResultOf(done)

    def test_a_renewal_under_way_does_not_keep_it(self) -> None:
        for still_ours in (True, False):
            lease = self.taken()
            value = self.connection.body
            self.next_connection(wait=RENEWAL)
            done = lease.release()
            self.connection.problem(412)
            self.answer_with(self.connection, value if still_ours else b"{}", 8)
            if still_ours:
                self.assertEqual((self.connection.asked[0], self.connection.header("If-Match")), ("DELETE", '"8"'))
                self.connection.answer(204)
            self.successResultOf(done)

    def test_blocks(self) -> None:
        async def use(lease_or_lock: Any) -> None:
            async with lease_or_lock as lease:
                seen.append(lease.is_held)
                await waiting

        for make in (lambda: self.lock, self.taken):
            seen: list[bool] = []
            waiting: Deferred[None] = Deferred()
            done = Deferred.fromCoroutine(use(make()))
            if not seen:
                self.connection.answer(201, ETag='"7"')
            waiting.errback(ValueError())
            self.connection.answer(204)
            self.failureResultOf(done, ValueError)
            self.assertEqual((seen, self.connection.asked[0]), ([True], "DELETE"))


class UpdateTests(ClientCase):
    def found(self, value: bytes, revision: int, content_type: str = "text/a") -> None:
        headers = {"ETag": f'"{revision}"', "Last_Modified": MODIFIED, "Content_Type": content_type}
        self.connection.answer(200, value, **headers)

    def test_it_is_repeated_until_nobody_was_faster(self) -> None:
        done = self.client.update("a", lambda record: record.text + "+" if record else "new", ttl=5)
        self.connection.problem(404)
        self.assertEqual((self.connection.body, self.connection.header("If-None-Match")), (b"new", "*"))
        self.connection.problem(412)
        self.found(b"x", 7)
        self.assertEqual((self.connection.body, self.connection.header("If-Match")), (b"x+", '"7"'))
        self.assertEqual((self.connection.header("Content-Type"), self.connection.query), ("text/a", {"ttl": "5"}))
        self.connection.answer(204, ETag='"9"')
        self.assertEqual(self.successResultOf(done), 9)

    def test_nothing_to_do(self) -> None:
        done = self.client.update("a", lambda record: None)
        self.found(b"x", 7)
        self.assertEqual(self.successResultOf(done), 7)
        done = self.client.update("a", lambda record: None)
        self.connection.problem(404)
        self.assertEqual(self.successResultOf(done), 0)

    def test_an_error_of_the_function_is_the_callers(self) -> None:
        def function(record: object) -> str:
            raise ZeroDivisionError

        done = self.client.update("a", function)
        self.connection.problem(404)
        self.failed(done, ZeroDivisionError)

    def test_it_ends(self) -> None:
        done = self.client.update("a", lambda record: b"")
        for _ in range(100):
            self.assertNoResult(done)
            self.connection.problem(404)
            self.connection.problem(412)
        self.failed(done, PreconditionFailed)
