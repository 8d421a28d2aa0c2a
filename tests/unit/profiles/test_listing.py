"""Listings: JSON at every size, made no faster than they are taken, and holding on to nothing that has been sent."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from klein import Response
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed

from kvtwist.model import JSON, OCTETS, TEXT, Record, Slice
from kvtwist.profiles import Settings, _listing, _reply
from kvtwist.profiles._listing import PIECE, Element
from kvtwist.profiles._reply import LARGE
from kvtwist.profiles._scan import Items
from kvtwist.profiles.history import DELETION, History
from kvtwist.profiles.keys import Keys
from tests.support.engine import TestCase, result_of
from tests.unit.profiles.streams import Request, finished

NOW_MS = 1_605_097_943_904
REPEATABLE = settings(max_examples=200, deadline=None, derandomize=True, database=None)


class Slices:
    """A store that holds some slices, and counts how many it was asked for."""

    def __init__(self, *slices: Sequence[tuple[bytes, Record]]) -> None:
        self._slices = deque(slices)
        self.asked = 0

    def scan(self, keyspace: str, start: bytes, stop: bytes | None, reverse: bool = False) -> Deferred[Slice]:
        self.asked += 1
        items = self._slices.popleft() if self._slices else []
        return succeed(Slice(items, b"more" if self._slices else None))


def body(request: Request, answer: Response | None) -> bytes:
    """Of a listing, however it was answered."""
    if answer is None:
        return b"".join(request.pieces)
    assert not request.pieces
    assert isinstance(answer.body, bytes)
    return answer.body


def list_keys(*slices: Sequence[tuple[bytes, Record]]) -> tuple[bytes, int]:
    """The text of `GET /keys`, and how many pieces it came in."""
    request = Request()
    answer = finished(Deferred.fromCoroutine(Keys(Slices(*slices), Settings()).get_all(request)))  # type: ignore[arg-type]
    return body(request, answer), len(request.pieces)


def list_history(*slices: Sequence[tuple[bytes, Record]]) -> tuple[bytes, int]:
    """The text of `GET /a/history`, and how many pieces it came in."""
    request = Request(b"/a/history")
    handler = History(Slices(*slices), Settings()).history(request, "a")  # type: ignore[arg-type]
    answer = finished(Deferred.fromCoroutine(handler))
    return body(request, answer), len(request.pieces)


def event(number: int, value: bytes, media_type: str = OCTETS) -> tuple[bytes, Record]:
    """An event as `Append` writes it."""
    stamp = NOW_MS - number
    return b"a\0" + stamp.to_bytes(8, "big") + number.to_bytes(8, "big"), Record(value, media_type, 1, stamp)


def sliced(items: list[tuple[bytes, Record]], size: int) -> list[list[tuple[bytes, Record]]]:
    return [items[at : at + size] for at in range(0, len(items), size)] or [[]]


class SizeTests(TestCase):
    """With pieces of 64 bytes, so that every size around every boundary is tried."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(_listing, "PIECE", 64)
        self.patch(_reply, "LARGE", 24)

    def test_keys_is_json_at_every_size(self) -> None:
        for size in range(2, 90):
            value = b'"' + b"v" * (size - 2) + b'"'
            for count in range(8):
                items = [(b"%03d" % number, Record(value, JSON, 1, 1)) for number in range(count)]
                for batch in (1, 3, 8):
                    text, _ = list_keys(*sliced(items, batch))
                    expected = {f"{number:03}": "v" * (size - 2) for number in range(count)}
                    self.assertEqual(json.loads(text), expected, (size, count, batch))

    def test_history_is_json_at_every_size(self) -> None:
        for fill in (b"v", b"\xff"):
            for size in range(90):
                for count in range(8):
                    items = [event(number, fill * size) for number in range(count)]
                    for batch in (1, 3, 8):
                        text, _ = list_history(*sliced(items, batch))
                        found = json.loads(text)
                        self.assertEqual([e["timestamp"] for e in found], [NOW_MS - n for n in range(count)])
                        self.assertEqual(len({e["value"] for e in found}), min(count, 1))

    def test_slices_in_which_nothing_is_shown_leave_no_trace(self) -> None:
        shown = (b"a", Record(b"1", JSON, 1, 1))
        hidden = (b"\xff", Record(b"1", JSON, 1, 1))
        for slices in ([[]], [[], []], [[hidden], [shown], [hidden]], [[hidden], [], [shown, hidden]], [[hidden]]):
            text, pieces = list_keys(*slices)
            self.assertEqual(text, b'{"a":1}' if any(shown in part for part in slices) else b"{}")
            self.assertEqual(pieces, 0)

    def test_pieces_are_neither_empty_nor_larger_than_they_need_to_be(self) -> None:
        items = [(b"%03d" % number, Record(b"1" * (number % 40 + 1), JSON, 1, 1)) for number in range(200)]
        request = Request()
        finished(Deferred.fromCoroutine(Keys(Slices(items), Settings()).get_all(request)))  # type: ignore[arg-type]
        longest_member = len(b',"000":') + 24
        for piece in request.pieces[:-1]:
            self.assertTrue(piece)
            self.assertLess(len(piece), 64 + longest_member)
        self.assertLess(len(request.pieces), 200)


RECORDS = st.lists(
    st.tuples(st.sampled_from(["text", "json", "octets", "deletion"]), st.integers(0, 3 * PIECE)).map(
        lambda pair: _record(*pair)
    )
    | st.integers(LARGE - 40, LARGE + 40).map(lambda size: _record("json", size))
    | st.integers(PIECE - 40, PIECE + 40).map(lambda size: _record("text", size)),
    max_size=12,
)


def _record(kind: str, size: int) -> tuple[bytes, str]:
    if kind == "json":
        return b'"' + b"j" * size + b'"', JSON
    if kind == "octets":
        return b"\xff" * size, OCTETS
    return (b"", DELETION) if kind == "deletion" else (b"t" * size, TEXT)


class AnyListingTests(TestCase):
    @REPEATABLE
    @given(RECORDS, st.integers(1, 13))
    def test_keys_lists_the_records(self, records: list[tuple[bytes, str]], batch: int) -> None:
        items = [(b"%d" % at, Record(value, media_type, 1, 1)) for at, (value, media_type) in enumerate(records)]
        text, _ = list_keys(*sliced(items, batch))
        found = json.loads(text)
        self.assertEqual(list(found), [str(at) for at in range(len(records))])
        for shown, (value, media_type) in zip(found.values(), records, strict=True):
            self.assertIs(type(shown), dict if value.startswith(b"\xff") else str)
            if media_type == TEXT:
                self.assertEqual(shown, value.decode())

    @REPEATABLE
    @given(RECORDS, st.integers(1, 13))
    def test_history_lists_the_events(self, records: list[tuple[bytes, str]], batch: int) -> None:
        items = [event(at, value, media_type) for at, (value, media_type) in enumerate(records)]
        text, _ = list_history(*sliced(items, batch))
        found = json.loads(text)
        self.assertEqual(len(found), len(records))
        for shown, (value, media_type) in zip(found, records, strict=True):
            self.assertEqual("encoding" in shown, value.startswith(b"\xff"))
            self.assertEqual(shown["value"] is None, media_type == DELETION)
            self.assertEqual(list(shown)[:2], ["value", "timestamp"])


class Value(bytes):
    """Bytes that report when they are freed."""

    gone = 0

    def __del__(self) -> None:
        Value.gone += 1


class TakingTests(TestCase):
    """What is made, and kept, while a client takes its time."""

    def begin(self, store: Slices, request: Request) -> Deferred[Any]:
        done = Deferred.fromCoroutine(Keys(store, Settings()).get_all(request))  # type: ignore[arg-type]
        self.addCleanup(done.addErrback, lambda failure: None)
        return done

    def test_a_piece_is_made_once_the_one_before_is_taken(self) -> None:
        small = [(b"a%02d" % number, Record(b"1" * 1000, JSON, 1, 1)) for number in range(200)]
        store = Slices(small, [(b"b", Record(b"2", JSON, 1, 1))])
        request = Request(eager=False)
        done = self.begin(store, request)
        for _ in range(3):  # 64 KiB each, of 200 KB
            reactor.iterate(0)
            self.assertEqual(len(request.pieces), 1)
            self.assertGreaterEqual(len(request.pieces[0]), PIECE)
            self.assertEqual(store.asked, 1)
            request.take()
        finished_pieces = []
        for _ in range(10):
            reactor.iterate(0)
            if request.pieces:
                finished_pieces += request.pieces
                request.take()
        self.assertFalse(request.streaming)
        self.assertEqual(store.asked, 2)
        self.assertEqual(len(finished_pieces), 1)
        self.assertIsNone(result_of(done))

    def test_no_slice_is_read_before_the_last_one_is_taken(self) -> None:
        store = Slices(*([(b"%d" % number, Record(b"1" * LARGE, JSON, 1, 1))] for number in range(3)))
        request = Request(eager=False)
        self.begin(store, request)
        asked = []
        for _ in range(7):
            for _ in range(3):
                reactor.iterate(0)
            self.assertEqual(len(request.pieces), 1)
            asked.append(store.asked)
            request.take()
        self.assertFalse(request.streaming)
        # Its name and the bracket before it; itself; the next one's name, for which the next slice is needed; ...
        self.assertEqual(asked, [1, 1, 2, 2, 3, 3, 3])

    def test_a_large_value_goes_out_as_the_object_that_the_store_holds(self) -> None:
        values = [b"1" * size for size in (LARGE, PIECE, 2**20)]
        request = Request()
        items = [(b"%d" % at, Record(value, JSON, 1, 1)) for at, value in enumerate(values)]
        finished(self.begin(Slices(items), request))
        for value in values:
            self.assertEqual(sum(piece is value for piece in request.pieces), 1)

    def test_a_piece_is_sent_once_it_is_large_enough(self) -> None:
        for size, first in ((1000, 1000 + len(b'{"0":,"1":')), (PIECE - len(b'{"0":'), PIECE)):
            self.patch(_reply, "LARGE", PIECE)
            request = Request()
            items = [(b"0", Record(b"1" * size, JSON, 1, 1)), (b"1", Record(b"1" * PIECE, JSON, 1, 1))]
            finished(self.begin(Slices(items), request))
            self.assertEqual(len(request.pieces[0]), first)

    def test_small_values_are_sent_together(self) -> None:
        request = Request()
        items = [(b"%04d" % at, Record(b"1" * (LARGE - 1), JSON, 1, 1)) for at in range(10)]
        finished(self.begin(Slices(items), request))
        self.assertEqual(len(request.pieces), 3)

    def test_sent_values_are_freed(self) -> None:
        for size in (1000, LARGE):
            values = [Value(b"1" * size) for _ in range(200)]
            Value.gone = 0
            store = Slices([(b"%03d" % at, Record(value, JSON, 1, 1)) for at, value in enumerate(values)])
            request = Request(eager=False)
            del values
            self.begin(store, request)
            for _ in range(20):
                if request.written < 100_000:
                    request.take()
            self.assertGreaterEqual(request.written, 100_000)
            # All but the one that was written last.
            self.assertIn(request.written // size - Value.gone, (0, 1))
            self.assertTrue(request.streaming)

    def test_the_last_value_is_let_go_while_more_is_looked_for(self) -> None:
        class Waiting(Slices):
            def scan(self, *arguments: Any, **named: Any) -> Deferred[Slice]:
                return Deferred() if self.asked else super().scan(*arguments, **named)

        store = Waiting([(b"a", Record(Value(b"1" * LARGE), JSON, 1, 1))], [])
        request = Request()
        Value.gone = 0
        self.begin(store, request)
        for _ in range(3):
            reactor.iterate(0)
        request.pieces.clear()
        self.assertEqual(Value.gone, 1)

    def test_one_piece_has_a_length_and_several_have_their_headers_first(self) -> None:
        for count, streamed in ((0, False), (50, False), (100, True)):
            request = Request()
            items = [(b"%03d" % at, Record(b"1" * 1000, JSON, 1, 1)) for at in range(count)]
            answer = finished(self.begin(Slices(items), request))
            self.assertEqual(answer is None, streamed)
            headers = request.headers if answer is None else answer.headers
            self.assertEqual(headers["Content-Type"], JSON)

    def test_head_makes_one_piece(self) -> None:
        taken = []

        def elements(items: Items) -> Iterator[Element]:
            while items:
                key, record = items.popleft()
                taken.append(key)
                yield b'"%b":' % key, record.value, b""

        async def slices() -> AsyncIterator[Items]:
            for start in (0, 100):
                yield deque((b"%03d" % (start + at), Record(b"1" * 1000, JSON, 1, 1)) for at in range(100))

        request = Request(method=b"HEAD")
        done = Deferred.fromCoroutine(_listing.answer(request, _listing.OBJECT, slices(), elements))
        self.assertIsNone(finished(done))
        self.assertEqual(request.headers["Content-Type"], JSON)
        self.assertEqual(request.pieces, [])
        self.assertLess(len(taken), 70)

    def test_the_bytes_of_a_slice_are_held(self) -> None:
        request = Request(eager=False)
        items = [(b"a", Record(b"1" * 70_000, JSON, 1, 1)), (b"bc", Record(b"22", JSON, 1, 1))]
        self.begin(Slices(items, items[1:]), request)
        self.assertEqual(request.held, [70_005])
        while request.streaming:
            request.take()
            reactor.iterate(0)
        self.assertEqual(request.held, [70_005, 4])
