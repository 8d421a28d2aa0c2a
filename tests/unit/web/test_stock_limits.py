"""Which of the limits twisted.web keeps as well: on connections, and on the time that one may be idle."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kvtwist.web.limits import WebLimits
from tests.support.fronts import Fronted, responses, statuses
from tests.support.wire import head


class StockLimitTests(SynchronousTestCase):
    def test_one_connection_too_many_is_503(self) -> None:
        fronted = Fronted("stock", limits=WebLimits(connections=1))
        first = fronted.connect()
        second = fronted.connect()
        fronted.net.settle()
        [answer] = responses(second.received)
        self.assertEqual(
            (answer.status, answer.header("retry-after"), answer.header("connection")), (503, "1", "close")
        )
        first.leave()
        self.assertEqual(statuses(fronted.ask(head("GET", "/kv/a"))), [404])

    def test_an_idle_connection_is_closed(self) -> None:
        fronted = Fronted("stock", limits=WebLimits(idle_seconds=5))
        peers = [fronted.connect(), fronted.ask(head("GET", "/kv/a")), fronted.ask(b"GET /kv/a")]
        fronted.net.pass_time(4)
        self.assertEqual([peer.fate for peer in peers], ["open"] * 3)
        fronted.net.pass_time(2)
        self.assertEqual([peer.fate for peer in peers], ["closed"] * 3)

    def test_who_comes_after_the_end_is_closed_and_does_not_end_it_again(self) -> None:
        for front in ("own", "stock"):
            fronted = Fronted(front)
            drained = fronted.site.drained()
            peer = fronted.connect()
            fronted.net.settle()
            peer.leave()
            self.assertTrue(drained.called)
            self.assertEqual((peer.fate, fronted.net.faults), ("closed", []), front)

    def test_only_http11_is_spoken_over_tls(self) -> None:
        for front in ("own", "stock"):
            self.assertEqual(Fronted(front).site.acceptableProtocols(), [b"http/1.1"])
