"""The front's responses to requests: one after the other, pipelined, and refused."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.fronts import responses, statuses
from tests.support.wire import chunked, head, sized
from tests.unit.web.probe import MAX_BODY, probed


class AnswerTests(SynchronousTestCase):
    def test_a_body_comes_back_however_it_was_sent(self) -> None:
        for body in (b"", b"x", b"ab" * 1000):
            for request in (sized("PUT", "/echo", body), chunked("PUT", "/echo", *([body] if body else []))):
                peer = probed()[1].ask(request)
                self.assertEqual([answer.body for answer in responses(peer.received)], [body])
                self.assertEqual(peer.fate, "open")

    def test_every_split_of_requests_gives_the_same(self) -> None:
        data = b"\r\n" + sized("PUT", "/echo", b"12") + chunked("PUT", "/echo", b"1", b"23") + head("GET", "/now")
        for cut in range(1, len(data)):
            peer = probed()[1].connect()
            peer.send(data[:cut], data[cut:])
            self.assertEqual([answer.body for answer in responses(peer.received)], [b"12", b"123", b"now"], cut)
        peer = probed()[1].connect()
        peer.send(*(bytes([byte]) for byte in data))
        self.assertEqual([answer.body for answer in responses(peer.received)], [b"12", b"123", b"now"])

    def test_a_body_in_the_smallest_pieces_takes_no_more_than_its_size(self) -> None:
        peer = probed()[1].ask(head("PUT", "/wait/a", f"Content-Length: {MAX_BODY}"))
        for _ in range(100_000):
            peer.protocol.dataReceived(b"ab")
        pieces = peer.protocol._request._body
        self.assertEqual(sum(map(len, pieces)), 200_000)
        self.assertLess(len(pieces), 15)

    def test_statuses_without_bodies(self) -> None:
        _, fronted = probed()
        for code in ("204", "304"):
            peer = fronted.ask(head("GET", f"/code/{code}") + head("GET", "/now"))
            self.assertEqual([answer.body for answer in responses(peer.received)], [b"", b"now"])
            self.assertNotIn(b"Content-Length: 4", peer.received)

    def test_head_has_the_length_and_no_body(self) -> None:
        peer = probed()[1].ask(head("HEAD", "/now") + head("HEAD", "/stream") + head("GET", "/now"))
        first, second, third = responses(peer.received, ["HEAD", "HEAD", "GET"])
        self.assertEqual((first.content_length, first.body), (3, b""))
        self.assertEqual((second.content_length, second.body), (None, b""))
        self.assertEqual(third.body, b"now")

    def test_a_stream_has_chunks_and_for_http10_an_end(self) -> None:
        _, fronted = probed()
        peer = fronted.ask(head("GET", "/stream") + head("GET", "/now"))
        first, second = responses(peer.received)
        self.assertEqual((first.header("transfer-encoding"), len(first.body)), ("chunked", 8 * 32 * 1024))
        self.assertEqual((second.body, peer.fate), (b"now", "open"))
        peer = fronted.ask(head("GET", "/stream", "Connection: keep-alive", version="HTTP/1.0"))
        [answer] = responses(peer.received)
        self.assertEqual((answer.header("transfer-encoding"), len(answer.body)), (None, 8 * 32 * 1024))
        self.assertEqual(peer.fate, "closed")

    def test_pieces_of_any_size_are_chunks_in_their_order(self) -> None:
        pieces = [b"a", b"b" * (64 * 1024), b"", b"c" * (64 * 1024 + 1), b"d" * 200_000, b"e"]

        async def stream(probe: object, request: Any) -> None:
            for piece in pieces:
                request.write(piece)

        for room in (None, 0):
            probe, fronted = probed()
            probe.streams = stream
            peer = fronted.connect()
            peer.take(room)
            peer.send(head("GET", "/streams"))
            while peer.end.room == 0:
                peer.take(60_000)
            [answer] = responses(peer.received)
            self.assertTrue(answer.body == b"".join(pieces))
            self.assertEqual(fronted.memory.held, 0)

    def test_header_values_cannot_end_their_lines(self) -> None:
        peer = probed()[1].ask(head("GET", "/header"))
        lines = peer.received.split(b"\r\n")
        self.assertIn(b"X-A: a  Set-Cookie: b", lines)
        self.assertIn(b"X-B: b X-C: c", lines)
        self.assertIn(b"X-D  X-E: d", lines)
        self.assertIn(b"X-F: 1 2", lines)
        self.assertIn(b"X-F: 3 4", lines)
        self.assertEqual(sum(b"\n" in line or b"\r" in line or b"\0" in line for line in lines), 0)

    def test_a_response_that_is_none_ends_the_connection_and_nothing_else(self) -> None:
        _, fronted = probed()
        peer = fronted.ask(head("GET", "/wrong"))
        self.assertEqual((peer.received, peer.fate), (b"", "reset"))
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        self.assertEqual((fronted.dispatcher.active_requests, fronted.memory.held), (0, 0))
        self.assertEqual(fronted.net.faults, [])

    def test_a_fault_in_the_middle_of_a_stream_ends_the_connection(self) -> None:
        _, fronted = probed()
        peer = fronted.ask(head("GET", "/torn") + head("GET", "/now"))
        self.assertEqual(peer.fate, "reset")
        self.assertNotIn(b"now", peer.received)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual((fronted.dispatcher.active_requests, fronted.memory.held), (0, 0))


class TargetTests(SynchronousTestCase):
    def test_the_forms_of_a_target(self) -> None:
        _, fronted = probed()
        for target, status in (
            ("/now", 200),
            ("http://localhost/now", 200),
            ("HTTP://localhost:80/now?a=b", 200),
            ("http://localhost", 404),
            ("*", 404),
            ("now", 400),
            ("now?a=http://localhost/now", 400),
            ("localhost:80", 400),
            ("://localhost/now", 400),
            ("1a://localhost/now", 400),
        ):
            self.assertEqual(statuses(fronted.ask(head("GET", target))), [status], target)
        self.assertEqual(statuses(fronted.ask(head("OPTIONS", "*"))), [404])

    def test_values_of_host(self) -> None:
        _, fronted = probed()
        for host, status in (
            ("localhost", 200),
            ("LOCALHOST:4000", 200),
            ("", 200),
            ("a.b.", 200),
            ("a_b", 200),
            ("a%20b", 200),
            ("[::1]:80", 200),
            ("127.0.0.1:", 200),
            ("a b", 400),
            ("a/b", 400),
            ("a@b", 400),
            ("a:b", 400),
            ("a,b:80:90", 400),
            ("caf\xe9", 400),
            ("[::1", 400),
            ("a%2", 400),
        ):
            request = head("GET", "/now").replace(b"localhost", host.encode("latin-1"))
            self.assertEqual(statuses(fronted.ask(request)), [status], host)


class PersistenceTests(SynchronousTestCase):
    def test_which_connections_stay_open(self) -> None:
        for version, header, fate, said in (
            ("HTTP/1.1", "", "open", None),
            ("HTTP/1.1", "Connection: keep-alive", "open", None),
            ("HTTP/1.1", "Connection: close", "closed", "close"),
            ("HTTP/1.1", "Connection: x, Close", "closed", "close"),
            ("HTTP/1.1", "Connection: close, keep-alive", "closed", "close"),
            ("HTTP/1.0", "", "closed", "close"),
            ("HTTP/1.0", "Connection: keep-alive", "open", "keep-alive"),
            ("HTTP/1.0", "Connection: keep-alive, close", "closed", "close"),
        ):
            _, fronted = probed()
            request = head("GET", "/now", *([header] if header else []), version=version)
            peer = fronted.ask(request)
            self.assertEqual(peer.fate, fate, (version, header))
            self.assertEqual(responses(peer.received)[0].header("connection"), said, (version, header))
            if fate == "open":
                peer.send(request)
                self.assertEqual(statuses(peer), [200, 200])

    def test_bytes_after_the_last_request_are_not_answered(self) -> None:
        probe, fronted = probed()
        peer = fronted.ask(head("GET", "/now", "Connection: close") + head("GET", "/now"))
        self.assertEqual((statuses(peer), probe.done), ([200], ["now"]))
        self.assertEqual(peer.fate, "half", "its client may still be sending")
        peer.send(head("GET", "/now"))
        peer.finish()
        self.assertEqual((statuses(peer), probe.done, peer.fate), ([200], ["now"], "closed"))


class ExpectTests(SynchronousTestCase):
    def begin(self, *headers: str, version: str = "HTTP/1.1", behind: bytes = b"") -> list[int]:
        peer = probed()[1].ask(head("PUT", "/echo", "Expect: 100-continue", *headers, version=version) + behind)
        return statuses(peer)

    def test_a_client_that_expects_100_continue_gets_it(self) -> None:
        self.assertEqual(self.begin("Content-Length: 5"), [100])
        self.assertEqual(self.begin("Transfer-Encoding: chunked"), [100])

    def test_a_client_that_has_sent_its_body_gets_no_100_continue(self) -> None:
        self.assertEqual(self.begin("Content-Length: 5", behind=b"1"), [])
        self.assertEqual(self.begin("Content-Length: 5", behind=b"12345"), [200])
        self.assertEqual(self.begin("Content-Length: 0"), [200])
        self.assertEqual(self.begin("Content-Length: 5", version="HTTP/1.0"), [])
        self.assertEqual(self.begin(f"Content-Length: {MAX_BODY + 1}"), [413])

    def test_the_body_follows(self) -> None:
        peer = probed()[1].ask(head("PUT", "/echo", "Expect: 100-continue", "Content-Length: 5"))
        peer.send(b"123", b"45" + head("GET", "/now"))
        self.assertEqual([answer.body for answer in responses(peer.received)], [b"", b"12345", b"now"])


class PipelineTests(SynchronousTestCase):
    def test_a_slow_request_delays_those_after_it(self) -> None:
        probe, fronted = probed()
        peer = fronted.ask(head("GET", "/now") + head("GET", "/wait/a") + head("GET", "/now") + head("GET", "/wait/b"))
        self.assertEqual(probe.done, ["now", "wait a"])
        self.assertEqual(statuses(peer), [200])
        probe.waiting["a"].callback(b"a")
        self.assertEqual(probe.done, ["now", "wait a", "now", "wait b"])
        peer.send(head("GET", "/now"))
        probe.waiting["b"].callback(b"b")
        fronted.net.settle()
        self.assertEqual([answer.body for answer in responses(peer.received)], [b"now", b"a", b"now", b"b", b"now"])

    def test_not_everything_is_read_ahead(self) -> None:
        probe, fronted = probed()
        peer = fronted.ask(head("GET", "/wait/a"))
        more = head("GET", "/now") * 500
        sent = 0
        while peer.reads and sent < 100:
            peer.send(more)
            sent += 1
        self.assertFalse(peer.reads)
        self.assertLess(peer.protocol._reader.kept, 200_000)
        probe.waiting["a"].callback(b"a")
        fronted.net.settle()
        self.assertTrue(peer.reads)
        self.assertEqual(statuses(peer), [200] * (sent * 500 + 1))
        self.assertEqual(peer.protocol._reader.kept, 0)

    def test_a_long_pipeline_of_answers_that_come_later_nests_no_deeper(self) -> None:
        probe, fronted = probed()
        peer = fronted.ask(head("GET", "/wait/a") * 3000)
        for _ in range(3000):
            probe.waiting.pop("a").callback(b"a")
            fronted.net.settle()
        self.assertEqual(statuses(peer), [200] * 3000)

    def test_a_long_pipeline_of_answers_that_come_at_once_nests_no_deeper(self) -> None:
        _, fronted = probed()
        self.assertEqual(statuses(fronted.ask(head("GET", "/now") * 5000)), [200] * 5000)

    def test_large_answers_to_a_pipeline_are_made_as_fast_as_they_are_taken(self) -> None:
        probe, fronted = probed()
        peer = fronted.connect()
        peer.take(0)
        peer.send(head("GET", "/large") * 100)
        self.assertLess(len(probe.done), 3)
        peer.take(5 * MAX_BODY)
        self.assertLess(len(probe.done), 10)
        peer.take(None)
        self.assertEqual(len(probe.done), 100)
        self.assertEqual(statuses(peer), [200] * 100)


class RefusalTests(SynchronousTestCase):
    def test_a_large_body_is_413_and_the_connection_closes(self) -> None:
        long = head("PUT", "/echo", f"Content-Length: {MAX_BODY + 1}")
        chunk = head("PUT", "/echo", "Transfer-Encoding: chunked") + b"%x\r\n" % (MAX_BODY + 1)
        many = chunked("PUT", "/echo", *[b"c" * 65536] * 17)
        for request in (long, chunk, many):
            probe, fronted = probed()
            peer = fronted.ask(request)
            self.assertEqual((statuses(peer), peer.fate, probe.done), ([413], "half", []))
            peer.send(b"more" * 100_000)
            self.assertEqual((peer.fate, fronted.memory.held), ("half", 0))
            peer.finish()
            self.assertEqual(peer.fate, "closed")

    def test_a_broken_chunk_is_400(self) -> None:
        _, fronted = probed()
        peer = fronted.ask(head("PUT", "/echo", "Transfer-Encoding: chunked") + b"5\r\n12345\r\nxyz")
        self.assertEqual((statuses(peer), peer.fate, fronted.memory.held), ([400], "half", 0))

    def test_good_requests_before_a_bad_one_are_answered(self) -> None:
        peer = probed()[1].ask(head("GET", "/now") * 3 + b"BAD\r\n\r\n" + head("GET", "/now"))
        self.assertEqual((statuses(peer), peer.fate), ([200, 200, 200, 400], "half"))
