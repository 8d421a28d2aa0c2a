"""Any record as JSON, whichever profile wrote it."""

from __future__ import annotations

import json
from base64 import b64decode

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from kvtwist.model import JSON, OCTETS, TEXT, Record
from kvtwist.profiles import _reply
from kvtwist.profiles._reply import as_json, json_error, json_reply, pair
from tests.unit.profiles.streams import Request, finished


def shown(record: Record) -> bytes:
    """A record's value as JSON text."""
    text = as_json(record)
    return text if isinstance(text, bytes) else b"".join(text)


class AsJsonTests(SynchronousTestCase):
    def test_json_is_itself_to_the_byte(self) -> None:
        for text in (b"1.0", b"1e400", b'"\\u00e9"', b'{"a": 1,"a":2}', b"[" * 1000 + b"]" * 1000):
            self.assertEqual(as_json(Record(text, JSON, 1, 1)), text)

    def test_text_is_a_string(self) -> None:
        for text in ("", "a", "1.0", 'é"\\\n\x00\x7f😀\u2028', "null"):
            for media_type in (TEXT, OCTETS, "application/x-other"):
                found = shown(Record(text.encode(), media_type, 1, 1))
                self.assertEqual(json.loads(found), text)

    def test_bytes_that_are_not_utf_8_are_base64(self) -> None:
        for value in (b"\xff", b"a\xc3", b"\xed\xa0\x80", bytes(range(256))):
            found = json.loads(shown(Record(value, OCTETS, 1, 1)))
            self.assertEqual(list(found), ["base64"])
            self.assertEqual(b64decode(found["base64"], validate=True), value)


class LargeTests(SynchronousTestCase):
    """Large values, wherever the cuts are."""

    def test_large_json_is_the_object_itself(self) -> None:
        for size in (_reply.LARGE, 2**20):
            value = b"1" * size
            [piece] = as_json(Record(value, JSON, 1, 1))
            self.assertIs(piece, value)

    def test_a_large_value_comes_in_pieces_that_are_not(self) -> None:
        for value in (b"t" * 2**20, b"\0" * 2**20, b"\xff" * 2**20):
            pieces = as_json(Record(value, OCTETS, 1, 1))
            self.assertNotIsInstance(pieces, bytes)
            self.assertLessEqual(max(map(len, pieces)), 6 * 64 * 1024)

    def test_cuts_leave_characters_whole(self) -> None:
        self.patch(_reply, "LARGE", 1)
        self.patch(_reply, "_CUT", 12)
        for character in "tÿ€😀\n\x01":
            for size in range(60):
                for before in range(4):
                    text = "-" * before + character * size
                    self.assertEqual(json.loads(shown(Record(text.encode(), TEXT, 1, 1))), text)

    def test_cuts_leave_base64_whole(self) -> None:
        self.patch(_reply, "LARGE", 1)
        self.patch(_reply, "_CUT", 12)
        for size in range(60):
            for value in (b"\xff" * size + b"\xff", b"t" * size + b"\xc3", b"\xed\xa0\x80" + b"t" * size):
                found = json.loads(shown(Record(value, OCTETS, 1, 1)))
                self.assertEqual(b64decode(found["base64"], validate=True), value)


class AnswerTests(TestCase):
    """One value as an answer, of `keys` and of `transactional`."""

    def answer(self, value: bytes, media_type: str, text: tuple[bytes, bytes], method: bytes = b"GET") -> Request:
        """What is answered to a client, as if it had all been written."""
        request = Request(method=method)
        before, after = text
        done = Deferred.fromCoroutine(_reply.answer_value(request, before, Record(value, media_type, 1, 1), after))
        response = finished(done)
        if response is not None:
            request.pieces.append(response.body)
            request.headers.update(response.headers.items())
        return request

    def test_every_value_is_unchanged_between_the_text_around_it(self) -> None:
        for size in (1, _reply.LARGE - 3, _reply.LARGE, 100_000):
            for before, after in ((b"", b""), (b'{"k":', b"}")):
                for value, media_type in ((b"1" * size, JSON), (b"t" * size, TEXT), (b"\xff" * size, OCTETS)):
                    request = self.answer(value, media_type, (before, after))
                    expected = before + shown(Record(value, media_type, 1, 1)) + after
                    self.assertEqual(b"".join(request.pieces), expected)
                    self.assertEqual(request.headers["Content-Type"], JSON)
                    self.assertEqual(int(request.headers.get("Content-Length", len(expected))), len(expected))

    def test_large_json_is_never_copied_and_has_a_length(self) -> None:
        for text in ((b"", b""), (b'{"k":', b"}")):
            value = b"1" * _reply.LARGE
            request = self.answer(value, JSON, text)
            self.assertEqual(sum(piece is value for piece in request.pieces), 1)
            self.assertEqual(request.headers.get("Content-Length"), str(_reply.LARGE + 6) if text[0] else None)

    def test_the_bytes_of_a_streamed_value_are_held(self) -> None:
        for media_type, text in ((TEXT, (b"", b"")), (JSON, (b'{"k":', b"}"))):
            self.assertEqual(self.answer(b"1" * _reply.LARGE, media_type, text).held, [_reply.LARGE])

    def test_head_writes_nothing(self) -> None:
        request = self.answer(b"t" * 100_000, TEXT, (b"", b""), method=b"HEAD")
        self.assertEqual(request.pieces, [])


class ReplyTests(SynchronousTestCase):
    def test_a_pair_keeps_the_text_of_its_value(self) -> None:
        self.assertEqual(pair('k"é', b"1.0"), '{"k\\"é":1.0}'.encode())

    def test_an_error_is_an_object(self) -> None:
        self.assertEqual(json.loads(json_error(400, 'no "such"\nthing é')), {"error": 'no "such"\nthing é'})

    def test_a_reply_has_a_content_type(self) -> None:
        reply = json_reply(201, b"{}")
        self.assertEqual((reply.code, reply.body), (201, b"{}"))
        self.assertEqual(dict(reply.headers), {"Content-Type": JSON})
