"""`native` over pages on disk, and what its answers hold of the request memory."""

from __future__ import annotations

import json

from kvtwist.model import DATA
from kvtwist.profiles import Settings
from kvtwist.profiles.native import Native
from tests.support.answer import Answer
from tests.support.engine import Engine, EngineCase
from tests.support.fronts import Fronted, responses, without_threads
from tests.support.net import Peer


class NativeTests(EngineCase):
    def make_engine(self) -> Engine:
        return Engine(self.path / "store")

    def setUp(self) -> None:
        super().setUp()
        self.open_site()

    def open_site(self) -> None:
        self.site = Fronted([Native(self.engine.store, Settings())])

    def send(self, method: str, target: str, body: bytes = b"", room: int | None = None) -> Peer:
        """:param room: how many bytes of the answer the client takes."""
        peer = self.site.connect()
        peer.take(room)
        with without_threads():
            peer.send(f"{method} {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        return peer

    def ask(self, method: str, target: str, body: bytes = b"") -> Answer:
        [answer] = responses(self.send(method, target, body).received)
        return answer

    def test_a_put_returns_a_value_of_any_size_from_its_page(self) -> None:
        for value in (b"small", b"v" * 100_000):
            self.ask("PUT", "/v1/kv/a", value)
            self.engine.checkpoint()
            self.engine.reopen()
            self.open_site()
            answer = self.ask("PUT", "/v1/kv/a?return=previous", b"new")
            self.assertEqual((answer.status, answer.body), (200, value))

    def test_a_transaction_holds_the_memory_of_its_results_until_they_are_sent(self) -> None:
        for number in range(3):
            self.engine.put(b"%d" % number, b"v" * 100_000)
        steps = [{"range": {}}, {"get": {"key": "0"}}, {"get": {"key": "missing"}}, {"delete": {"key": "1"}}]
        peer = self.send("POST", "/v1/txn", json.dumps({"then": steps}).encode(), room=1000)
        self.assertGreater(self.site.memory.held, 4 * 100_000)
        self.assertLess(self.site.memory.held, 5 * 100_000 + 20_000)
        peer.take(None)
        self.assertEqual(self.site.memory.held, 0)
        [answer] = responses(peer.received)
        self.assertEqual(len(answer.json()["results"][0]["items"]), 3)
        self.assertEqual([key for key, _ in self.engine.items(DATA)], [b"0", b"2"])
