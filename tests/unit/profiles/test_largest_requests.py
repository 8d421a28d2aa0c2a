"""A body may hold the largest value under the longest key, however both are written."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kvtwist.profiles import PROFILES, Settings
from kvtwist.profiles.keys import MAX_KEY
from tests.support.fronts import Fronted, memory_store, responses, without_threads
from tests.support.net import Net

SETTINGS = Settings(max_value=2000, max_key=1000)


def escaped(length: int) -> bytes:
    """A JSON string of so many letters, as long as it can be written."""
    return b'"' + b"\\u0061" * length + b'"'


class LargestRequestTests(SynchronousTestCase):
    def assert_taken(self, profile: str, method: str, target: str, body: bytes, *more: bytes) -> None:
        front = Fronted([PROFILES[profile](memory_store(Net()), SETTINGS)])
        for sent, statuses in ((body, (200, 201)), *((body, (400, 413)) for body in more)):
            head = f"{method} {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(sent)}\r\n\r\n"
            with without_threads():
                peer = front.ask(head.encode() + sent)
                peer.net.settle()
            [answer] = responses(peer.received)
            self.assertIn(answer.status, statuses, answer.body)

    def test_transactional(self) -> None:
        value = b"1" * 2000
        one_more = b"{%b:%b}" % (escaped(1001), value), b"{%b:%b1}" % (escaped(1000), value)
        self.assert_taken("transactional", "POST", "/set", b" {\n%b : %b\n}\n" % (escaped(1000), value), *one_more)

    def test_keys(self) -> None:
        value = b"1" * 2000
        one_more = b"{%b:%b}" % (escaped(MAX_KEY + 1), value), b"{%b:%b1}" % (escaped(MAX_KEY), value)
        self.assert_taken("keys", "PUT", "/keys", b" {\n%b : %b\n}\n" % (escaped(MAX_KEY), value), *one_more)
        form = b'{ "id": %b, "value": %b }' % (escaped(MAX_KEY), value)
        self.assert_taken("keys", "PUT", "/keys", form)

    def test_native(self) -> None:
        put = b'{"then": [{"put": {"key": %b, "value": "%b"}}]}'
        value = b"\\n" * 2000
        one_more = put % (escaped(1001), value), put % (escaped(1000), value + b"1")
        self.assert_taken("native", "POST", "/v1/txn", put % (escaped(1000), value), *one_more)
        self.assert_taken("native", "POST", "/v1/txn", put % (escaped(1000), value) + b" " * 60_000)
