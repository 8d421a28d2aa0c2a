"""The tests of connections again, with a front that polls its connections itself; and tests of its polls."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.fronts import Fronted, responses, statuses
from tests.support.net import Peer
from tests.support.wire import head
from tests.unit.web import test_connection, test_requests, test_time_limits
from tests.unit.web.probe import probed


class PolledCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(Fronted, "polled", True)
        super().setUp()


class PolledLeaving(PolledCase, test_connection.LeavingTests): ...


class PolledAcceptedWrite(PolledCase, test_connection.AcceptedWriteTests): ...


class PolledStop(PolledCase, test_connection.StopTests): ...


class PolledSending(PolledCase, test_connection.SendingTests): ...


class PolledCleanup(PolledCase, test_connection.CleanupTests): ...


class PolledAnswer(PolledCase, test_requests.AnswerTests): ...


class PolledTarget(PolledCase, test_requests.TargetTests): ...


class PolledPersistence(PolledCase, test_requests.PersistenceTests): ...


class PolledExpect(PolledCase, test_requests.ExpectTests): ...


class PolledPipeline(PolledCase, test_requests.PipelineTests): ...


class PolledRefusal(PolledCase, test_requests.RefusalTests): ...


class PolledTime(PolledCase, test_time_limits.TimeTests): ...


class PolledHead(PolledCase, test_time_limits.HeadTests): ...


class PolledBody(PolledCase, test_time_limits.BodyTests): ...


class PolledIdle(PolledCase, test_time_limits.IdleTests): ...


class PolledSlowReader(PolledCase, test_time_limits.SlowReaderTests): ...


class PolledAtMost(PolledCase, test_time_limits.AtMostTests): ...


class PollTests(PolledCase):
    def setUp(self) -> None:
        super().setUp()
        self.probe, self.fronted = probed()

    def send_all(self, requests: dict[Peer, bytes]) -> None:
        """Have all of it arrive before any of it is read."""
        for peer, data in requests.items():
            peer.end.arrived += data
        self.fronted.net.settle()

    def test_everyone_gets_their_own_answers_each_with_one_send(self) -> None:
        peers = [self.fronted.connect() for _ in range(200)]
        self.send_all({p: b"".join(head("GET", f"/key/{n}-{i}") for i in range(5)) for n, p in enumerate(peers)})
        for number, peer in enumerate(peers):
            bodies = [answer.body.decode() for answer in responses(peer.received)]
            self.assertEqual((bodies, peer.end.sends), ([f"{number}-{i}" for i in range(5)], 1))

    def test_answers_outside_of_a_poll_are_all_sent(self) -> None:
        peers = [self.fronted.connect() for _ in range(100)]
        self.send_all({peer: head("GET", f"/wait/{number}") for number, peer in enumerate(peers)})
        for number in range(len(peers)):
            self.probe.waiting[str(number)].callback(b"%d" % number)
        self.fronted.net.settle()
        for number, peer in enumerate(peers):
            self.assertEqual([answer.body for answer in responses(peer.received)], [b"%d" % number])

    def test_the_last_answer_after_unsent_ones_closes_the_connection(self) -> None:
        peer = self.fronted.connect()
        peer.take(0)
        peer.send(head("GET", "/now"))
        peer.end.room = None
        peer.send(head("GET", "/now", "Connection: close"))
        self.assertEqual((statuses(peer), peer.fate), ([200, 200], "closed"))

    def test_a_client_that_leaves_does_not_affect_others_of_the_poll(self) -> None:
        peers = [self.fronted.connect() for _ in range(40)]
        for number, peer in enumerate(peers):
            peer.end.ended = number % 4 == 1
            peer.end.broken = number % 4 == 2
        self.send_all({peer: head("GET", "/now") for peer in peers if not peer.end.broken})
        got = [(statuses(peer), peer.fate) for peer in peers]
        self.assertEqual(got, [([200], "open"), ([200], "closed"), ([], "closed"), ([200], "open")] * 10)
        self.assertEqual(self.fronted.net.faults, [])

    def test_a_connection_aborted_during_a_poll_leaves_nothing(self) -> None:
        peer, other = self.fronted.connect(), self.fronted.connect()
        peer.send(head("GET", "/wait/a"))
        self.probe.waiting["a"].callback(b"a")
        peer.protocol.abort()
        other.send(head("GET", "/now"))
        self.assertEqual((peer.fate, statuses(other)), ("reset", [200]))
        self.assertEqual((self.fronted.net.faults, self.fronted.memory.held), ([], 0))

    def test_an_invalid_response_ends_one_connection_and_is_logged(self) -> None:
        peers = [self.fronted.connect() for _ in range(5)]
        self.send_all({p: head("GET", "/text" if number == 2 else "/now") for number, p in enumerate(peers)})
        self.assertEqual([statuses(peer) for peer in peers], [[200], [200], [], [200], [200]])
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        self.assertEqual((peers[2].fate, self.fronted.net.faults), ("reset", []))

    def test_stopping_with_answers_that_are_not_sent_yet(self) -> None:
        peer = self.fronted.connect()
        peer.send(head("GET", "/wait/a"))
        self.probe.waiting["a"].callback(b"a")
        self.fronted.site.stopFactory()
        drained = self.fronted.site.drain()
        self.fronted.net.settle()
        self.assertTrue(drained.called)
        self.assertEqual((statuses(peer), peer.fate, self.fronted.net.calls), ([200], "closed", []))
        self.assertEqual(self.fronted.net.getReaders(), [])
