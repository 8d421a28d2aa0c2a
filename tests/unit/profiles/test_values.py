"""Any record as JSON, whoever wrote it."""

from __future__ import annotations

import json
from base64 import b64decode

from twisted.trial.unittest import SynchronousTestCase

from kvtwist.model import JSON, OCTETS, TEXT, Record
from kvtwist.profiles._reply import as_json, json_error, json_reply, pair


class AsJsonTests(SynchronousTestCase):
    def test_json_is_itself_to_the_byte(self) -> None:
        for text in (b"1.0", b"1e400", b'"\\u00e9"', b'{"a": 1,"a":2}', b"[" * 1000 + b"]" * 1000):
            self.assertEqual(as_json(Record(text, JSON, 1, 1)), text)

    def test_text_is_a_string(self) -> None:
        for text in ("", "a", "1.0", 'é"\\\n\x00\x7f😀\u2028', "null"):
            for media_type in (TEXT, OCTETS, "application/x-other"):
                found = as_json(Record(text.encode(), media_type, 1, 1))
                self.assertEqual(json.loads(found), text)

    def test_what_is_not_utf_8_is_base64(self) -> None:
        for value in (b"\xff", b"a\xc3", b"\xed\xa0\x80", bytes(range(256))):
            found = json.loads(as_json(Record(value, OCTETS, 1, 1)))
            self.assertEqual(list(found), ["base64"])
            self.assertEqual(b64decode(found["base64"], validate=True), value)


class ReplyTests(SynchronousTestCase):
    def test_a_pair_keeps_the_text_of_its_value(self) -> None:
        self.assertEqual(pair('k"é', b"1.0"), '{"k\\"é":1.0}'.encode())

    def test_an_error_is_an_object(self) -> None:
        self.assertEqual(json.loads(json_error('no "such"\nthing é')), {"error": 'no "such"\nthing é'})

    def test_a_reply_says_what_it_is(self) -> None:
        reply = json_reply(201, b"{}")
        self.assertEqual((reply.code, reply.body), (201, b"{}"))
        self.assertEqual(dict(reply.headers), {"Content-Type": JSON})
