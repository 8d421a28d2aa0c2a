"""Heads of responses: what is in them, and which of them are written once for many responses."""

from __future__ import annotations

from types import MappingProxyType

from twisted.trial.unittest import SynchronousTestCase

from kvtwist.validators import Headers, tagged
from kvtwist.web.replies import SERVER, Replies

CONSTANT: Headers = MappingProxyType({"X-A": "a", b"X-B": [b"1", "2"]})
EPOCH = b"Thu, 01 Jan 1970 00:00:0%d GMT"


class HeadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.calls = 0
        self.time = 1.9
        self.replies = Replies(self.wall)

    def wall(self) -> float:
        self.calls += 1
        return self.time

    def test_a_head_has_status_server_date_and_the_headers(self) -> None:
        start = b"Server: %b\r\nDate: %b\r\n" % (SERVER, EPOCH % 1)
        for code, headers, expected in (
            (200, {}, b"HTTP/1.1 200 OK\r\n%b" % start),
            (299, {}, b"HTTP/1.1 299 Unknown\r\n%b" % start),
            (404, CONSTANT, b"HTTP/1.1 404 Not Found\r\n%bX-A: a\r\nX-B: 1\r\nX-B: 2\r\n" % start),
            (200, {"X": "a\r\nb\0c\u2028"}, b"HTTP/1.1 200 OK\r\n%bX: a  b c?\r\n" % start),
            (200, tagged({}, 7), b'HTTP/1.1 200 OK\r\n%bETag: "7"\r\n' % start),
            (
                200,
                tagged(CONSTANT, 7, 2999),
                b'HTTP/1.1 200 OK\r\n%bX-A: a\r\nX-B: 1\r\nX-B: 2\r\nETag: "7"\r\nLast-Modified: %b\r\n'
                % (start, EPOCH % 2),
            ),
        ):
            for _ in range(2):
                self.assertEqual(self.replies.head(code, headers, 0.0), expected)

    def test_the_date_is_made_again_when_the_clock_has_moved(self) -> None:
        for now, seconds in ((0.0, 3.0), (1.0, 4.0), (0.5, 5.0)):
            self.time = seconds
            for headers in ({}, CONSTANT, {}, CONSTANT):
                self.assertIn(EPOCH % int(seconds), self.replies.head(200, headers, now))
            self.time = 9.0
            self.assertIn(EPOCH % int(seconds), self.replies.head(200, CONSTANT, now))
        self.assertEqual(self.calls, 3)

    def test_heads_with_constant_headers_are_kept(self) -> None:
        kept = self.replies.head(200, CONSTANT, 0.0)
        self.assertIs(self.replies.head(200, CONSTANT, 0.0), kept)
        self.assertIsNot(self.replies.head(200, MappingProxyType({"X-C": "c"}), 0.0), kept)
        self.assertIsNot(self.replies.head(201, CONSTANT, 0.0), kept)

    def test_other_headers_may_change(self) -> None:
        headers = {"X-A": "a"}
        self.assertIn(b"X-A: a\r\n", self.replies.head(200, headers, 0.0))
        headers["X-A"] = "b"
        self.assertIn(b"X-A: b\r\n", self.replies.head(200, headers, 0.0))

    def test_headers_that_have_taken_the_place_of_others_in_memory_are_not_mistaken_for_them(self) -> None:
        kept: Headers = MappingProxyType({"X-A": "a"})
        self.replies.head(200, kept, 0.0)
        other: Headers = MappingProxyType({"X-A": "b"})
        self.replies._kept[200, id(other)] = self.replies._kept[200, id(kept)]
        self.assertIn(b"X-A: b\r\n", self.replies.head(200, other, 0.0))

    def test_a_refusal_is_a_whole_response(self) -> None:
        start = b"Server: %b\r\nDate: %b\r\n" % (SERVER, EPOCH % 1)
        end = b"Content-Length: 0\r\nConnection: close\r\n\r\n"
        self.assertEqual(self.replies.refusal(400, 0.0), b"HTTP/1.1 400 Bad Request\r\n%b%b" % (start, end))
        self.assertEqual(
            self.replies.refusal(503, 0.0), b"HTTP/1.1 503 Service Unavailable\r\n%bRetry-After: 1\r\n%b" % (start, end)
        )
