"""What is the head of a request, and what can no longer become one."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kvtwist.web.heads import BadHead, Head, fault_in
from kvtwist.web.limits import WebLimits

LIMITS = WebLimits(head=1000, target=100)


def read(*lines: str) -> Head:
    head = Head()
    head.read("\r\n".join([*lines, "", ""]).encode("latin-1"))
    return head


class HeadTests(SynchronousTestCase):
    def test_what_is_read(self) -> None:
        head = read("PUT /a?b HTTP/1.1", "Host: a", "Content-Length: 5", "EXPECT: 100-Continue")
        self.assertEqual((head.method, head.target, head.version), (b"PUT", b"/a?b", b"1"))
        self.assertEqual((head.length, head.expects, head.keep_alive()), (5, True, True))
        head = read("GET / HTTP/1.0")
        self.assertEqual((head.version, head.length, head.expects, head.keep_alive()), (b"0", 0, False, False))
        self.assertIsNone(read("GET / HTTP/1.1", "Host:", "Transfer-Encoding: Chunked").length)

    def test_nothing_stays_from_one_to_the_next(self) -> None:
        head = Head()
        for _ in range(3):
            head.read(
                b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close\r\nExpect: 100-continue\r\n\r\n"
            )
            self.assertEqual((head.length, head.expects, head.keep_alive()), (5, True, False))
            head.read(b"GET / HTTP/1.1\r\nHost: b\r\n\r\n")
            self.assertEqual((head.length, head.expects, head.keep_alive()), (0, False, True))
            head.read(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            self.assertIsNone(head.length)
            self.assertRaises(BadHead, head.read, b"GET / HTTP/1.1\r\nHost: b\r\nX : a\r\n\r\n")
            head.read(b"OPTIONS * HTTP/1.1\r\nHost: b\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n")
            self.assertEqual((head.method, head.target, head.length), (b"OPTIONS", b"*", 0))

    def test_any_token_is_a_method(self) -> None:
        for method in ("GET", "get", "M-SEARCH", "CONNECT", "PRI", "X!#$%&'*+-.^_`|~9", "A" * 500):
            self.assertEqual(read(f"{method} /a HTTP/1.1", "Host: a").method, method.encode())

    def test_what_is_none(self) -> None:
        for lines in (
            ("GET /",),
            ("GET / HTTP/1.1", "Host: a", "Content-Length: " + "9" * 5000),
            ("GET / HTTP/1.1", "Host: a", "Content-Length: 99999999999999999999999"),
            ("GET / HTTP/1.1", "Host: a", "Content-Length: \xb2"),
            ("GET / HTTP/1.0", "Transfer-Encoding: chunked"),
            ("GET / HTTP/1.0", "Host: a", "Host: a"),
            ("GET / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        ):
            self.assertRaises(BadHead, read, *lines)


class FaultTests(SynchronousTestCase):
    def fault(self, data: bytes, seen: int = 0) -> int:
        return fault_in(data, 0, data.find(b"\r\n\r\n"), seen, LIMITS)

    def test_every_start_of_a_good_one_may_become_one(self) -> None:
        for data in (
            b"GET / HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\r\n",
            b"X!y /a?b HTTP/1.0\r\n\r\n",
            b"PUT " + b"/" * 100 + b" HTTP/1.1\r\nX: " + b"a" * 870 + b"\r\n\r\n",
        ):
            for end in range(len(data) + 1):
                self.assertEqual(self.fault(data[:end]), 0, data[:end])

    def test_the_first_byte_that_is_wrong_is_enough(self) -> None:
        for good, bad in (
            (b"", b" "),
            (b"", b"\x16"),
            (b"G", b"("),
            (b"GET", b"\r"),
            (b"GET ", b" "),
            (b"GET /", b"\x00"),
            (b"GET / ", b"h"),
            (b"GET / HTTP/1.", b"2"),
            (b"GET / HTTP/1.1", b" "),
            (b"GET / HTTP/1.1", b"\n"),
            (b"GET / HTTP/1.1\r\nHost: a", b"\n"),
            (b"\r", b"G"),
        ):
            self.assertEqual((self.fault(good), self.fault(good + bad)), (0, 400), good + bad)

    def test_what_was_looked_at_is_not_looked_at_again(self) -> None:
        data = b"GET / HTTP/1.1\r\nX: \n"
        self.assertEqual((self.fault(data, len(data) - 1), self.fault(data, len(data))), (400, 0))
