"""Heads of requests: valid, malformed, and incomplete ones that cannot become valid."""

from __future__ import annotations

from typing import cast

from twisted.trial.unittest import SynchronousTestCase

from kvtwist.interfaces import IStore
from kvtwist.profiles import PROFILES, Settings
from kvtwist.web.heads import BadHead, Fields, Head, HeadReader, fault_in, is_target
from kvtwist.web.limits import WebLimits
from kvtwist.web.routing import Router

LIMITS = WebLimits(head=1000, target=100)
ROUTER = Router([PROFILES["lsfr"](cast(IStore, None), Settings())])


def read(*lines: str, reader: HeadReader | None = None) -> Head:
    return (reader or HeadReader(ROUTER)).read("\r\n".join([*lines, "", ""]).encode("latin-1"))


class HeadTests(SynchronousTestCase):
    def test_heads(self) -> None:
        method, target, fields, (route, key) = read(
            "PUT /kv/a?b HTTP/1.1", "Host: a", "Content-Length: 5", "EXPECT: 100-Continue"
        )
        self.assertEqual((method, target, fields), (b"PUT", b"/kv/a?b", Fields(b"1", 5, expects=True, keep_alive=True)))
        self.assertEqual((route.rule, key), ("/kv/<key>", "a"))
        fields = read("GET / HTTP/1.0")[2]
        self.assertEqual(fields, Fields(b"0", 0, expects=False, keep_alive=False))
        self.assertIsNone(read("GET / HTTP/1.1", "Host:", "Transfer-Encoding: Chunked")[2].length)

    def test_forms_of_a_target(self) -> None:
        for target in (b"/", b"/a", b"*", b"http://a", b"http://a:80/b", b"HTTPS://[::1]/?b", b"a+b.c-1://a%41!/"):
            self.assertTrue(is_target(target), target)
            self.assertEqual(read(f"OPTIONS {target.decode()} HTTP/1.1", "Host: a")[1], target)
        for target in (b"", b"a", b"**", b"http:/a", b"http:///a", b"://a/", b"1a://a/", b"http://a@b/", b"http://a b"):
            self.assertFalse(is_target(target), target)

    def test_expectations_of_100_continue(self) -> None:
        for version, value, expects in (
            ("1.1", "100-continue", True),
            ("1.1", " 100-Continue\t", True),
            ("1.1", "200-ok", False),
            ("1.1", "", False),
            ("1.0", "100-continue", False),
            ("1.0", "200-ok", False),
        ):
            self.assertIs(read(f"PUT / HTTP/{version}", "Host: a", f"Expect: {value}")[2].expects, expects)

    def test_nothing_stays_from_one_to_the_next(self) -> None:
        reader = HeadReader(ROUTER)
        for _ in range(3):
            for lines, fields in (
                (("Host: a", "Content-Length: 5", "Connection: close", "Expect: 100-continue"), (5, True, False)),
                (("Host: b",), (0, False, True)),
                (("Host: a", "Transfer-Encoding: chunked"), (None, False, True)),
                (("Host: b", "Upgrade: h2c", "Connection: Upgrade"), (0, False, True)),
            ):
                found = read("PUT /kv/a HTTP/1.1", *lines, reader=reader)[2]
                self.assertEqual((found.length, found.expects, found.keep_alive), fields)
                self.assertRaises(BadHead, read, "PUT /kv/a HTTP/1.1", *lines, "X : a", reader=reader)

    def test_headers_that_were_seen_before_excuse_no_request_line(self) -> None:
        reader = HeadReader(ROUTER)
        for version, host in (("1.1", "Host: a"), ("1.1", "Host:a"), ("1.0", "X:y")):
            read(f"GET /kv/a HTTP/{version}", host, reader=reader)
            for line in (
                "",
                "GET",
                "GET ",
                "/kv/a ",
                "GET  ",
                " GET /kv/a ",
                "GET  /kv/a ",
                "GET /kv/a  ",
                "GET /k v/a ",
                "G(T /kv/a ",
                "GET kv/a ",
                "GET /kv/\x7f ",
                "GET /kv/\x01 ",
                "GET /kv/\xe9 ",
                "GET /kv/\ta ",
                "GET\t/kv/a ",
                "GET http:// ",
                "GET http://a@b/ ",
                "GET http://[/ ",
            ):
                self.assertRaises(BadHead, read, f"{line}HTTP/{version}", host, reader=reader)

    def test_only_so_many_headers_are_remembered_and_none_that_are_long(self) -> None:
        reader = HeadReader(ROUTER)
        for index in range(3000):
            read("GET /kv/a HTTP/1.1", "Host: a", f"X: {index}", reader=reader)
            self.assertEqual(len(reader._known), index % 1024 + 1)
        reader = HeadReader(ROUTER)
        for size, known in ((1025, 0), (1024, 1)):
            said = b"HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n"
            reader.read(b"GET /kv/a " + said % (b"x" * (size - len(said) + 2)))
            self.assertEqual(len(reader._known), known)

    def test_any_token_is_a_method(self) -> None:
        for method in ("GET", "get", "M-SEARCH", "CONNECT", "PRI", "X!#$%&'*+-.^_`|~9", "A" * 500):
            self.assertEqual(read(f"{method} /a HTTP/1.1", "Host: a")[0], method.encode())

    def test_malformed_heads(self) -> None:
        for lines in (
            ("GET /",),
            ("GET / HTTP/1.1", "Host: a", "Content-Length: " + "9" * 5000),
            ("GET / HTTP/1.1", "Host: a", "Content-Length: 99999999999999999999999"),
            ("GET / HTTP/1.1", "Host: a", "Content-Length: \xb2"),
            ("GET / HTTP/1.0", "Transfer-Encoding: chunked"),
            ("GET / HTTP/1.0", "Host: a", "Host: a"),
            ("GET / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
            ("GET / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "X: a", "transfer-encoding:Chunked"),
            ("GET / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked, chunked"),
            ("GET / HTTP/1.1", "Host: a", "Transfer-Encoding: gzip"),
            ("GET / HTTP/1.1", "Host: a b"),
            ("GET / HTTP/1.1", "Host: a/b"),
            ("GET / HTTP/1.1", "Host: a:b"),
            ("GET / HTTP/1.1", "Host: a", "Host: a"),
            ("GET / HTTP/1.1",),
        ):
            self.assertRaises(BadHead, read, *lines)

    def test_a_length_is_digits_with_spaces_around_them_whatever_byte_comes_with_one(self) -> None:
        for byte in range(256):
            for value in (chr(byte), f"{chr(byte)}5", f"5{chr(byte)}", f"5{chr(byte)}6"):
                digits = value.strip(" \t")
                lines = ("GET / HTTP/1.1", "Host: a", f"Content-Length: {value}")
                if digits.isascii() and digits.isdigit():
                    self.assertEqual(read(*lines)[2].length, int(digits))
                else:
                    self.assertRaises(BadHead, read, *lines)


class RequestTests(SynchronousTestCase):
    """Requests that are read in one go are those that would be read so in steps, once the like of them has been."""

    def setUp(self) -> None:
        self.reader = HeadReader(ROUTER)
        self.said = b" HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
        self.assertIsNone(self.reader.read_request(b"PUT /kv/a" + self.said + b"hello"))
        self.reader.read(b"PUT /kv/a" + self.said)
        self.reader.read(b"GET /kv/a HTTP/1.1\r\nHost: a\r\n\r\n")

    def test_all_of_it_is_there(self) -> None:
        self.assertEqual(
            self.reader.read_request(b"PUT /kv/b" + self.said + b"hello"),
            (self.reader.read(b"PUT /kv/b" + self.said), b"hello"),
        )
        whole = b"DELETE /kv/b HTTP/1.1\r\nHost: a\r\n\r\n"
        self.assertEqual(self.reader.read_request(whole), (self.reader.read(whole), b""))

    def test_data_that_is_not_one_known_request(self) -> None:
        get = b"GET /kv/a HTTP/1.1\r\nHost: a\r\n\r\n"
        for data in (
            b"",
            b"PUT",
            b"PUT /kv/b",
            b"PUT /kv/b" + self.said,
            b"PUT /kv/b" + self.said + b"hell",
            b"PUT /kv/b" + self.said + b"hello\r",
            b"PUT /kv/b" + self.said[:-1] + b"hello",
            b"\r\nPUT /kv/b" + self.said + b"hello",
            b"PUT kv/b" + self.said + b"hello",
            b"PUT /k\nv/b" + self.said + b"hello",
            b"P(T /kv/b" + self.said + b"hello",
            b"PUT /kv/b" + self.said.replace(b"5", b"4") + b"hello",
            b"hello\r\n\r\nPUT /kv/b" + self.said + b"hello",
            get[:-1],
            get + b"G",
            get + get,
            b"\r\n" + get,
        ):
            self.assertIsNone(self.reader.read_request(data), data)

    def test_one_in_chunks(self) -> None:
        chunked = b"PUT /kv/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        self.reader.read(chunked)
        self.assertIsNone(self.reader.read_request(chunked))
        self.assertIsNone(self.reader.read_request(chunked + b"0\r\n\r\n"))


class FaultTests(SynchronousTestCase):
    def fault(self, data: bytes, seen: int = 0) -> int:
        """The same, wherever it begins."""
        end = data.find(b"\r\n\r\n")
        fault = fault_in(data, 0, end, seen, LIMITS)
        before = b"before \n"
        behind = fault_in(before + data, len(before), -1 if end < 0 else len(before) + end, seen, LIMITS)
        self.assertEqual(behind, fault)
        return fault

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

    def test_limits_are_kept_to_the_byte(self) -> None:
        line, end = b"GET / HTTP/1.1\r\n", b"\r\n\r\n"
        for good, status in (
            (b"GET /" + b"t" * 99, 414),
            (b"GET /" + b"t" * 99 + b" HTTP/1.1\r\n", 414),
            (b"GET /" + b"t" * 99 + b" HTTP/1.1" + end, 414),
            (line + b"X: " + b"t" * (1000 - len(line) - 3) + end, 431),
            (line + b"X: " + b"t" * (1003 - len(line) - 3), 431),
            (b"t" * 1003, 431),
        ):
            self.assertEqual((self.fault(good), self.fault(good.replace(b"t", b"tt", 1))), (0, status), good)
        for size, status in ((1000, 400), (1003, 400), (1004, 431)):
            self.assertEqual(self.fault(line + b"X: " + b"t" * (size - len(line) - 4) + b"\n"), status, size)

    def test_a_target_that_is_too_long_is_looked_at_as_far_as_the_limit(self) -> None:
        for at, status in ((50, 400), (100, 400), (101, 414)):
            target = b"/" * at + b"\x00" + b"a" * (150 - at)
            self.assertEqual(self.fault(b"GET " + target), status, at)

    def test_checked_bytes_are_not_checked_again(self) -> None:
        data = b"GET / HTTP/1.1\r\nX: \n"
        self.assertEqual((self.fault(data, len(data) - 1), self.fault(data, len(data))), (400, 0))
