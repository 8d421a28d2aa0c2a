"""The reader's table: every state times everything that can be received."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kvtwist.profiles import PROFILES, Settings
from kvtwist.web.heads import HeadReader
from kvtwist.web.limits import WebLimits
from kvtwist.web.reader import BODY, CHUNKS, DONE, HEAD, IDLE, OVER, Fault, Reader
from kvtwist.web.routing import Router
from tests.support.wire import head, sized

LIMITS = WebLimits(head=2000, target=500)
PLAIN = head("GET", "/kv/a")
SIZED = head("PUT", "/kv/a", "Content-Length: 5")
CHUNKED = head("PUT", "/kv/a", "Transfer-Encoding: chunked")

# Bytes that bring a reader into a state, and bytes that it reads there: its events, and its state after them.
INTO = {IDLE: b"", HEAD: PLAIN[:9], BODY: SIZED + b"12", CHUNKS: CHUNKED + b"5\r\n12", DONE: PLAIN, OVER: b"BAD\r\n"}
TABLE = {
    IDLE: [
        (b"\r\n", [], IDLE),
        (b"\r", [], HEAD),
        (PLAIN[:9], [], HEAD),
        (PLAIN[:-1], [], HEAD),
        (PLAIN, ["GET"], DONE),
        (b"\r\n\r\n" + PLAIN, ["GET"], DONE),
        (PLAIN + PLAIN, ["GET"], DONE),
        (SIZED, ["PUT"], BODY),
        (SIZED + b"1", ["PUT", b"1"], BODY),
        (SIZED + b"12345" + PLAIN, ["PUT", b"12345"], DONE),
        (CHUNKED, ["PUT"], CHUNKS),
        (CHUNKED + b"0\r\n\r\n", ["PUT", b""], DONE),
        (b"BAD\r\n", [400], OVER),
        (b"GET / HTTP/1.1\r\n\r\n", [400], OVER),
        (b"GET /" + b"t" * 500, [414], OVER),
        (PLAIN[:-2] + b"X: " + b"x" * 2000, [431], OVER),
    ],
    HEAD: [
        (PLAIN[9:12], [], HEAD),
        (PLAIN[9:], ["GET"], DONE),
        (PLAIN[9:-2] + b"Content-Length: 5\r\n\r\n123", ["GET", b"123"], BODY),
        (b"\x00", [400], OVER),
        (b"t" * 500, [414], OVER),
        (PLAIN[9:-2] + b"X: " + b"x" * 2000, [431], OVER),
    ],
    BODY: [
        (b"3", [b"3"], BODY),
        (b"345", [b"345"], DONE),
        (b"345" + PLAIN, [b"345"], DONE),
    ],
    CHUNKS: [
        (b"3", [b"3"], CHUNKS),
        (b"345", [b"345"], CHUNKS),
        (b"345\r\n", [b"345"], CHUNKS),
        (b"345\r\n2\r\n67\r\n", [b"34567"], CHUNKS),
        (b"345\r\n0\r\n", [b"345"], CHUNKS),
        (b"345\r\n0\r\n\r\n" + PLAIN, [b"345"], DONE),
        (b"345xx", [400], OVER),
        (b"345\r\nx", [400], OVER),
    ],
    DONE: [(PLAIN, [], DONE), (b"BAD\r\n", [], DONE), (b"\r\n", [], DONE)],
    OVER: [(PLAIN, [], OVER), (b"BAD\r\n", [], OVER)],
}


def reader() -> Reader:
    profile = PROFILES["lsfr"](None, Settings())
    return Reader(HeadReader(Router([profile])), LIMITS)


def given(reader: Reader) -> list[object]:
    """All that a reader gives: methods of heads, pieces of bodies joined, codes of faults."""
    found: list[object] = []
    while (event := reader.next()) is not None:
        if isinstance(event, Fault):
            found.append(event.code)
        else:
            found.append(event if isinstance(event, bytes) else event[0].decode())
    return joined(found)


def joined(found: list[object]) -> list[object]:
    """The same, with neighbouring pieces of a body put together."""
    together: list[object] = []
    for event in found:
        if together and isinstance(event, bytes) and isinstance(together[-1], bytes):
            together[-1] += event
        else:
            together.append(event)
    return together


class ReaderTests(SynchronousTestCase):
    def test_the_table(self) -> None:
        self.assertEqual(set(TABLE), set(INTO))
        for state, rows in TABLE.items():
            for data, expected, after in rows:
                one = reader()
                one.receive(INTO[state])
                given(one)
                self.assertIs(one.state, state)
                one.receive(data)
                self.assertEqual((given(one), one.state), (expected, after), (state, data))

    def test_the_table_byte_by_byte(self) -> None:
        for state, rows in TABLE.items():
            for data, expected, after in rows:
                at_once, one = reader(), reader()
                at_once.receive(INTO[state])
                expected = joined([*given(at_once), *expected])
                found: list[object] = []
                for byte in INTO[state] + data:
                    one.receive(bytes([byte]))
                    found += given(one)
                if after is OVER:  # which may be said at the first byte that is wrong
                    self.assertEqual((found[-1], one.state), (expected[-1], OVER), (state, data))
                elif data == b"\r\n" and state is IDLE:
                    self.assertIs(one.state, HEAD, "an empty line in two pieces wins no time")
                else:
                    self.assertEqual((joined(found), one.state), (expected, after), (state, data))

    def test_kept_counts_the_bytes_not_returned(self) -> None:
        one = reader()
        for data, kept in ((PLAIN[:9], 9), (PLAIN[9:] + b"abc", 3), (b"de", 5)):
            one.receive(data)
            given(one)
            self.assertEqual(one.kept, kept)
        one.go_on()
        given(one)
        self.assertEqual((one.kept, one.state), (5, HEAD))
        one.stop()
        self.assertEqual((one.kept, one.state), (0, OVER))
        one.receive(b"abc")
        self.assertEqual(one.kept, 0)

    def test_requests_follow_each_other(self) -> None:
        one = reader()
        one.receive(PLAIN + sized("PUT", "/kv/a", b"12") + b"\r\n" + PLAIN)
        found = []
        for _ in range(3):
            found += given(one)
            self.assertIs(one.state, DONE)
            one.go_on()
        self.assertEqual((found, one.kept), (["GET", "PUT", b"12", "GET"], 0))
        one.receive(PLAIN[:3])
        one.go_on()
        self.assertEqual((given(one), one.state), ([], HEAD))
        one.go_on()
        self.assertIs(one.state, HEAD, "only what is done can be followed")

    def test_promised_is_the_least_number_of_bytes_to_come(self) -> None:
        for data, promised in (
            (PLAIN, 0),
            (SIZED, 5),
            (SIZED + b"12", 3),
            (CHUNKED, 0),
            (CHUNKED + b"a\r\n", 10),
            (CHUNKED + b"a\r\n123", 7),
        ):
            one = reader()
            one.receive(data)
            given(one)
            self.assertEqual(one.promised, promised, data)

    def test_a_fault_has_the_first_bytes_of_its_head(self) -> None:
        one = reader()
        one.receive(b"BAD thing\r\n\r\n")
        fault = one.next()
        assert isinstance(fault, Fault)
        self.assertEqual((fault.code, fault.start), (400, b"BAD thing\r\n\r\n"))
        one = reader()
        one.receive(b"GET /slow")
        self.assertIsNone(one.next())
        self.assertEqual(one.start_of_head(), b"GET /slow")
