"""How long a client may take for what, by a clock that the test moves."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kvtwist.web.limits import WebLimits
from tests.support.fronts import responses, statuses
from tests.support.net import Peer
from tests.support.wire import chunked, head, sized
from tests.unit.web.probe import MAX_BODY, probed

LIMITS = WebLimits(head_seconds=10, body_seconds=30, idle_seconds=60)


class TimeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.probe, self.fronted = probed(limits=LIMITS)
        self.pass_time = self.fronted.net.pass_time

    def refused(self, peer: Peer, code: int) -> None:
        """It has heard why, may still be sending, and is cut off in the end."""
        self.assertEqual((statuses(peer)[-1], peer.fate), (code, "half"))
        self.assertEqual(self.fronted.memory.held, 0)
        self.pass_time(4)
        self.assertEqual(peer.fate, "reset")


class HeadTests(TimeTests):
    def test_a_head_byte_by_byte_has_its_time_from_the_first(self) -> None:
        peer = self.fronted.connect()
        for byte in head("GET", "/now")[:9]:
            peer.send(bytes([byte]))
            self.pass_time(1)
        self.assertEqual((peer.received, peer.fate), (b"", "open"))
        self.pass_time(2)
        self.refused(peer, 408)

    def test_a_head_in_time(self) -> None:
        peer = self.fronted.connect()
        data = head("GET", "/now")
        for piece in (data[:5], data[5:20], data[20:]):
            peer.send(piece)
            self.pass_time(4)
        self.assertEqual((statuses(peer), peer.fate), ([200], "open"))

    def test_the_head_after_an_answer_has_its_own_time(self) -> None:
        peer = self.fronted.ask(head("GET", "/wait/a") + b"GET /no")
        self.pass_time(100)
        self.assertEqual(peer.received, b"")
        self.probe.waiting["a"].callback(b"")
        self.pass_time(9)
        self.assertEqual(peer.fate, "open")
        self.pass_time(2)
        self.refused(peer, 408)

    def test_each_head_has_its_own_time(self) -> None:
        peer = self.fronted.connect()
        data = head("GET", "/now")
        for _ in range(10):
            peer.send(data[:9])
            self.pass_time(8)
            peer.send(data[9:])
            self.pass_time(8)
        self.assertEqual((statuses(peer), peer.fate), ([200] * 10, "open"))

    def test_empty_lines_win_no_time(self) -> None:
        peer = self.fronted.connect()
        for _ in range(30):
            peer.send(b"\r\n")
            self.pass_time(2)
        self.pass_time(2)
        self.assertEqual((peer.received, peer.fate), (b"", "closed"))


class BodyTests(TimeTests):
    def test_each_64_kib_have_their_time(self) -> None:
        for coded in (False, True):
            self.setUp()
            request = (chunked if coded else sized)("PUT", "/echo", bytes(300 * 1024))
            peer = self.fronted.connect()
            for start in range(0, len(request), 65 * 1024):
                peer.send(request[start : start + 65 * 1024])
                self.pass_time(25)
            self.assertEqual((statuses(peer), peer.fate), ([200], "open"))

    def test_only_whole_64_kib_extend_the_deadline(self) -> None:
        for coded in (False, True):
            self.setUp()
            request = (chunked if coded else sized)("PUT", "/echo", bytes(200 * 1024))
            peer = self.fronted.ask(request[: 70 * 1024])
            for at in range(29):
                peer.send(request[70 * 1024 + at : 70 * 1024 + at + 1])
                self.pass_time(1)
            self.assertEqual((peer.received, peer.fate), (b"", "open"))
            self.pass_time(2)
            self.refused(peer, 408)

    def test_the_last_byte_of_64_kib_extends_the_deadline(self) -> None:
        peer = self.fronted.ask(head("PUT", "/echo", "Content-Length: 100000") + bytes(64 * 1024 - 1))
        self.pass_time(28)
        peer.send(b"x")
        self.pass_time(28)
        self.assertEqual((peer.received, peer.fate), (b"", "open"))
        self.pass_time(3)
        self.refused(peer, 408)

    def test_a_body_byte_by_byte_is_too_slow(self) -> None:
        for request in (
            head("PUT", "/echo", "Content-Length: 100000"),
            head("PUT", "/echo", "Transfer-Encoding: chunked") + b"100000\r\n",
        ):
            peer = self.fronted.ask(request)
            for _ in range(29):
                peer.send(b"x")
                self.pass_time(1)
            self.assertEqual((peer.received, peer.fate), (b"", "open"))
            self.pass_time(2)
            self.refused(peer, 408)

    def test_chunk_sizes_without_chunks_win_no_time(self) -> None:
        peer = self.fronted.ask(head("PUT", "/echo", "Transfer-Encoding: chunked"))
        for _ in range(14):
            peer.send(b"0")
            self.pass_time(2)
        self.pass_time(3)
        self.refused(peer, 408)

    def test_after_100_continue_a_client_has_the_time_of_a_body(self) -> None:
        peer = self.fronted.ask(head("PUT", "/echo", "Content-Length: 2", "Expect: 100-continue"))
        self.pass_time(29)
        peer.send(b"ab")
        self.assertEqual(statuses(peer), [100, 200])


class IdleTests(TimeTests):
    def test_nothing_sent(self) -> None:
        peer = self.fronted.connect()
        self.pass_time(59)
        self.assertEqual(peer.fate, "open")
        self.pass_time(2)
        self.assertEqual((peer.received, peer.fate), (b"", "closed"))

    def test_nothing_more_sent(self) -> None:
        peer = self.fronted.connect()
        for _ in range(3):
            self.pass_time(50)
            peer.send(head("GET", "/now"))
        self.assertEqual(peer.fate, "open")
        self.pass_time(61)
        self.assertEqual((statuses(peer), peer.fate), ([200] * 3, "closed"))

    def test_an_answer_has_all_the_time_it_takes(self) -> None:
        peer = self.fronted.ask(head("GET", "/wait/a"))
        self.pass_time(1000)
        self.probe.waiting["a"].callback(b"late")
        self.fronted.net.settle()
        self.assertEqual([answer.body for answer in responses(peer.received)], [b"late"])


class SlowReaderTests(TimeTests):
    def test_a_stream_waits_for_its_client(self) -> None:
        peer = self.fronted.connect()
        peer.take(0)
        peer.send(head("GET", "/stream"))
        self.assertLess(self.probe.pieces, 4)
        before = self.probe.pieces
        self.pass_time(30)
        self.assertEqual((self.probe.pieces, peer.fate), (before, "open"))
        peer.take(None)
        [answer] = responses(peer.received)
        self.assertEqual(len(answer.body), 8 * 32 * 1024)

    def test_a_client_that_reads_nothing_of_a_stream_is_aborted(self) -> None:
        peer = self.fronted.connect()
        peer.take(0)
        peer.send(head("GET", "/stream"))
        self.pass_time(62)
        self.assertEqual(peer.fate, "reset")
        self.assertEqual((self.fronted.dispatcher.active_requests, self.fronted.memory.held), (0, 0))

    def test_a_client_that_reads_nothing_of_an_answer_is_aborted(self) -> None:
        peer = self.fronted.connect()
        peer.take(1000)
        peer.send(head("GET", "/large"))
        self.pass_time(62)
        self.assertEqual((peer.fate, len(peer.received)), ("reset", 1000))

    def test_a_client_that_reads_slowly_gets_all_of_it(self) -> None:
        for target, size in (("/large", MAX_BODY), ("/stream", 8 * 32 * 1024)):
            for header in ("X-A: b", "Connection: close"):
                peer = self.fronted.connect()
                peer.take(0)
                peer.send(head("GET", target, header))
                while peer.end.room == 0 and peer.fate == "open":
                    self.pass_time(50)
                    peer.take(size // 20)
                self.assertEqual(len(responses(peer.received)[0].body), size)

    def test_a_client_that_reads_slowly_gets_the_answers_before_a_400(self) -> None:
        peer = self.fronted.connect()
        peer.take(0)
        peer.send(head("GET", "/large") + b"BAD\r\n\r\n")
        while peer.end.room == 0 and peer.fate == "open":
            self.pass_time(20)
            peer.take(MAX_BODY // 10)
        self.assertEqual(statuses(peer), [200, 400])
        self.refused(peer, 400)

    def test_a_begun_request_has_its_own_time_after_the_client_has_read(self) -> None:
        half_head, half_body = head("GET", "/now")[:-2], sized("PUT", "/echo", b"12345")[:-2]
        for begun, seconds, code in ((b"", 60, 0), (half_head, 10, 408), (half_body, 30, 408)):
            for waits in (5, 50):
                self.setUp()
                peer = self.fronted.connect()
                peer.take(0)
                peer.send(head("GET", "/now") + begun)
                self.pass_time(waits)
                peer.take(None)
                self.pass_time(seconds - 2)
                self.assertEqual((statuses(peer), peer.fate), ([200], "open"), (begun, waits))
                self.pass_time(3)
                if code:
                    self.refused(peer, code)
                self.assertNotEqual(peer.fate, "open")

    def test_a_head_that_has_begun_before_has_new_time_too(self) -> None:
        peer = self.fronted.ask(head("GET", "/wait/a") + b"GET /n")
        peer.take(0)
        self.probe.waiting["a"].callback(b"")
        self.fronted.net.settle()
        self.pass_time(50)
        self.assertEqual(peer.fate, "open")
        peer.take(None)
        peer.send(head("GET", "/now")[6:])
        self.assertEqual(statuses(peer), [200, 200])

    def test_reading_pauses_when_64_kib_have_come_ahead(self) -> None:
        peer = self.fronted.ask(head("GET", "/wait/a"))
        peer.send(b"\r\n" * (32 * 1024 - 1) + b"\r")
        self.assertTrue(peer.reads)
        peer.send(b"\n")
        self.assertFalse(peer.reads)
        self.probe.waiting["a"].callback(b"")
        self.fronted.net.settle()
        self.assertTrue(peer.reads)

    def test_reading_from_a_client_that_does_not_read_pauses(self) -> None:
        peer = self.fronted.connect()
        peer.take(0)
        peer.send(head("GET", "/large"))
        for _ in range(20):
            peer.send(head("GET", "/now") * 300)
        self.assertFalse(peer.reads)
        self.assertLess(peer.protocol._reader.kept, 200_000)
        self.assertEqual(self.probe.done, ["large"])
        peer.take(None)
        self.assertEqual(len(statuses(peer)), 6001)


class AtMostTests(SynchronousTestCase):
    """Limits on sizes and numbers."""

    def test_a_long_head_is_431_and_a_long_target_414_however_they_come(self) -> None:
        limits = WebLimits(head=2000, target=500)
        fits = b"GET /%b HTTP/1.1\r\nHost: a\r\nX: %b" % (b"t" * 499, b"")
        fits += b"x" * (2000 - len(fits)) + b"\r\n\r\n"
        cases = (
            (fits, [404]),
            (fits.replace(b"xx", b"xxx", 1), [431]),
            (fits.replace(b"tt", b"ttt", 1).replace(b"xx", b"x", 1), [414]),
            (b"GET /" + b"t" * 10_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", [414]),
            (b"GET /" + b"t" * 10_000 + b"\x00 HTTP/1.1\r\nHost: a\r\n\r\n", [414]),
            (b"GET /\x00" + b"t" * 10_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", [400]),
            (b"G\x00T /" + b"t" * 10_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", [400]),
            (b"G" * 10_000 + b" / HTTP/1.1\r\nHost: a\r\n\r\n", [431]),
            (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 1000 + b"\r\n", [431]),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: \n" + b"X: y\r\n" * 1000 + b"\r\n", [400]),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX" + b" : y\r\n" * 1000 + b"\r\n", [431]),
        )
        for data, expected in cases:
            for step in (1, 7, 499, 500, 501, 1999, 2000, 2001, 100_000):
                _, fronted = probed(limits=limits)
                peer = fronted.connect()
                peer.send(*(data[at : at + step] for at in range(0, len(data), step)))
                self.assertEqual(statuses(peer), expected, (data[:40], step))

    def test_limits_hold_for_requests_that_are_like_others_before(self) -> None:
        probe, fronted = probed(limits=WebLimits(head=2000, target=100))
        probe.max_body = 50
        for data, expected in (
            (head("GET", "/now"), 200),
            (head("GET", "/now?" + "t" * 95), 200),
            (head("GET", "/now?" + "t" * 96), 414),
            (sized("PUT", "/echo", bytes(50)), 200),
            (sized("PUT", "/echo", bytes(51)), 413),
        ):
            self.assertEqual(statuses(fronted.ask(head("GET", "/now") + sized("PUT", "/echo", bytes(51)))), [200, 413])
            for _ in range(3):
                self.assertEqual(statuses(fronted.ask(data)), [expected], data)

    def test_a_head_longer_than_the_bytes_read_ahead(self) -> None:
        probe, fronted = probed(limits=WebLimits(head=300_000))
        peer = fronted.ask(head("GET", "/wait/a"))
        data = head("GET", "/now", "X-A: " + "a" * 250_000)
        peer.send(*(data[at : at + 50_000] for at in range(0, len(data), 50_000)))
        probe.waiting["a"].callback(b"")
        fronted.net.settle()
        self.assertEqual(statuses(peer), [200, 200])

    def test_one_connection_too_many_is_503(self) -> None:
        _, fronted = probed(limits=WebLimits(connections=2))
        first, second = fronted.connect(), fronted.connect()
        third = fronted.ask(head("GET", "/now"))
        [answer] = responses(third.received)
        self.assertEqual((answer.status, answer.header("retry-after"), third.fate), (503, "1", "half"))
        fronted.net.pass_time(3)
        self.assertEqual(third.fate, "reset")
        self.assertEqual((first.fate, second.fate), ("open", "open"))
        fourth = fronted.connect()
        fourth.finish()
        self.assertEqual(fourth.fate, "closed")
        first.finish()
        self.assertEqual(statuses(fronted.ask(head("GET", "/now"))), [200])
