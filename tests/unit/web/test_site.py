"""The site, apart from its connections."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.fronts import Fronted


class SiteTests(SynchronousTestCase):
    def test_a_connection_after_the_end_is_closed_and_does_not_end_the_site_again(self) -> None:
        fronted = Fronted()
        drained = fronted.site.drain()
        peer = fronted.connect()
        fronted.net.settle()
        peer.leave()
        self.assertTrue(drained.called)
        self.assertEqual((peer.fate, fronted.net.faults), ("closed", []))

    def test_only_http11_is_spoken_over_tls(self) -> None:
        self.assertEqual(Fronted().site.acceptableProtocols(), [b"http/1.1"])
