"""The outbox over a transport that takes what a test lets it: order, sends and the memory that is counted, to the byte."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kvtwist.web import transports
from kvtwist.web.outbox import Outbox
from kvtwist.web.request_memory import LARGE, RequestMemory

LIMIT = 8_000_000


class Transport:
    """A transport, and the socket under it, of which a client reads."""

    def __init__(self) -> None:
        self.dataBuffer, self.offset, self._tempDataLen = b"", 0, 0
        self.producer: Any = None
        self.producerPaused = False
        self.encrypts_later = False
        self.room = 0
        self.received = b""
        self.sends = 0

    def send(self, data: bytes | memoryview) -> int:
        self.sends += 1
        if not self.room:
            raise BlockingIOError
        taken = bytes(data[: self.room])
        self.received += taken
        self.room -= len(taken)
        return len(taken)

    def write(self, data: bytes) -> None:
        if not self.encrypts_later:
            self.dataBuffer += data

    def work(self) -> None:
        """Send what there is room for."""
        taken, self.dataBuffer = self.dataBuffer[: self.room], self.dataBuffer[self.room :]
        self.received += taken
        self.room -= len(taken)
        if not self.dataBuffer and self.producerPaused:
            self.producerPaused = False
            self.producer.resumeProducing()


class OutboxCase(SynchronousTestCase):
    tls = False
    gathers = False

    def setUp(self) -> None:
        self.transport = Transport()
        self.patch(transports, "socket_of", lambda transport: None if self.tls else transport)
        self.patch(transports, "is_tls", lambda transport: self.tls)
        self.memory = RequestMemory(LIMIT)
        self.now = 5.0
        self.progressed = 0.0
        self.evicted = 0
        self.soon: list[Outbox] = []
        self.outbox = Outbox(self, self, self.transport, self.gathers)
        self.transport.producer = SimpleNamespace(
            pauseProducing=lambda: setattr(self.outbox, "blocked", True), resumeProducing=lambda: self.outbox.resume()
        )

    def send_soon(self, outbox: Outbox) -> None:
        self.soon.append(outbox)

    look_soon = send_soon

    def evict(self) -> None:
        self.evicted += 1
        self.outbox.close()

    def take(self, size: int) -> None:
        """Let the client take so many bytes."""
        self.transport.room = size
        self.transport.work()

    def is_evictable(self) -> bool:
        return self in self.memory._evictable


class SocketTests(OutboxCase):
    def test_bytes_go_straight_to_the_socket(self) -> None:
        self.transport.room = LIMIT
        for size in (1, LARGE, LARGE + 1):
            self.outbox.send(b"x" * size)
            self.assertEqual((self.memory.held, self.outbox.is_sent, self.is_evictable()), (0, True, False))
        self.assertEqual((len(self.transport.received), self.transport.sends), (2 * LARGE + 2, 3))

    def test_what_the_socket_does_not_take_is_counted_to_the_byte(self) -> None:
        for size in (2, 1000, LARGE):
            for taken in (0, 1, size - 1):
                self.transport.room = taken
                self.outbox.send(b"x" * size)
                self.assertEqual((self.memory.held, self.outbox.is_sent), (size - taken, False))
                self.assertTrue(self.is_evictable())
                self.assertEqual(self.progressed, self.now)
                self.take(size)
                self.assertEqual((self.memory.held, self.outbox.is_sent), (0, True))
                self.assertFalse(self.is_evictable())
        self.assertEqual(self.evicted, 0)

    def test_a_large_object_counts_once_and_the_piece_that_the_transport_has(self) -> None:
        value = b"v" * (10 * LARGE)
        self.outbox.send(value)
        self.assertEqual(self.memory.held, len(value) + LARGE)
        other = Outbox(self, self, Transport(), gathers=False)
        other.blocked = True
        other.send(value)
        self.assertEqual(self.memory.held, len(value) + LARGE)
        other.close()
        self.assertEqual(self.memory.held, len(value) + LARGE)
        self.take(LIMIT)
        self.assertEqual((self.transport.received, self.memory.held), (value, 0))

    def test_pieces_keep_their_order_whatever_the_socket_takes(self) -> None:
        pieces = [b"a" * 100_000, b"b" * 200_000, b"c", b"d" * (LARGE + 1), b"e" * LARGE, b"f" * 3]
        for step in (1_000_000, 70_000, LARGE, 9_999):
            self.setUp()
            for piece in pieces:
                self.outbox.send(piece)
            self.assertGreater(self.memory.held, sum(map(len, pieces)))
            while not self.outbox.is_sent:
                self.take(step)
            self.assertTrue(self.transport.received == b"".join(pieces), step)
            self.assertEqual(self.memory.held, 0)

    def test_a_client_that_takes_much_at_once_is_sent_large_pieces(self) -> None:
        self.outbox.send(b"v" * 2**20)
        before = self.transport.sends
        self.take(2**21)
        self.assertEqual((len(self.transport.received), self.transport.sends - before), (2**20, 1))

    def test_a_client_that_takes_everything_leaves_time_for_others(self) -> None:
        value = b"v" * 6_900_000
        self.outbox.send(value)
        self.take(LIMIT)
        self.assertLess(len(self.transport.received), 5 * 2**20)
        self.assertGreater(len(self.transport.received), 4 * 2**20)
        self.take(LIMIT)
        self.assertTrue(self.transport.received == value)

    def test_without_memory_the_connection_is_evicted(self) -> None:
        for size, held in ((1000, LIMIT), (LARGE + 1, LIMIT), (10 * LARGE, LIMIT - LIMIT // 8 - 10 * LARGE - 1)):
            self.setUp()
            self.memory.take(held)
            self.outbox.send(b"x" * size)
            self.assertEqual((self.evicted, self.memory.held), (1, held))

    def test_one_that_holds_enough_already_is_not_evicted_for_no_more(self) -> None:
        self.outbox.send(b"x" * 3 * LARGE)
        self.memory.take(LIMIT - self.memory.held)
        self.take(LARGE)
        self.assertEqual(self.evicted, 0)
        self.take(2 * LARGE)
        self.assertEqual((self.outbox.is_sent, len(self.transport.received)), (True, 3 * LARGE))

    def test_nothing_is_kept_once_it_is_closed(self) -> None:
        for size in (1000, LARGE, 3 * LARGE):
            self.setUp()
            self.outbox.send(b"x" * size)
            self.outbox.send(b"y" * size)
            self.outbox.close()
            self.assertEqual(self.memory.held, 0)
            for act in (lambda: self.outbox.send(b"z" * 5000), self.outbox.resume, self.outbox.look, self.outbox.abort):
                act()
                self.assertEqual((self.memory.held, self.evicted), (0, 0))

    def test_corked_pieces_are_sent_together(self) -> None:
        self.transport.room = LIMIT
        self.outbox.corked = True
        for _ in range(5):
            self.outbox.send(b"x" * 4096)
        self.assertEqual((self.transport.sends, self.outbox.is_sent), (0, False))
        self.outbox.uncork()
        self.assertEqual((self.transport.sends, len(self.transport.received), self.outbox.is_sent), (1, 5 * 4096, True))
        self.outbox.uncork()
        self.outbox.flush()
        self.assertEqual(self.transport.sends, 1)

    def test_a_large_piece_takes_with_it_what_was_gathered_before(self) -> None:
        self.transport.room = LIMIT
        self.outbox.corked = True
        self.outbox.send(b"a")
        value = b"v" * (LARGE + 1)
        self.outbox.send(value)
        self.assertEqual((self.transport.received == b"a" + value, self.transport.sends), (True, 2))

    def test_not_too_many_pieces_are_gathered(self) -> None:
        self.transport.room = LIMIT
        self.outbox.corked = True
        for _ in range(100):
            self.outbox.send(b"x")
        self.assertGreater(len(self.transport.received), 50)


class GatheringTests(OutboxCase):
    gathers = True

    def test_small_pieces_wait_for_the_end_of_the_poll(self) -> None:
        self.transport.room = LIMIT
        self.outbox.send(b"a")
        self.outbox.send(b"b")
        self.assertEqual((self.soon, self.transport.sends), ([self.outbox], 0))
        self.outbox.flush()
        self.assertEqual((self.transport.received, self.transport.sends), (b"ab", 1))
        self.outbox.corked = True
        self.outbox.send(b"c")
        self.assertEqual(len(self.soon), 1)
        self.outbox.uncork()
        self.assertEqual((len(self.soon), self.transport.sends), (2, 1))

    def test_one_that_cannot_be_sent_ends_its_connection(self) -> None:
        self.outbox.abort()
        self.assertEqual(self.evicted, 1)


class TLSTests(OutboxCase):
    """Over a layer that encrypts: nothing goes to the socket, and what the layer holds is known later."""

    tls = True

    def test_all_goes_through_the_transport(self) -> None:
        pieces = [b"a", b"b" * 100_000, b"c" * LARGE]
        for piece in pieces:
            self.outbox.send(piece)
        self.assertEqual(self.transport.sends, 0)
        while not self.outbox.is_sent:
            self.take(50_000)
        self.assertTrue(self.transport.received == b"".join(pieces))
        self.assertEqual(self.memory.held, 0)

    def test_what_the_layer_turns_out_to_hold_is_counted_and_makes_it_evictable(self) -> None:
        self.transport.encrypts_later = True
        self.outbox.send(b"a" * 10)
        self.assertEqual((self.soon, self.memory.held, self.outbox.blocked), ([self.outbox], 0, False))
        self.transport.dataBuffer = b"e" * 30
        self.outbox.look()
        self.assertEqual((self.memory.held, self.outbox.blocked, self.is_evictable()), (30, True, True))
        self.outbox.look()
        self.assertEqual(self.memory.held, 30)
        self.take(30)
        self.assertEqual((self.memory.held, self.outbox.blocked, self.is_evictable()), (0, False, False))

    def test_nothing_is_looked_for_while_it_is_known(self) -> None:
        self.outbox.send(b"a" * 10)
        self.assertEqual(self.soon, [])
        self.assertEqual(self.memory.held, 10)
