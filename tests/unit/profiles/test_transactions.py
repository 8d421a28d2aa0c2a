"""The body of `POST /v1/txn`: each limit is allowed and one more is not, and it is read in steps."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from kvtwist.model import DATA, JSON, OCTETS, TEXT, Delete, Exists, Get, Peek, Put, Range, Unchanged
from kvtwist.profiles import Settings, _json, _transactions
from kvtwist.profiles._steps import STEP, Steps, at_once
from kvtwist.profiles._transactions import MAX_LIMIT, MAX_TTL_SECONDS, Parsed, Reader, checked_type, range_of

SETTINGS = Settings(max_value=100, max_key=10, max_operations=5)


def read(settings: Settings = SETTINGS, **parts: list[Any]) -> Steps[Parsed]:
    body = {name.removesuffix("_"): part for name, part in parts.items()}
    return Reader(settings).read(json.dumps(body).encode())


class ReaderTests(SynchronousTestCase):
    def test_each_part_is_what_the_store_knows_by_it(self) -> None:
        conditions, then, otherwise = at_once(
            read(
                if_=[{"key": "a", "revision": 0}, {"key": "b", "revision": 7}, {"key": "c", "exists": True}],
                then=[{"delete": {"key": "a"}}],
                else_=[{"range": {"prefix": "p"}}],
            )
        )
        self.assertEqual(conditions, [Unchanged(DATA, b"a", 0), Unchanged(DATA, b"b", 7), Exists(DATA, b"c")])
        self.assertEqual(then.operations, [Peek(DATA, b"a"), Delete(DATA, b"a")])
        self.assertEqual(otherwise.operations, [Range(DATA, b"p", b"q", 100, False)])
        self.assertEqual((then.has_ranges, otherwise.has_ranges), (False, True))
        [no_key] = at_once(read(if_=[{"key": "d", "exists": False}]))[0]
        self.assertEqual(no_key, Unchanged(DATA, b"d", 0))
        self.assertEqual(at_once(read(then=[{"get": {"key": "a"}}]))[1].operations, [Get(DATA, b"a")])

    def test_each_put_is_what_the_store_knows_by_it(self) -> None:
        for asked, value, media_type, ttl_ms in (
            ({"value": "é"}, "é".encode(), TEXT, None),
            ({"value": ""}, b"", TEXT, None),
            ({"value_base64": ""}, b"", OCTETS, None),
            ({"value_base64": "AP8=", "ttl": 3}, b"\0\xff", OCTETS, 3000),
            ({"json": [1]}, b"[1]", JSON, None),
            ({"json": None, "content_type": JSON}, b"null", JSON, None),
            ({"value": "1", "content_type": JSON}, b"1", JSON, None),
            ({"value": "1", "content_type": "a/b"}, b"1", "a/b", None),
        ):
            [operation] = at_once(read(then=[{"put": {"key": "k", **asked}}]))[1].operations
            self.assertEqual(operation, Put(DATA, b"k", value, media_type, ttl_ms))

    def test_what_is_at_a_limit_is_read(self) -> None:
        for operation in (
            {"get": {"key": "k" * 10}},
            {"put": {"key": "k", "value": "v" * 100}},
            {"put": {"key": "k", "value_base64": b64encode(b"v" * 100).decode()}},
            {"put": {"key": "k", "value": "", "ttl": 1}},
            {"put": {"key": "k", "value": "", "ttl": MAX_TTL_SECONDS}},
            {"put": {"key": "k", "value": "", "content_type": "a/" + "b" * 253}},
            {"range": {"limit": 1}},
            {"range": {"limit": 1000}},
        ):
            at_once(read(then=[operation]))
        at_once(read(if_=[{"key": "k", "exists": True}] * 2, then=[{"get": {"key": "k"}}] * 2, else_=[{"range": {}}]))
        at_once(read(Settings(), then=[{"range": {}}] * 16, else_=[{"range": {}}] * 16))

    def test_what_is_beyond_it_is_not(self) -> None:
        for operation, error in (
            ({"get": {"key": "k" * 11}}, BadRequest),
            ({"get": {"key": ""}}, BadRequest),
            ({"put": {"key": "k", "value": "v" * 101}}, RequestEntityTooLarge),
            ({"put": {"key": "k", "value_base64": b64encode(b"v" * 101).decode()}}, RequestEntityTooLarge),
            ({"put": {"key": "k", "value": "", "ttl": 0}}, BadRequest),
            ({"put": {"key": "k", "value": "", "ttl": MAX_TTL_SECONDS + 1}}, BadRequest),
            ({"put": {"key": "k", "value": "", "content_type": "a/" + "b" * 254}}, BadRequest),
            ({"range": {"limit": 0}}, BadRequest),
            ({"range": {"limit": MAX_LIMIT + 1}}, BadRequest),
        ):
            self.assertRaises(error, at_once, read(then=[operation]))
        many = [{"key": "k", "exists": True}] * 3
        self.assertRaises(RequestEntityTooLarge, at_once, read(if_=many, then=[{"get": {"key": "k"}}] * 3))
        self.assertRaises(BadRequest, at_once, read(Settings(), then=[{"range": {}}] * 17))
        for media_type in ("", "text", "a/\x1f", "é/é"):
            self.assertRaises(BadRequest, checked_type, media_type)

    def test_it_reads_in_steps_that_are_neither_long_nor_short(self) -> None:
        span = _transactions._SPAN
        gets = [{"get": {"key": "k"}}] * (10 * STEP)
        large = [{"put": {"key": "k", "value": "v" * span}}] * 8
        based = [{"put": {"key": "k", "value_base64": b64encode(bytes(6 * span)).decode()}}]
        windows = 8 * span // _json._WINDOW
        for operations, expected in (
            (gets, 3 * 10),  # JSON, its decoding, the operations
            (large, windows + 3 * 8),  # strings of JSON, UTF-8, JSON, its decoding
            (based, windows + 2 * 8),  # strings of JSON, UTF-8, base64
        ):
            steps = sum(1 for _ in read(Settings(), then=operations))
            self.assertTrue(expected - 3 <= steps <= expected + 8, (expected, steps))


class RangeTests(SynchronousTestCase):
    def test_a_range_is_of_keys_between_two_others(self) -> None:
        for prefix, after, before, reverse, start, stop in (
            ("", None, None, False, b"", None),
            ("p", None, None, True, b"p", b"q"),
            ("", "a", "c", False, b"a\0", b"c"),
            ("", "c", "a", True, b"a\0", b"c"),
            ("p", "a", "z", False, b"p", b"q"),
            ("p", "pa", "pz", False, b"pa\0", b"pz"),
            ("p", "z", "a", True, b"p", b"q"),
        ):
            asked = range_of(prefix, after, before, 5, reverse)
            self.assertEqual(asked, Range(DATA, start, stop, 5, reverse))
