"""What is sent again and what is not, how long the client waits, and what errors say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from kvtwist.client import (
    Backoff,
    Client,
    ClientError,
    Invalid,
    Json,
    NoSpace,
    PreconditionFailed,
    TooLarge,
    Unavailable,
    Uncertain,
    Unexpected,
)
from kvtwist.client._http import seconds_of
from tests.unit.client.network import ClientCase, Connection

Call = Callable[[Client], Deferred[Any]]
EPOCH_MS = 1_700_000_000_000
MODIFIED = "Tue, 14 Nov 2023 22:13:20 GMT"


def read(client: Client) -> Deferred[Any]:
    return client.get("a")


def blind(client: Client) -> Deferred[Any]:
    return client.put("a", b"1")


def conditional(client: Client) -> Deferred[Any]:
    return client.put("a", b"1", if_revision=7)


def blind_delete(client: Client) -> Deferred[Any]:
    return client.delete("a")


def conditional_delete(client: Client) -> Deferred[Any]:
    return client.delete("a", if_revision=7)


READS: list[Call] = [
    read,
    lambda client: client.status(),
    lambda client: client.txn().get("a").range("b").commit(),
]
REPEATED_WRITES: list[Call] = [
    conditional,
    conditional_delete,
    lambda client: client.put("a", b"1", if_revision=0),
    lambda client: client.put("a", b"1", retry=True),
    lambda client: client.delete("a", retry=True),
    lambda client: client.txn().put("a", b"1").commit(retry=True),
    lambda client: client.txn().if_absent("a").put("a", b"1").commit(),
    lambda client: client.txn().if_revision("a", 0).put("a", b"1").commit(),
    lambda client: client.txn().if_revision("a", 7).put("a", b"1").otherwise().get("a").commit(),
    lambda client: client.txn().if_revision("a", 7).delete("a").commit(),
    lambda client: client.txn().if_exists("a").put("a", b"1").delete("a").commit(),
    lambda client: client.txn().if_exists("b").if_exists("a").put("b", b"1").delete("a").commit(),
]
SINGLE_WRITES: list[Call] = [
    blind,
    blind_delete,
    lambda client: client.delete_prefix("a"),
    lambda client: client.txn().put("a", b"1").commit(),
    lambda client: client.txn().if_exists("a").put("a", b"1").commit(),
    lambda client: client.txn().if_exists("a").delete("a").put("a", b"1").commit(),
    lambda client: client.txn().if_absent("a").delete("a").commit(),
    lambda client: client.txn().if_revision("a", 0).delete("a").commit(),
    lambda client: client.txn().if_revision("b", 7).put("a", b"1").commit(),
    lambda client: client.txn().if_absent("a").put("a", b"1").otherwise().put("b", b"1").commit(),
]


class RetryTests(ClientCase):
    def test_what_the_server_has_not_seen_is_sent_again(self) -> None:
        for call in [*READS, *REPEATED_WRITES, *SINGLE_WRITES]:
            before = self.network.attempts
            self.network.refuses = True
            done = call(self.client)
            self.network.refuses = False
            self.assertEqual(self.network.attempts, before + 1)
            self.next_connection(wait=1.0)
            done.cancel()
            self.failureResultOf(done)

    def test_a_server_that_cannot_be_reached_is_unavailable_after_four_tries(self) -> None:
        for call in [*READS, *REPEATED_WRITES, *SINGLE_WRITES]:
            before = self.network.attempts
            self.network.refuses = True
            done = call(self.client)
            for wait in (1.0, 2.0, 4.0):
                self.assertNoResult(done)
                self.clock.advance(wait)
            error = self.failed(done, Unavailable)
            self.assertIn("http://server/base cannot be reached", str(error))
            self.assertEqual(self.network.attempts, before + 4)

    def test_reads_and_writes_that_break_their_condition_are_sent_again_after_a_cut(self) -> None:
        for call in [*READS, *REPEATED_WRITES]:
            done = call(self.client)
            first = self.connection
            first.cut()
            second = self.next_connection(wait=1.0)
            self.assertEqual((second.asked, second.body), (first.asked, first.body))
            done.cancel()
            self.failureResultOf(done)

    def test_other_writes_are_not(self) -> None:
        for call in SINGLE_WRITES:
            done = call(self.client)
            self.connection.cut()
            self.assertIn("not known whether", str(self.failed(done, Uncertain)))

    def test_a_read_without_an_answer_is_not_uncertain(self) -> None:
        for call in READS:
            done = call(self.client)
            for wait in (1.0, 2.0, 4.0, 0):
                self.connection.cut()
                self.clock.advance(wait)
            self.failed(done, Unavailable)

    def test_one_cut_makes_a_write_uncertain_whatever_comes_after(self) -> None:
        done = conditional(self.client)
        self.connection.cut()
        self.network.refuses = True
        for wait in (1.0, 2.0, 4.0):
            self.clock.advance(wait)
        self.failed(done, Uncertain)

    def test_a_412_after_a_cut_may_be_of_the_first_try(self) -> None:
        done = conditional(self.client)
        self.connection.cut()
        self.next_connection(wait=1.0).problem(412, detail="no")
        self.failed(done, Uncertain)

        done = conditional(self.client)
        self.connection.problem(503)
        self.next_connection(wait=1.0).problem(412, detail="no")
        self.failed(done, PreconditionFailed)

    def test_a_404_of_a_conditional_deletion_after_a_cut_may_be_of_the_first_try(self) -> None:
        done = conditional_delete(self.client)
        self.connection.cut()
        self.next_connection(wait=1.0).problem(404)
        self.failed(done, Uncertain)

        done = self.client.delete("a", retry=True)
        self.connection.cut()
        self.next_connection(wait=1.0).problem(404)
        self.assertIs(self.successResultOf(done), False)

    def test_a_transaction_that_does_not_hold_after_a_cut_may_have_been_done(self) -> None:
        answer = {"committed": False, "revision": 9, "results": []}
        done = self.client.txn().if_absent("a").put("a", "1").commit()
        self.connection.cut()
        self.next_connection(wait=1.0).answer_json(answer)
        self.failed(done, Uncertain)

        done = self.client.txn().if_absent("a").get("a").commit()
        self.connection.cut()
        self.next_connection(wait=1.0).answer_json(answer)
        self.assertIs(self.successResultOf(done).committed, False)

    def test_of_503_only_what_may_be_repeated_is_repeated(self) -> None:
        for call in [*READS, *REPEATED_WRITES]:
            done = call(self.client)
            self.connection.problem(503, detail="busy")
            self.next_connection(wait=1.0)
            done.cancel()
            self.failureResultOf(done)
        for call in SINGLE_WRITES:
            done = call(self.client)
            self.connection.problem(503, detail="busy")
            self.assertIn("cannot serve now: busy", str(self.failed(done, Unavailable)))

    def test_a_proxy_that_has_no_answer_leaves_a_write_uncertain(self) -> None:
        for status in (502, 504):
            done = blind(self.client)
            self.connection.answer(status, b"<html>")
            self.failed(done, Uncertain)
            done = read(self.client)
            self.connection.answer(status, b"<html>")
            self.next_connection(wait=1.0)

    def test_retry_after_is_heeded(self) -> None:
        done = read(self.client)
        self.connection.answer(503, Retry_After="5")
        self.next_connection(wait=5.0).answer(503, Retry_After="0")
        self.next_connection(wait=2.0)
        self.assertNoResult(done)

    def test_nobody_waits_for_an_hour(self) -> None:
        done = read(self.client)
        self.connection.answer(503, Retry_After="3600")
        error = self.failed(done, Unavailable)
        assert isinstance(error, Unavailable)
        self.assertEqual(error.retry_after, 3600.0)

    def test_the_number_of_tries_is_the_callers(self) -> None:
        done = read(self.new_client(tries=1))
        self.connection.cut()
        self.failed(done, Unavailable)


class TimeTests(ClientCase):
    def test_a_try_that_takes_too_long_is_given_up(self) -> None:
        done = read(self.client)
        first = self.connection
        self.clock.advance(10)
        self.assertTrue(first.is_closed)
        self.next_connection(wait=1.0)
        self.assertNoResult(done)

    def test_so_is_one_whose_body_does_not_come_to_its_end(self) -> None:
        done = blind(self.new_client(timeout=3))
        self.connection.send(b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nab")
        self.clock.advance(2.9)
        self.assertNoResult(done)
        self.clock.advance(0.1)
        self.assertIn("no answer within 3 s", str(self.failed(done, Uncertain)))
        self.assertTrue(self.connection.is_closed)

    def test_what_has_no_connection_was_not_seen(self) -> None:
        self.network.hangs = True
        done = blind(self.new_client(tries=2))
        self.clock.advance(10)
        self.clock.advance(1)
        self.assertEqual(self.network.attempts, 2)
        self.clock.advance(10)
        self.assertIn("no connection within 10 s", str(self.failed(done, Unavailable)))

    def test_a_caller_may_give_up(self) -> None:
        for hangs in (False, True):
            self.network.hangs = hangs
            done = read(self.client)
            done.cancel()
            self.failureResultOf(done, CancelledError)
            self.assertTrue(self.connection.is_closed)
        self.network.hangs = False
        done = read(self.client)
        self.connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na")
        done.cancel()
        self.failed(done, CancelledError)
        self.assertTrue(self.connection.is_closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_caller_may_give_up_while_the_client_waits(self) -> None:
        done = read(self.client)
        self.connection.cut()
        done.cancel()
        self.failed(done, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_only_so_many_calls_are_under_way(self) -> None:
        client = self.new_client(connections=2)
        calls = [read(client) for _ in range(4)]
        self.assertEqual(len(self.network.connections), 2)
        self.connection.cut()  # one that waits before it is repeated holds nobody up
        self.assertEqual(len(self.network.connections), 3)
        calls[3].cancel()
        self.failed(calls[3], CancelledError)
        self.network.connections[0].problem(404)
        self.assertIsNone(self.successResultOf(calls[0]))
        self.assertEqual(len(self.network.connections), 3)


class AnswerTests(ClientCase):
    def test_errors_by_status(self) -> None:
        kinds: dict[int, type[ClientError]] = {
            400: Invalid,
            404: Unexpected,
            405: Unexpected,
            412: PreconditionFailed,
            413: TooLarge,
            414: TooLarge,
            431: TooLarge,
            500: Unexpected,
            507: NoSpace,
        }
        for status, kind in kinds.items():
            for call in (blind, lambda client: client.txn().commit()):
                done = call(self.client)
                self.connection.problem(status, title="Title", detail="because")
                self.assertEqual(str(self.failed(done, kind)), "because")

    def test_an_error_that_does_not_explain_itself(self) -> None:
        for body in (b"", b"{", b"\xff", b"[]", b'{"title": 1}'):
            done = blind(self.client)
            self.connection.answer(412, body, Content_Type="application/problem+json")
            self.assertEqual(str(self.failed(done, PreconditionFailed)), "status 412")
        done = blind(self.client)
        self.connection.problem(412, title="Precondition Failed")
        self.assertEqual(str(self.failed(done, PreconditionFailed)), "Precondition Failed")

    def test_another_server(self) -> None:
        """A 404 of a server that knows no such route is not that of a missing key."""
        for call in (read, blind_delete):
            done = call(self.client)
            self.connection.answer(404, b"<html>", Content_Type="text/html")
            self.assertIn("is that profile served there?", str(self.failed(done, Unexpected)))
        done = blind(self.client)
        self.connection.answer(301, Location="http://elsewhere/")
        self.failed(done, Unexpected)

    def test_a_missing_key(self) -> None:
        done = read(self.client)
        self.connection.problem(404)
        self.assertIsNone(self.successResultOf(done))
        done = blind_delete(self.client)
        self.connection.problem(404)
        self.assertIs(self.successResultOf(done), False)

    def test_what_a_record_has(self) -> None:
        done = read(self.client)
        self.connection.answer(
            200, b"\xff", Content_Type="image/png", ETag='"17"', Last_Modified=MODIFIED, Expires=MODIFIED
        )
        record = self.successResultOf(done)
        self.assertEqual((record.key, record.value, record.content_type), ("a", b"\xff", "image/png"))
        self.assertEqual((record.revision, record.modified_ms, record.expires_ms), (17, EPOCH_MS, EPOCH_MS))

    def test_headers_that_are_not_those_of_a_record(self) -> None:
        headers: list[dict[str, str]] = [
            {"ETag": '"1"'},
            {"Last_Modified": MODIFIED},
            {"Last_Modified": MODIFIED, "ETag": '"x"'},
            {"Last_Modified": "today", "ETag": '"1"'},
        ]
        for said in headers:
            done = read(self.client)
            self.connection.answer(200, b"", **said)
            self.failed(done, Unexpected)

    def test_json_that_is_not_that_of_the_api(self) -> None:
        for call in (lambda client: client.status(), lambda client: client.txn().commit()):
            for body in (b"", b"[]", b"{}", b"\xff", b'{"committed": true, "revision": 1, "results": [1]}'):
                done = call(self.client)
                self.connection.answer(200, body)
                self.failed(done, Unexpected)


class SentTests(ClientCase):
    def sent(self, done: Deferred[Any]) -> Connection:
        done.addErrback(lambda failure: None)
        return self.connection

    def test_where_and_how(self) -> None:
        sent = self.sent(self.client.put("a/ü?", "text", ttl=5, if_revision=7))
        self.assertEqual(sent.asked, ("PUT", "/base/v1/kv/a%2F%C3%BC%3F?ttl=5"))
        self.assertEqual(sent.body, b"text")
        self.assertEqual(sent.header("If-Match"), '"7"')
        self.assertEqual(sent.header("Content-Type"), "text/plain")
        sent = self.sent(self.client.put("a", Json([1]), if_revision=0))
        self.assertEqual((sent.body, sent.header("Content-Type")), (b"[1]", "application/json"))
        self.assertEqual((sent.header("If-Match"), sent.header("If-None-Match")), (None, "*"))
        sent = self.sent(self.client.put("a", b"1"))
        self.assertEqual(
            (sent.header("Content-Type"), sent.header("If-None-Match")), ("application/octet-stream", None)
        )
        sent = self.sent(self.client.put("a", Json([1]), content_type="a/json"))
        self.assertEqual(sent.header("Content-Type"), "a/json")
        sent = self.sent(self.client.delete_prefix("a+&"))
        self.assertEqual(sent.asked, ("DELETE", "/base/v1/kv?prefix=a%2B%26"))

    def test_what_makes_no_sense_is_not_sent(self) -> None:
        half = "\ud800"
        calls: list[Call] = [
            lambda client: client.get(""),
            lambda client: client.put("", b""),
            lambda client: client.delete(""),
            lambda client: client.delete_prefix(""),
            lambda client: client.get(half),
            lambda client: client.put("a", half),
            lambda client: client.delete_prefix(half),
        ]
        for call in calls:
            self.failed(call(self.client), Invalid)
        for build in (
            lambda: self.client.txn().put(half, ""),
            lambda: self.client.txn().put("a", half),
            lambda: self.client.txn().get(half),
            lambda: self.client.txn().delete(half),
            lambda: self.client.txn().range(half),
            lambda: self.client.txn().range(after=half),
            lambda: self.client.txn().if_absent(half),
            lambda: self.client.watch("a", key="b"),
        ):
            self.assertRaises(Invalid, build)
        self.assertEqual(self.network.attempts, 0)

    def test_urls(self) -> None:
        for url in ("", "localhost:4000", "ftp://a", "http://", "http://a?b", "http://a#b", "unix:/a"):
            self.assertRaises(Invalid, Client, url, reactor=self.clock)
        for url in ("http://a", "HTTP://a/", "https://a:1/b/"):
            self.assertEqual(Client(url, reactor=self.clock).url, url.rstrip("/"))


class WaitTests(SynchronousTestCase):
    def test_a_backoff_doubles_up_to_its_longest(self) -> None:
        backoff = Backoff(first=0.5, longest=3.0, chance=lambda: 1.0)
        self.assertEqual([backoff.seconds(failures) for failures in (1, 2, 3, 4, 5000)], [0.5, 1.0, 2.0, 3.0, 3.0])

    def test_chance_takes_up_to_half_of_it(self) -> None:
        self.assertEqual(Backoff(first=2.0, chance=lambda: 0.0).seconds(1), 1.0)
        self.assertEqual(Backoff(first=2.0, chance=lambda: 0.5).seconds(1), 1.5)
        usual = Backoff()
        for failures in range(1, 20):
            self.assertTrue(0.05 <= usual.seconds(failures) <= 5.0)

    def test_retry_after(self) -> None:
        now = 1_700_000_000.0
        for text, seconds in (
            (None, None),
            ("5", 5.0),
            (" 0 ", 0.0),
            ("Tue, 14 Nov 2023 22:13:30 GMT", 10.0),
            ("Tue, 14 Nov 2023 22:13:00 GMT", 0.0),
            ("soon", None),
            ("-1", None),
            ("", None),
            ("9" * 400, None),
        ):
            self.assertEqual(seconds_of(text, now), seconds, text)
