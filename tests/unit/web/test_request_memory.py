"""Request memory: everything that clients make the front keep is counted and limited; stalled clients are evicted."""

from __future__ import annotations

import gc
import sys
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from werkzeug.exceptions import ServiceUnavailable

from kvtwist.model import DATA, JSON, Put
from kvtwist.profiles._scan import send
from kvtwist.web.account import Account
from kvtwist.web.request_memory import LARGE, REQUEST_COST, SHARE_LEFT, URGENT_BYTES, RequestMemory
from tests.support.fronts import Fronted, responses, statuses
from tests.support.net import Peer
from tests.support.wire import chunked, head, sized
from tests.unit.web.probe import MAX_BODY, probed

LIMIT = 400_000
LARGE_LIMIT = LIMIT - LIMIT // SHARE_LEFT
"""The limit for large bodies and responses together."""
SIZES = (1000, 5000, 5001, 5001, 5000, 0)


class BodyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.probe, self.fronted = probed(max_in_flight=LIMIT)

    @property
    def held(self) -> int:
        return self.fronted.memory.held

    def begun(self, size: int, sent: int) -> Peer:
        """A request of which a part of the body has arrived."""
        return self.fronted.ask(head("PUT", "/echo", f"Content-Length: {size}") + bytes(sent))

    def test_an_announced_body_costs_nothing(self) -> None:
        peers = [self.begun(LARGE_LIMIT - REQUEST_COST * 20, 0) for _ in range(16)]
        self.assertEqual(self.held, 16 * REQUEST_COST)
        self.assertEqual(statuses(self.fronted.ask(sized("PUT", "/echo", bytes(200_000)))), [200])
        self.assertEqual([peer.fate for peer in peers], ["open"] * 16)

    def test_arrived_bytes_are_counted_exactly(self) -> None:
        peer = self.begun(100_000, 70_000)
        self.assertEqual(self.held, REQUEST_COST + 70_000)
        peer.send(bytes(29_999))
        self.assertEqual(self.held, REQUEST_COST + 99_999)
        peer.send(b"1")
        self.assertEqual((statuses(peer), self.held), ([200], 0))

    def test_a_body_without_memory_is_503_before_it_is_read(self) -> None:
        self.begun(200_000, 200_000 - 1)
        for request in (
            head("PUT", "/echo", f"Content-Length: {LARGE_LIMIT - 200_000}"),
            head("PUT", "/echo", f"Content-Length: {LARGE_LIMIT - 200_000}", "Expect: 100-continue"),
        ):
            peer = self.fronted.ask(request)
            self.assertEqual((statuses(peer), peer.fate), ([503], "half"))
            self.assertEqual(responses(peer.received)[0].header("retry-after"), "1")
        self.assertEqual(self.probe.done, [])

    def test_a_body_is_503_when_memory_runs_out(self) -> None:
        for begin in (
            head("PUT", "/echo", "Content-Length: 200000"),
            head("PUT", "/echo", "Transfer-Encoding: chunked"),
        ):
            peer = self.fronted.ask(begin)
            other = self.begun(300_000, 300_000 - 1)
            peer.send(bytes(100_000) if b"Length" in begin else b"%x\r\n%b\r\n" % (100_000, bytes(100_000)))
            self.assertEqual((statuses(peer), peer.fate, other.fate), ([503], "half", "open"))
            other.send(b"1")
            self.assertEqual((statuses(other), self.held), ([200], 0))

    def test_a_stalled_client_is_evicted(self) -> None:
        first, second = self.begun(150_000, 100_000), self.begun(150_000, 100_000)
        self.fronted.net.pass_time(1)
        second.send(bytes(40_000))
        self.fronted.net.pass_time(1)
        third = self.fronted.ask(sized("PUT", "/echo", bytes(200_000)))
        self.assertEqual((statuses(third), first.fate, second.fate), ([200], "reset", "open"))

    def test_the_one_that_has_stalled_for_longest_goes_first(self) -> None:
        slow, quick = self.begun(150_000, 100_000), self.begun(150_000, 70_000)
        self.fronted.net.pass_time(3)
        quick.send(bytes(70_000))
        third = self.fronted.ask(sized("PUT", "/echo", bytes(150_000)))
        self.assertEqual((statuses(third), slow.fate, quick.fate), ([200], "reset", "open"))
        self.assertEqual(self.held, REQUEST_COST + 140_000)

    def test_byte_by_byte_is_no_progress(self) -> None:
        slow, quick = self.begun(150_000, 100_000), self.begun(150_000, 70_000)
        for _ in range(5):
            slow.send(b"1")
            self.fronted.net.pass_time(1)
        quick.send(bytes(70_000))
        self.assertEqual(statuses(self.fronted.ask(sized("PUT", "/echo", bytes(150_000)))), [200])
        self.assertEqual((slow.fate, quick.fate), ("reset", "open"))

    def test_those_that_make_progress_are_left_alone(self) -> None:
        peers = [self.begun(150_000, 100_000) for _ in range(3)]
        self.assertEqual(statuses(self.fronted.ask(sized("PUT", "/echo", bytes(150_000)))), [503])
        for peer in peers:
            peer.send(bytes(50_000))
        self.assertEqual([statuses(peer) for peer in peers][:2], [[200], [200]])

    def test_small_requests_have_memory_beside_large_bodies(self) -> None:
        for _ in range(10):
            self.begun(80_000, 79_999)
        self.assertGreater(self.held, LARGE_LIMIT - 80_000 - REQUEST_COST)
        self.assertEqual(statuses(self.begun(80_000, 0)), [503])
        self.assertEqual(statuses(self.fronted.ask(sized("PUT", "/echo", bytes(40_000)))), [200])

    def test_an_urgent_request_is_answered_beyond_the_limit(self) -> None:
        self.fronted.memory.take(LIMIT)
        self.assertEqual(statuses(self.fronted.ask(head("GET", "/now"))), [503])
        self.assertEqual(statuses(self.fronted.ask(head("GET", "/health"))), [200])
        self.assertEqual(statuses(self.fronted.ask(b"\r\n" + head("GET", "/health") * 2)), [200, 200])
        self.fronted.memory.held += URGENT_BYTES
        self.assertEqual(statuses(self.fronted.ask(head("GET", "/health"))), [503])


class HeadTests(SynchronousTestCase):
    def test_unfinished_heads_count_and_lose_when_they_stall(self) -> None:
        _, fronted = probed(max_in_flight=LIMIT)
        unfinished = head("GET", "/now", "X: " + "x" * 49_500)[:-2]
        peers = [fronted.ask(unfinished) for _ in range(7)]
        self.assertEqual(fronted.memory.held, 7 * len(unfinished))
        self.assertEqual(statuses(fronted.ask(unfinished)), [503])
        fronted.net.pass_time(2)
        self.assertEqual(statuses(fronted.ask(sized("PUT", "/echo", bytes(60_000)))), [200])
        self.assertEqual([peer.fate for peer in peers], ["reset"] + ["open"] * 6)

    def test_bytes_read_ahead_count(self) -> None:
        probe, fronted = probed(max_in_flight=LIMIT)
        peer = fronted.ask(head("GET", "/wait/a") + head("GET", "/now") * 100)
        self.assertEqual(fronted.memory.held, REQUEST_COST + 100 * len(head("GET", "/now")))
        probe.waiting["a"].callback(b"")
        fronted.net.settle()
        self.assertEqual((len(statuses(peer)), fronted.memory.held), (101, 0))

    def test_bytes_read_ahead_without_memory_abort_the_connection(self) -> None:
        probe, fronted = probed(max_in_flight=LIMIT)
        peer = fronted.ask(head("GET", "/wait/a"))
        fronted.memory.take(LIMIT - fronted.memory.held - 100)
        peer.send(head("GET", "/now") * 100)
        self.assertEqual((peer.fate, probe.cancelled), ("reset", ["a"]))
        self.assertEqual(fronted.memory.held, LIMIT - REQUEST_COST - 100)


class AnswerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.value = b"v" * MAX_BODY
        self.probe, self.fronted = probed(max_in_flight=4 * MAX_BODY)
        self.probe.value = self.value

    @property
    def held(self) -> int:
        return self.fronted.memory.held

    def unread(self, target: str = "/value") -> Peer:
        """A client that takes nothing of its response."""
        peer = self.fronted.connect()
        peer.take(0)
        peer.send(head("GET", target))
        return peer

    def test_one_object_for_any_number_of_clients(self) -> None:
        peers = [self.unread() for _ in range(15)]
        self.assertLess(self.held, MAX_BODY + 15 * (LARGE + 1024))
        self.assertGreater(self.held, MAX_BODY + 15 * 50)
        for peer in peers:
            self.assertLess(len(peer.transport.dataBuffer) + peer.transport._tempDataLen, LARGE + 1024)
        for peer in peers:
            peer.take(None)
            self.assertEqual(responses(peer.received)[0].body, self.value)
        self.assertEqual(self.held, 0)

    def test_answers_of_their_own_count_each(self) -> None:
        peers = [self.unread("/large") for _ in range(3)]
        self.assertGreater(self.held, 3 * MAX_BODY)
        peers[1].leave()
        self.assertLess(self.held, 2 * MAX_BODY + 2 * LARGE + 1024)

    def test_the_client_that_has_taken_nothing_for_longest_is_evicted(self) -> None:
        peers = [self.unread("/large") for _ in range(3)]
        peers[0].take(200_000)
        self.assertEqual([peer.fate for peer in peers], ["open"] * 3)
        peers.append(self.unread("/large"))
        self.assertEqual([peer.fate for peer in peers], ["open", "reset", "open", "open"])
        self.assertEqual(self.fronted.memory.evicted, 1)
        for number in (0, 2, 3):
            peers[number].take(None)
            self.assertEqual(len(responses(peers[number].received)[0].body), MAX_BODY)
        self.assertEqual(self.held, 0)

    def test_a_client_whose_response_finds_no_memory_is_evicted(self) -> None:
        self.fronted.memory.take(3 * MAX_BODY)
        peer = self.unread("/large")
        self.assertEqual((peer.fate, self.held, self.fronted.net.faults), ("reset", 3 * MAX_BODY, []))

    def test_small_answers_that_are_not_taken_count(self) -> None:
        peer = self.fronted.connect()
        peer.take(0)
        peer.send(head("GET", "/now") * 50)
        unsent = peer.transport._tempDataLen + len(peer.transport.dataBuffer)
        self.assertGreater(unsent, 0)
        self.assertEqual(self.held, unsent + peer.protocol._reader.kept)
        peer.take(None)
        self.assertEqual((len(statuses(peer)), self.held), (50, 0))

    def test_bytes_held_by_a_handler_count_until_it_changes_them(self) -> None:
        held = []

        async def pieces(request: Any) -> AsyncIterator[bytes]:
            for size in SIZES:
                request.hold(size)
                held.append(self.held)
                yield b"x"

        async def stream(probe: object, request: Any) -> None:
            await send(request, pieces(request))

        self.probe.streams = stream
        peer = self.fronted.ask(head("GET", "/streams"))
        self.assertEqual(held, [REQUEST_COST + size for size in SIZES])
        self.assertEqual((responses(peer.received)[0].body, self.held), (b"x" * len(SIZES), 0))

    def test_a_handler_without_memory_fails(self) -> None:
        for begins, fate in ((False, "open"), (True, "reset")):

            async def stream(probe: object, request: Any, begins: bool = begins) -> None:
                if begins:
                    request.write(b"x")
                request.hold(4 * MAX_BODY)

            self.probe.streams = stream
            peer = self.fronted.ask(head("GET", "/streams"))
            self.assertEqual(peer.fate, fate)
            self.assertEqual(self.held, 0)
            if not begins:
                self.assertEqual(statuses(peer), [503])
        self.flushLoggedErrors()


class AccountTests(SynchronousTestCase):
    """What a connection may use of the share that large bodies and responses leave to small requests."""

    now = 0.0

    def setUp(self) -> None:
        self.memory = RequestMemory(SHARE_LEFT * 200_000)
        self.memory.take(self.memory.limit - 200_000)
        self.account = Account(self)
        self.request: Any = SimpleNamespace(route=SimpleNamespace(is_urgent=False), extra=0, error=None)

    def taken(self) -> int:
        """What the account has taken; the request is over then."""
        taken = self.memory.held - (self.memory.limit - 200_000)
        self.account.release(self.request)
        return taken

    def test_a_request_may_announce_a_small_body(self) -> None:
        self.assertTrue(self.account.admit(self.request, LARGE))
        self.assertEqual((self.request.held, self.taken()), (REQUEST_COST, REQUEST_COST))
        self.request.held = 0
        self.assertFalse(self.account.admit(self.request, LARGE + 1))
        self.assertEqual((self.request.held, self.taken()), (0, 0))

    def test_a_body_may_become_so_large(self) -> None:
        for pieces in ([LARGE, 1], [1, LARGE - 1, 1], [LARGE - 1, 2]):
            self.account.admit(self.request, 0)
            *fitting, last = pieces
            for piece in fitting:
                self.assertTrue(self.account.add_body(self.request, piece))
            self.assertFalse(self.account.add_body(self.request, last))
            self.assertEqual(self.request.held, REQUEST_COST + sum(fitting))
            self.assertEqual(self.taken(), REQUEST_COST + sum(fitting))

    def test_what_a_handler_holds_is_large(self) -> None:
        self.account.admit(self.request, 0)
        self.account.hold(self.request, 0)
        self.assertRaises(ServiceUnavailable, self.account.hold, self.request, 1)
        self.assertEqual((self.request.held, self.taken()), (REQUEST_COST, REQUEST_COST))

    def test_4_kib_may_be_kept_of_requests_to_come(self) -> None:
        self.request.held = 0
        for size, is_kept, kept in ((4096, True, 4096), (4097, False, 4096), (4095, True, 4095), (4096, True, 4096)):
            self.assertEqual((self.account.keep(size), self.account.kept), (is_kept, kept))
            self.assertEqual(self.taken(), kept)
        self.account.keep(0)
        self.assertEqual(self.taken(), 0)


class GarbageTests(SynchronousTestCase):
    """When a client is gone, its response is freed at once, without a garbage collection."""

    def setUp(self) -> None:
        gc.disable()
        self.addCleanup(gc.enable)
        self.fronted = Fronted(["keys"], max_in_flight=4 * MAX_BODY)
        self.value = b'"%b"' % (b"v" * MAX_BODY)
        self.fronted.store.transact([], [Put(DATA, b"large", self.value, JSON), Put(DATA, b"more", self.value, JSON)])
        self.uses = sys.getrefcount(self.value)

    def test_clients_that_leave(self) -> None:
        for target in ("/keys", "/keys/large"):
            for room in (0, 1000, MAX_BODY // 2):
                peer = self.fronted.connect()
                peer.take(room)
                peer.send(head("GET", target))
                self.assertGreater(sys.getrefcount(self.value), self.uses)
                peer.leave()
                del peer
                self.assertEqual(sys.getrefcount(self.value), self.uses, (target, room))

    def test_clients_that_are_aborted(self) -> None:
        for _ in range(10):
            peer = self.fronted.connect()
            peer.take(1000)
            peer.send(head("GET", "/keys"))
        self.assertLess(sys.getrefcount(self.value), self.uses + 30)
        self.fronted.site.abort_all()
        self.fronted.net.settle()
        self.assertEqual(sys.getrefcount(self.value), self.uses)
        self.assertEqual(self.fronted.memory.held, 0)


class RequestMemoryTests(SynchronousTestCase):
    def test_the_limit_is_exact(self) -> None:
        for take, limit in (
            (RequestMemory.take, 800),
            (RequestMemory.take_urgent, 800 + URGENT_BYTES),
            (lambda f, size: f.take_evicting(size, 0.0), 800),
            (lambda f, size: f.take_evicting(size, 0.0, large=True), 700),
        ):
            memory = RequestMemory(800)
            self.assertTrue(take(memory, limit - 1))
            self.assertFalse(take(memory, 2))
            self.assertTrue(take(memory, 1))
            self.assertEqual(memory.held, limit)
            memory.give_back(limit)
            self.assertFalse(take(memory, limit + 1))
            self.assertEqual(memory.held, 0)


class ChunkedTests(SynchronousTestCase):
    def test_chunks_count_as_they_come(self) -> None:
        _probe, fronted = probed(max_in_flight=LIMIT)
        peer = fronted.ask(chunked("PUT", "/echo", bytes(30_000), bytes(20_000))[:-5])
        self.assertEqual(fronted.memory.held, REQUEST_COST + 50_000)
        peer.send(b"0\r\n\r\n")
        self.assertEqual((statuses(peer), fronted.memory.held), ([200], 0))
