"""What a watch tells over connections that are cut, servers that forget, and listings that take a while."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from kvtwist.client import Clear, Delete, Expire, Invalid, Listed, Put, Record, Reset, TooLarge, Unavailable, Unexpected
from kvtwist.client._coverage import Coverage
from kvtwist.client._watch import SILENCE, Watch
from tests.unit.client.network import ClientCase, Connection


def put(key: str, revision: int, last: bool = True) -> str:
    """The event of a put."""
    item = {
        "key": key,
        "value": "v",
        "content_type": "text/plain",
        "revision": revision,
        "modified": 5,
        "expires": None,
    }
    return event("put", item, revision if last else None)


def removed(kind: str, key: str | None, revision: int, last: bool = True) -> str:
    """The event of another change."""
    fields = {} if key is None else {"key": key}
    return event(kind, {**fields, "revision": revision, "modified": 5}, revision if last else None)


def event(kind: str, data: object, id: int | None) -> str:
    return f"event: {kind}\n" + (f"id: {id}\n" if id is not None else "") + f"data: {json.dumps(data)}\n\n"


def told(key: str, revision: int) -> Put:
    return Put(Record(key, b"v", "text/plain", revision, 5, None))


def items(*pairs: tuple[str, int]) -> list[dict[str, Any]]:
    fields = {"value": "v", "content_type": "text/plain", "modified": 5, "expires": None}
    return [{"key": key, "revision": revision, **fields} for key, revision in pairs]


class WatchCase(ClientCase):
    def next(self, watch: Watch) -> Deferred[Any]:
        return Deferred.fromCoroutine(watch.__anext__())

    def all(self, watch: Watch) -> list[Any]:
        """All that a watch tells now; the last call, which waits, is cancelled."""
        found = []
        while True:
            done = self.next(watch)
            if not done.called:
                done.cancel()
                self.failureResultOf(done, CancelledError)
                return found
            found.append(self.successResultOf(done))

    def begun(self, watch: Watch, text: str) -> Connection:
        """The first connection of a watch, with its head and some events."""
        self.all(watch)
        waiting = self.next(watch)
        self.connection.begin_events("id: 10\n\n")
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        if text:
            self.connection.send_events(text)
        return self.connection


class AskedTests(WatchCase):
    def test_what_is_asked(self) -> None:
        for watch, query in (
            (self.client.watch(), {}),
            (self.client.watch("a+/"), {"prefix": "a+/"}),
            (self.client.watch(key="a", after=0), {"key": "a", "after": "0"}),
        ):
            waiting = self.next(watch)
            self.assertEqual(self.connection.asked[1].partition("?")[0], "/base/v1/watch")
            self.assertEqual({k: v for k, v in self.connection.query.items() if v}, query)
            self.assertEqual(self.connection.header("Accept"), "text/event-stream")
            waiting.cancel()
            self.failureResultOf(waiting, CancelledError)

    def test_changes_are_told_as_what_they_are(self) -> None:
        watch = self.client.watch()
        text = put("a", 11) + removed("delete", "a", 12) + removed("expire", "b", 13) + removed("clear", None, 14)
        waiting = self.next(watch)
        self.connection.begin_events("id: 10\n\n: beat\n\n" + text)
        expected: list[Any] = [told("a", 11), Delete("a", 12, 5), Expire("b", 13, 5), Clear(14, 5)]
        self.assertEqual([self.successResultOf(waiting), *self.all(watch)], expected)
        self.assertEqual((expected[0].key, expected[0].revision), ("a", 11))
        self.assertEqual(watch.revision, 14)

    def test_values_of_all_kinds(self) -> None:
        watch = self.client.watch()
        self.begun(watch, "")
        fields = {"key": "a", "revision": 11, "modified": 5, "expires": 9}
        for data, content_type, value in (
            ({"value": "ü\n"}, "text/html", "ü\n".encode()),
            ({"value_base64": "/wA="}, "image/png", b"\xff\0"),
            ({"value": {"b": [1.0, None]}}, "application/json", b'{"b": [1.0, null]}'),
            ({"value_base64": ""}, "image/png", b""),
            ({"value": ""}, "text/plain", b""),
        ):
            self.connection.send_events(event("put", {**fields, **data, "content_type": content_type}, 11))
            self.assertEqual(self.all(watch), [Put(Record("a", value, content_type, 11, 5, 9))])

    def test_the_revision_moves_with_the_last_change_of_a_transaction(self) -> None:
        watch = self.client.watch()
        self.assertIsNone(watch.revision)
        self.begun(watch, put("a", 11, last=False) + put("b", 11) + put("c", 12, last=False))
        self.assertEqual(watch.revision, 10)
        seen = [(self.successResultOf(self.next(watch)).key, watch.revision) for _ in range(3)]
        self.assertEqual(seen, [("a", 10), ("b", 11), ("c", 11)])

    def test_events_that_are_not_known_are_left_out(self) -> None:
        watch = self.client.watch()
        self.begun(watch, event("rename", {"x": 1}, 11) + put("a", 12))
        self.assertEqual(self.all(watch), [told("a", 12)])

    def test_a_watch_that_is_refused(self) -> None:
        for status in (400, 404, 500):
            waiting = self.next(self.client.watch())
            self.connection.problem(status, detail="because")
            self.failed(waiting, Invalid if status == 400 else Unexpected)
        waiting = self.next(self.client.watch())
        self.connection.answer(200, b"{}", Content_Type="application/json")
        self.failed(waiting, Unexpected)

    def test_events_that_make_no_sense(self) -> None:
        for text in ("event: put\ndata: {}\n\n", "event: delete\ndata: x\n\n", "id: x\n\n", "id: ٣\n\n"):
            watch = self.client.watch()
            self.begun(watch, text)
            self.failed(self.next(watch), Unexpected)

    def test_an_event_that_is_too_large(self) -> None:
        watch = self.new_client(max_event=100).watch()
        connection = self.begun(watch, "data: " + "x" * 101)
        self.failed(self.next(watch), TooLarge)
        self.assertTrue(connection.is_closed)


class CutTests(WatchCase):
    def resumed(self, watch: Watch, after: str) -> Connection:
        """Cut the connection, and wait for the next one, which begins."""
        self.connection.cut()
        waiting = self.next(watch)
        self.assertEqual(self.next_connection(wait=1.0).query.get("after"), after)
        self.connection.begin_events(f"id: {after}\n\n")
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        return self.connection

    def test_it_goes_on_after_the_last_transaction(self) -> None:
        watch = self.client.watch("a")
        self.begun(watch, put("a", 11))
        self.assertEqual(self.all(watch), [told("a", 11)])
        self.resumed(watch, "11").send_events(put("a", 12))
        self.assertEqual(self.all(watch), [told("a", 12)])

    def test_of_half_a_transaction_the_other_half_is_told(self) -> None:
        for size in range(1, 5):
            for given in range(size):
                watch = self.client.watch()
                changes = [put(str(number), 11, last=number == size - 1) for number in range(size)]
                self.begun(watch, "".join(changes[:given]))
                first = self.all(watch)
                self.resumed(watch, "10").send_events("".join(changes) + put("z", 12))
                self.assertEqual(first + self.all(watch), [*(told(str(n), 11) for n in range(size)), told("z", 12)])

    def test_half_of_it_may_come_again_and_again(self) -> None:
        watch = self.client.watch()
        changes = [put(str(number), 11, last=number == 5) for number in range(6)]
        self.begun(watch, "".join(changes[:2]))
        found = self.all(watch)
        for there in (1, 3, 0, 2, 4):
            self.resumed(watch, "10").send_events("".join(changes[:there]))
            found += self.all(watch)
        self.resumed(watch, "10").send_events("".join(changes))
        self.assertEqual(found + self.all(watch), [told(str(number), 11) for number in range(6)])
        self.assertEqual(watch.revision, 11)

    def test_the_same_key_twice_in_a_transaction(self) -> None:
        watch = self.client.watch()
        self.begun(watch, put("a", 11, last=False))
        self.all(watch)
        self.resumed(watch, "10").send_events(put("a", 11, last=False) + removed("delete", "a", 11))
        self.assertEqual(self.all(watch), [Delete("a", 11, 5)])

    def test_another_transaction_in_its_place_is_told_whole(self) -> None:
        watch = self.client.watch()
        self.begun(watch, put("a", 11, last=False) + put("b", 11, last=False))
        self.all(watch)
        self.resumed(watch, "10").send_events(put("c", 12, last=False) + put("d", 12))
        self.assertEqual(self.all(watch), [told("c", 12), told("d", 12)])

    def test_what_was_received_before_the_cut_is_told(self) -> None:
        watch = self.client.watch()
        self.begun(watch, put("a", 11) + put("b", 12) + "event: put\ndata: {")
        self.connection.cut()
        self.assertEqual(self.all(watch), [told("a", 11), told("b", 12)])
        self.assertEqual(watch.revision, 12)

    def test_the_end_of_a_stream_is_a_cut(self) -> None:
        watch = self.client.watch()
        self.begun(watch, put("a", 11) + 'event: gone\ndata: {"oldest": 50}\n\n')
        self.connection.end_events()
        self.assertEqual(self.all(watch), [told("a", 11)])
        made = len(self.network.connections)
        waiting = self.next(watch)
        self.assertEqual((len(self.network.connections), self.connection.query["after"]), (made + 1, "11"))
        self.assertNoResult(waiting)

    def test_a_cut_before_the_first_id_begins_anew(self) -> None:
        watch = self.client.watch()
        waiting = self.next(watch)
        self.connection.begin_events(": hello\n\n")
        self.connection.cut()
        self.assertNotIn("after", self.next_connection(wait=1.0).query)
        self.assertNoResult(waiting)

    def test_a_silent_connection_is_given_up(self) -> None:
        watch = self.client.watch()
        connection = self.begun(watch, "")
        waiting = self.next(watch)
        self.clock.advance(SILENCE - 1)
        connection.send_events(": beat\n\n")
        self.clock.advance(SILENCE - 1)
        self.assertFalse(connection.is_closed)
        self.clock.advance(1)
        self.assertTrue(connection.is_closed)
        self.assertEqual(self.next_connection(wait=1.0).query["after"], "10")
        self.assertNoResult(waiting)

    def test_silence_does_not_matter_to_who_does_not_listen(self) -> None:
        watch = self.client.watch()
        connection = self.begun(watch, "")
        self.clock.advance(SILENCE * 10)
        self.assertFalse(connection.is_closed)
        connection.send_events(put("a", 11))
        self.assertEqual(self.all(watch), [told("a", 11)])

    def test_it_tries_for_ever_once_it_has_begun(self) -> None:
        watch = self.client.watch()
        self.begun(watch, "")
        self.connection.cut()
        self.network.refuses = True
        waiting = self.next(watch)
        for wait in (1, 2, 4, *(8,) * 50):
            self.clock.advance(wait)
        self.assertNoResult(waiting)
        self.network.refuses = False
        self.next_connection(wait=8.0).begin_events("id: 10\n\n" + put("a", 11))
        self.assertEqual(self.successResultOf(waiting), told("a", 11))

    def test_but_only_some_times_before(self) -> None:
        self.network.refuses = True
        for watch, tries in ((self.client.watch(), 4), (self.client.follow(), 4), (self.client.follow(key="a"), 4)):
            before = self.network.attempts
            waiting = self.next(watch)
            if waiting.called:
                self.assertEqual(self.successResultOf(waiting), Reset())
                waiting = self.next(watch)
            self.clock.pump([1.0, 2.0, 4.0])
            self.failed(waiting, Unavailable)
            self.assertEqual(self.network.attempts, before + tries)
            self.network.refuses = False
            waiting = self.next(watch)
            self.assertEqual(self.network.attempts, before + tries + 1, "it can be asked again")
            self.network.refuses = True
            waiting.cancel()
            self.failureResultOf(waiting, CancelledError)

    def test_retry_after_is_heeded(self) -> None:
        watch = self.client.watch()
        waiting = self.next(watch)
        self.connection.answer(503, Retry_After="7")
        self.next_connection(wait=7.0).begin_events("id: 10\n\n" + put("a", 11))
        self.assertEqual(self.successResultOf(waiting), told("a", 11))

    def test_a_call_that_is_cancelled_loses_nothing(self) -> None:
        watch = self.client.watch()
        waiting = self.next(watch)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.assertTrue(self.connection.is_closed)
        connection = self.begun(watch, put("a", 11))
        self.assertEqual(self.all(watch), [told("a", 11)])
        connection.send_events(put("a", 12, last=False))
        self.assertEqual(self.all(watch), [told("a", 12)])
        connection.send_events(put("b", 12))
        self.assertEqual(self.all(watch), [told("b", 12)])
        self.assertFalse(connection.is_closed)


class EndTests(WatchCase):
    def test_closing(self) -> None:
        watch = self.client.watch()
        connection = self.begun(watch, put("a", 11))
        watch.close()
        self.assertTrue(connection.is_closed)
        self.failureResultOf(self.next(watch), StopAsyncIteration)

    def test_a_block_closes_it(self) -> None:
        async def use() -> None:
            async with self.client.watch() as watch:
                async for _ in watch:
                    return

        done = Deferred.fromCoroutine(use())
        self.connection.begin_events(put("a", 11))
        self.successResultOf(done)
        self.assertTrue(self.connection.is_closed)

    def test_so_does_a_loop_that_is_left(self) -> None:
        async def use() -> None:
            async for _ in self.client.watch():
                return

        done = Deferred.fromCoroutine(use())
        self.connection.begin_events(put("a", 11))
        self.successResultOf(done)
        self.clock.advance(0)
        self.assertTrue(self.connection.is_closed)

    def test_closing_wakes_who_waits(self) -> None:
        watch = self.client.watch()
        self.begun(watch, "")
        waiting = self.next(watch)
        watch.close()
        self.failureResultOf(waiting, StopAsyncIteration)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_who_does_not_read_makes_the_server_wait(self) -> None:
        watch = self.client.watch()
        connection = self.begun(watch, "")
        for revision in range(11, 1000):
            connection.send_events(put("x" * 200, revision))
            if connection.is_paused:
                break
        self.assertTrue(connection.is_paused)
        self.assertEqual(len(self.all(watch)), revision - 10)
        self.assertFalse(connection.is_paused)


class ListingTests(WatchCase):
    def gone(self, watch: Watch) -> None:
        waiting = self.next(watch)
        self.connection.problem(410, detail="gone", oldest=50)
        self.assertEqual(self.successResultOf(waiting), Reset())

    def page(self, watch: Watch, revision: int, found: list[dict[str, Any]], following: str | None = None) -> list[Any]:
        """Answer the next page; what the watch tells of it."""
        waiting = self.next(watch)
        self.connection.answer_json({"revision": revision, "items": found, "next": following})
        return [self.successResultOf(waiting), *self.all(watch)]

    def test_what_is_gone_is_listed(self) -> None:
        watch = self.client.watch("a", after=5)
        self.gone(watch)
        self.assertIsNone(watch.revision)
        waiting = self.next(watch)
        self.assertEqual(self.connection.asked, ("GET", "/base/v1/kv?prefix=a&limit=1000"))
        self.connection.answer_json({"revision": 60, "items": items(("a", 7), ("ab", 60)), "next": None})
        self.assertEqual([self.successResultOf(waiting), *self.all(watch)], [told("a", 7), told("ab", 60), Listed(60)])
        self.assertEqual((self.connection.query["after"], watch.revision), ("60", 60))

    def test_a_key_is_listed_by_a_transaction(self) -> None:
        watch = self.client.follow(key="a")
        self.assertEqual(self.successResultOf(self.next(watch)), Reset())
        for result, expected in ((items(("a", 7))[0], [told("a", 7), Listed(60)]), (None, [Listed(60)])):
            waiting = self.next(watch)
            self.assertEqual(self.connection.body, b'{"then":[{"get":{"key":"a"}}]}')
            self.connection.answer_json({"committed": True, "revision": 60, "results": [result]})
            self.assertEqual([self.successResultOf(waiting), *self.all(watch)], expected)
            self.assertEqual(self.connection.query, {"key": "a", "after": "60"})
            self.gone(watch)

    def test_pages_of_different_moments(self) -> None:
        """A change is told unless the page that has its key is from after it."""
        watch = self.client.follow()
        self.assertEqual(self.successResultOf(self.next(watch)), Reset())
        self.assertEqual(self.page(watch, 60, items(("a", 1), ("b", 60)), "b"), [told("a", 1), told("b", 60)])
        self.assertEqual(self.connection.query, {"after": "b", "limit": "1000"})
        self.assertEqual(self.page(watch, 70, items(("c", 65), ("d", 1)), "d"), [told("c", 65), told("d", 1)])
        self.assertEqual(self.page(watch, 80, items(("e", 75))), [told("e", 75), Listed(60)])
        waiting = self.next(watch)
        self.assertEqual((self.connection.query["after"], watch.revision), ("60", 60))
        changes = (
            put("c", 61)  # the second page is from 70
            + put("b", 62, last=False)
            + put("e", 62)  # the last page is from 80
            + removed("delete", "d", 69)
            + removed("delete", "z", 80)
            + put("c", 71)
            + removed("expire", "e", 80)
            + removed("delete", "e", 81)
            + put("c", 82)
        )
        self.connection.begin_events("id: 60\n\n" + changes)
        expected: list[Any] = [told("b", 62), told("c", 71), Delete("e", 81, 5), told("c", 82)]
        self.assertEqual([self.successResultOf(waiting), *self.all(watch)], expected)
        self.assertEqual(watch.revision, 82)

    def test_what_a_listing_shows_counts_as_told_when_it_is_cut(self) -> None:
        watch = self.client.follow()
        self.next(watch)
        self.page(watch, 60, items(("a", 1)), "a")
        self.page(watch, 70, [])
        waiting = self.next(watch)
        self.connection.begin_events("id: 60\n\n" + put("b", 61, last=False) + put("a", 61, last=False))
        self.assertEqual(self.successResultOf(waiting), told("a", 61))
        self.assertEqual(self.all(watch), [])
        self.connection.cut()
        waiting = self.next(watch)
        self.next_connection(wait=1.0).begin_events(
            "id: 60\n\n" + put("b", 61, False) + put("a", 61, False) + put("a0", 61)
        )
        self.assertNoResult(waiting)
        self.connection.send_events(put("b", 71))
        self.assertEqual(self.successResultOf(waiting), told("b", 71))

    def test_a_clear_within_a_listing_begins_it_anew(self) -> None:
        watch = self.client.follow()
        self.next(watch)
        self.page(watch, 60, items(("a", 1)), "a")
        self.page(watch, 70, items(("b", 66)))
        waiting = self.next(watch)
        self.connection.begin_events("id: 60\n\n" + removed("clear", None, 65) + put("b", 66))
        stream = self.connection
        self.assertEqual(self.successResultOf(waiting), Reset())
        self.assertTrue(stream.is_closed)
        self.assertIsNone(watch.revision)
        self.assertEqual(self.page(watch, 75, items(("b", 66))), [told("b", 66), Listed(75)])
        self.assertEqual(self.connection.query["after"], "75")

    def test_a_clear_after_a_listing_is_a_clear(self) -> None:
        watch = self.client.follow()
        self.next(watch)
        self.page(watch, 60, items(("a", 1)))
        waiting = self.next(watch)
        self.connection.begin_events("id: 60\n\n" + removed("clear", None, 61))
        self.assertEqual(self.successResultOf(waiting), Clear(61, 5))

    def test_a_listing_goes_on_where_it_was_cut(self) -> None:
        watch = self.client.watch(after=5)
        self.begun(watch, "")
        self.connection.cut()
        waiting = self.next(watch)
        self.next_connection(wait=1.0).problem(410, oldest=50)
        self.assertEqual(self.successResultOf(waiting), Reset())
        self.page(watch, 60, items(("a", 1)), "a")
        waiting = self.next(watch)
        self.network.refuses = True
        self.connection.cut()
        self.clock.pump([1.0, 2.0, 4.0, 1.0, 1.0])
        self.network.refuses = False
        self.clock.pump([2.0, 4.0])
        self.assertEqual(self.connection.query, {"after": "a", "limit": "1000"})
        self.connection.answer_json({"revision": 70, "items": items(("b", 2)), "next": None})
        self.assertEqual(self.successResultOf(waiting), told("b", 2))

    def test_a_listing_that_took_too_long_begins_anew(self) -> None:
        watch = self.client.follow("a")
        self.next(watch)
        self.page(watch, 60, [])
        self.gone(watch)
        self.assertEqual(self.page(watch, 70, items(("a", 7))), [told("a", 7), Listed(70)])


class CoverageTests(ClientCase):
    def test_a_page_shows_what_is_in_its_range_and_before_it(self) -> None:
        coverage = Coverage()
        coverage.add("b", 10)
        coverage.add("b/c", 20)
        coverage.add("ü", 20)
        coverage.add(None, 30)
        self.assertEqual((coverage.first, coverage.last), (10, 30))
        for key, revision in (
            ("a", 10),
            ("b", 10),
            ("b\0", 20),
            ("b/c", 20),
            ("z", 20),
            ("ü", 20),
            ("ü\0", 30),
            ("€", 30),
        ):
            self.assertTrue(coverage.shows(key, revision), key)
            self.assertFalse(coverage.shows(key, revision + 1), key)

    def test_pages_of_one_moment_take_one_entry(self) -> None:
        coverage = Coverage()
        for number in range(1000):
            coverage.add(str(number), 10)
        coverage.add(None, 10)
        self.assertEqual(len(coverage._revisions) + len(coverage._last_keys), 1)
