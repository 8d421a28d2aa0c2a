"""The end of connections, by client, server or error, with active requests; and how bytes reach the socket."""

from __future__ import annotations

import socket

from twisted.trial.unittest import SynchronousTestCase

from kvtwist.model import DATA
from kvtwist.profiles import PROFILES, Settings
from kvtwist.web.connection import FrontConnection
from tests.support.engine import Engine, SteppedWorker, TestCase, result_of
from tests.support.fronts import Fronted, responses, statuses
from tests.support.wire import head, sized
from tests.unit.web.probe import MAX_BODY, probed

HALF = head("PUT", "/echo", "Content-Length: 10") + b"12345"


class LeavingTests(SynchronousTestCase):
    def test_the_handler_of_a_client_that_leaves_is_cancelled(self) -> None:
        for leave in ("leave", "finish"):
            probe, fronted = probed()
            peer = fronted.ask(head("GET", "/wait/a") + head("GET", "/now"))
            getattr(peer, leave)()
            self.assertEqual((probe.cancelled, probe.done), (["a"], ["wait a"]))
            self.assertEqual((peer.received, peer.fate), (b"", "closed"))
            self.assertEqual((fronted.dispatcher.active_requests, fronted.memory.held), (0, 0))

    def test_a_client_leaves_in_the_middle_of_a_request(self) -> None:
        for data in (b"", b"GET", HALF, head("PUT", "/echo", "Transfer-Encoding: chunked") + b"5\r\n12"):
            for leave in ("leave", "finish"):
                probe, fronted = probed()
                peer = fronted.ask(data)
                getattr(peer, leave)()
                self.assertEqual((peer.received, peer.fate, probe.done), (b"", "closed", []))
                self.assertEqual(fronted.memory.held, 0)

    def test_a_client_leaves_in_the_middle_of_a_stream(self) -> None:
        probe, fronted = probed()
        peer = fronted.connect()
        peer.take(0)
        peer.send(head("GET", "/stream"))
        peer.leave()
        self.assertEqual((fronted.dispatcher.active_requests, fronted.memory.held, peer.fate), (0, 0, "closed"))
        self.assertLess(probe.pieces, 4)

    def test_a_client_that_has_finished_sending_gets_finished_answers(self) -> None:
        probe, fronted = probed()
        peer = fronted.connect()
        peer.take(0)
        peer.send(head("GET", "/large") + head("GET", "/now"))
        peer.finish()
        self.assertEqual(peer.fate, "open")
        peer.take(None)
        self.assertEqual((statuses(peer), peer.fate, probe.done), ([200], "closed", ["large"]))

    def test_a_client_that_has_finished_sending_gets_nothing_written_later(self) -> None:
        _, fronted = probed()
        peer = fronted.connect()
        peer.take(0)
        peer.send(head("GET", "/now") + head("GET", "/stubborn/a"))
        peer.finish()
        peer.take(None)
        self.assertEqual((statuses(peer), peer.fate), ([200], "closed"))
        self.assertEqual((fronted.dispatcher.active_requests, fronted.memory.held), (0, 0))

    def test_a_client_that_has_finished_sending_and_does_not_read_is_aborted(self) -> None:
        _, fronted = probed()
        peer = fronted.connect()
        peer.take(0)
        peer.send(head("GET", "/large"))
        peer.finish()
        fronted.net.pass_time(62)
        self.assertEqual(peer.fate, "reset")

    def test_a_client_leaves_while_reading_is_paused(self) -> None:
        probe, fronted = probed()
        peer = fronted.ask(head("GET", "/wait/a") + head("GET", "/now") * 3000)
        self.assertFalse(peer.reads)
        peer.leave()
        probe.waiting["a"].callback(b"")
        fronted.net.settle()
        self.assertEqual((peer.fate, peer.received, fronted.net.faults), ("closed", b"", []))
        self.assertEqual(fronted.memory.held, 0)


class AcceptedWriteTests(TestCase):
    def test_leaving_gives_up_a_read_and_never_an_accepted_write(self) -> None:
        engine = Engine(self.path)
        engine.journal = journal = SteppedWorker()
        engine.open()
        fronted = Fronted([PROFILES["lsfr"](engine.store, Settings())])
        writer = fronted.ask(sized("PUT", "/kv/a", b"1"))
        reader = fronted.ask(head("GET", "/kv/a"))
        self.assertEqual(fronted.dispatcher.active_requests, 2)
        reader.leave()
        self.assertEqual(fronted.dispatcher.active_requests, 1)
        writer.leave()
        self.assertEqual((writer.received, reader.received), (b"", b""))
        journal.finish()
        self.assertEqual(fronted.dispatcher.active_requests, 0)
        record = result_of(engine.store.get(DATA, b"a"))
        assert record is not None
        self.assertEqual(record.value, b"1")
        engine.die()


class StopTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.probe, self.fronted = probed()
        self.drained: list[None] = []

    def stop(self) -> None:
        self.fronted.site.stopFactory()
        self.fronted.site.drain().addCallback(self.drained.append)
        self.fronted.net.settle()

    def test_without_connections(self) -> None:
        self.stop()
        self.assertEqual(len(self.drained), 1)
        self.assertEqual(self.fronted.net.calls, [], "no timer is left")

    def test_idle_connections_are_closed(self) -> None:
        peers = [self.fronted.connect(), self.fronted.ask(head("GET", "/now"))]
        self.stop()
        self.assertEqual([peer.fate for peer in peers], ["closed", "closed"])
        self.assertEqual(len(self.drained), 1)
        self.assertEqual(self.fronted.net.calls, [])

    def test_a_begun_request_is_finished_and_none_after_it(self) -> None:
        half_head, half_body = self.fronted.ask(head("GET", "/now")[:-3]), self.fronted.ask(HALF)
        answering = self.fronted.ask(head("GET", "/wait/a") + head("GET", "/now"))
        self.stop()
        self.assertEqual([peer.fate for peer in (half_head, half_body, answering)], ["open"] * 3)
        half_head.send(head("GET", "/now")[-3:])
        half_body.send(b"67890")
        self.probe.waiting["a"].callback(b"a")
        self.fronted.net.settle()
        for peer, body, fate in (
            (half_head, b"now", "closed"),
            (half_body, b"1234567890", "closed"),
            (answering, b"a", "half"),
        ):
            [answer] = responses(peer.received)
            self.assertEqual((answer.body, answer.header("connection"), peer.fate), (body, "close", fate))
        self.assertEqual(self.drained, [])
        answering.finish()
        self.assertEqual(len(self.drained), 1)

    def test_a_stream_that_has_begun_ends(self) -> None:
        peer = self.fronted.connect()
        peer.take(0)
        peer.send(head("GET", "/stream"))
        self.stop()
        peer.take(None)
        [answer] = responses(peer.received)
        self.assertEqual((len(answer.body), peer.fate, len(self.drained)), (8 * 32 * 1024, "closed", 1))

    def test_unsent_bytes_are_sent(self) -> None:
        peer = self.fronted.connect()
        peer.take(0)
        peer.send(head("GET", "/large"))
        self.stop()
        self.assertEqual((peer.fate, self.drained), ("open", []))
        peer.take(None)
        self.assertEqual((len(responses(peer.received)[0].body), peer.fate), (MAX_BODY, "closed"))
        self.assertEqual(len(self.drained), 1)

    def test_a_refused_client_can_still_read_the_reason(self) -> None:
        peer = self.fronted.ask(b"BAD\r\n\r\n")
        self.stop()
        self.assertEqual((statuses(peer), peer.fate, self.drained), ([400], "half", []))
        peer.finish()
        self.assertEqual((peer.fate, len(self.drained)), ("closed", 1))

    def test_requests_that_take_too_long_are_aborted(self) -> None:
        peers = [self.fronted.ask(data) for data in (head("GET", "/wait/a"), HALF, b"GET", b"BAD\r\n\r\n")]
        self.stop()
        self.fronted.site.abort_all()
        self.fronted.net.settle()
        self.assertEqual([peer.fate for peer in peers], ["reset"] * 4)
        self.assertEqual((self.probe.cancelled, len(self.drained)), (["a"], 1))
        self.assertEqual((self.fronted.dispatcher.active_requests, self.fronted.memory.held), (0, 0))
        self.assertEqual(self.fronted.net.calls, [])

    def test_later_connections_are_closed(self) -> None:
        waiting = self.fronted.ask(head("GET", "/wait/a"))
        self.stop()
        self.assertEqual(self.fronted.ask(b"").fate, "closed")
        waiting.leave()
        self.assertEqual(len(self.drained), 1)
        self.assertEqual(self.fronted.ask(b"").fate, "closed")
        self.assertEqual(self.fronted.net.faults, [])


class SendingTests(SynchronousTestCase):
    def test_the_kernel_delays_no_small_answers(self) -> None:
        _, fronted = probed()
        self.assertIn((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), fronted.connect().end.options)

    def test_an_answer_is_sent_at_once(self) -> None:
        _, fronted = probed()
        peer = fronted.ask(head("GET", "/now"))
        self.assertEqual((statuses(peer), peer.end.sends), ([200], 1))

    def test_answers_to_a_pipeline_are_sent_together(self) -> None:
        _, fronted = probed()
        peer = fronted.ask(head("GET", "/now") * 50)
        self.assertEqual((statuses(peer), peer.end.sends), ([200] * 50, 1))

    def test_bytes_that_the_socket_does_not_take_follow_in_order(self) -> None:
        for at_most in (1, 2, 3, 100, 1000):
            _, fronted = probed()
            peer = fronted.connect()
            peer.end.at_most = at_most
            peer.send(head("GET", "/now") * 3 + sized("PUT", "/echo", b"e" * 500), head("GET", "/now"))
            bodies = [answer.body for answer in responses(peer.received)]
            self.assertEqual(bodies, [b"now", b"now", b"now", b"e" * 500, b"now"], at_most)

    def test_a_socket_that_takes_nothing_for_a_while(self) -> None:
        _, fronted = probed()
        peer = fronted.connect()
        peer.take(0)
        peer.send(head("GET", "/now"), head("GET", "/large"))
        self.assertEqual(peer.received, b"")
        for room in (1, 10, 100, 1000, None):
            peer.take(room)
        peer.send(head("GET", "/now"))
        self.assertEqual([len(answer.body) for answer in responses(peer.received)], [3, MAX_BODY, 3])

    def test_waiting_bytes_are_not_overtaken(self) -> None:
        _, fronted = probed()
        peer = fronted.connect()
        peer.take(0)
        peer.send(sized("PUT", "/echo", b"first"))
        peer.end.room = None
        peer.protocol.dataReceived(sized("PUT", "/echo", b"second"))
        fronted.net.settle()
        self.assertEqual([answer.body for answer in responses(peer.received)], [b"first", b"second"])

    def test_a_socket_that_is_gone(self) -> None:
        probe, fronted = probed()
        peer = fronted.ask(head("GET", "/wait/a"))
        peer.end.broken = True
        probe.waiting["a"].callback(b"a")
        fronted.net.settle()
        self.assertEqual((peer.fate, fronted.net.faults), ("closed", []))


class BusyTests(SynchronousTestCase):
    def test_a_last_answer_is_not_taken_back_since_the_server_is_busy(self) -> None:
        _, fronted = probed()
        peer = fronted.connect()
        peer.protocol.dataReceived(head("GET", "/now", "Connection: close"))
        for _ in range(5):  # the transport does not send meanwhile
            fronted.net.advance(1)
        fronted.net.settle()
        self.assertEqual((statuses(peer), peer.fate), ([200], "closed"))


class CleanupTests(SynchronousTestCase):
    def test_a_bug_ends_the_connection_and_frees_its_memory(self) -> None:
        _, fronted = probed()
        peer = fronted.connect()
        self.patch(FrontConnection, "_add", lambda self, piece: 1 // 0)
        peer.send(HALF)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual((peer.fate, fronted.memory.held, fronted.net.faults), ("reset", 0, []))

    def test_connections_that_are_gone_are_forgotten(self) -> None:
        _, fronted = probed()
        for data in (b"", head("GET", "/now"), HALF, b"BAD\r\n\r\n"):
            fronted.ask(data).leave()
        fronted.net.pass_time(5)
        self.assertEqual(len(fronted.net.calls), 1, "but for the one that looks round")
        self.assertTrue(fronted.site.drain().called)
        self.assertEqual(fronted.net.calls, [])
