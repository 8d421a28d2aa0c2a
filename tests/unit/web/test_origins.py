"""Which web pages may make a browser change something here."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kvtwist.web.origins import Origins, Sender, is_origin
from tests.support.fronts import Fronted

APP = b"https://app.example"


def headers(**named: bytes) -> dict[bytes, bytes]:
    return {name.replace("_", "-").encode(): value for name, value in named.items()}


class OriginsTests(SynchronousTestCase):
    def may_change(self, host: bytes, loopback: bool = False, **named: bytes) -> bool:
        return Origins([APP], loopback).sender(host, headers(**named)).may_change

    def test_pages_of_the_same_origin(self) -> None:
        for host, origin in (
            (b"localhost:4000", b"http://localhost:4000"),
            (b"LocalHost:4000", b"HTTP://localhost:4000"),
            (b"kv.example", b"http://kv.example"),
            (b"kv.example:80", b"http://kv.example"),
            (b"kv.example", b"https://kv.example:443"),
            (b"[::1]:4000", b"http://[::1]:4000"),
        ):
            self.assertTrue(self.may_change(host, origin=origin), origin)

    def test_pages_of_another_origin(self) -> None:
        for origin in (
            b"http://localhost:3000",
            b"http://localhost",
            b"http://127.0.0.1:4000",
            b"http://evil.example",
            b"http://localhost:4000.evil.example",
            b"http://evil.example/localhost:4000",
            b"http://localhost:4000@evil.example",
            b"file://localhost:4000",
            b"null",
            b"localhost:4000",
            b"*",
            APP + b".evil.example",
            b"http://app.example",
        ):
            self.assertFalse(self.may_change(b"localhost:4000", origin=origin), origin)

    def test_the_browser_knows_better_than_the_host_behind_a_proxy(self) -> None:
        for site, may_change in (
            (b"same-origin", True),
            (b"none", True),
            (b"same-site", False),
            (b"cross-site", False),
            (b"Cross-Site", False),
            (b"nonsense", False),
            (b"same-origin, same-origin", False),
        ):
            self.assertEqual(
                self.may_change(b"127.0.0.1:4000", origin=b"https://kv.example", sec_fetch_site=site), may_change
            )
            self.assertEqual(
                self.may_change(b"localhost:4000", origin=b"http://localhost:4000", sec_fetch_site=site), may_change
            )
            self.assertEqual(self.may_change(b"localhost:4000", sec_fetch_site=site), may_change)

    def test_allowed_origins(self) -> None:
        for site in (b"cross-site", b"same-site"):
            self.assertTrue(self.may_change(b"localhost:4000", origin=APP, sec_fetch_site=site))
        self.assertTrue(self.may_change(b"evil.example", loopback=True, origin=APP.upper()))

    def test_names_that_lead_to_this_machine(self) -> None:
        """A page at evil.example whose name has become an address of this machine is of the same origin."""
        for host, may_change in (
            (b"localhost", True),
            (b"LOCALHOST:4000", True),
            (b"kv.localhost:4000", True),
            (b"127.0.0.1:4000", True),
            (b"127.1.2.3", True),
            (b"[::1]:4000", True),
            (b"evil.example:4000", False),
            (b"localhost.evil.example", False),
            (b"evillocalhost", False),
            (b"192.0.2.1", False),
            (b"127.0.0.1.evil.example", False),
            (b"", False),
        ):
            for more in (headers(origin=b"http://" + host), headers(sec_fetch_site=b"same-origin")):
                if host or b"origin" not in more:
                    self.assertEqual(Origins((), True).sender(host, more).may_change, may_change, host)
                    if host:
                        self.assertTrue(Origins((), False).sender(host, more).may_change, host)

    def test_only_changes_are_refused(self) -> None:
        sender = Sender(False)
        for method in (b"GET", b"HEAD", b"OPTIONS"):
            self.assertIsNone(sender.refuse(method))
        for method in (b"PUT", b"POST", b"DELETE", b"PATCH", b"get", b"TRACE"):
            self.assertIsNotNone(sender.refuse(method))
            self.assertIsNone(Sender(True).refuse(method))

    def test_what_a_browser_is_told(self) -> None:
        sender = Origins([APP]).sender(b"kv", headers(origin=APP))
        self.assertIn(b"Access-Control-Allow-Origin: https://app.example\r\n", sender.lines)
        self.assertIn(b"Vary: Origin\r\n", sender.lines)
        self.assertIsNone(sender.preflight)
        for asked, allowed in ((b"if-match, content-type", b"if-match, content-type"), (b"a\r\nb", b""), (b"a;b", b"")):
            more = headers(origin=APP, access_control_request_method=b"PUT", access_control_request_headers=asked)
            preflight = Origins([APP]).sender(b"kv", more).preflight
            assert preflight is not None
            self.assertEqual(preflight["Access-Control-Allow-Headers"], allowed)
            self.assertIsNone(Origins().sender(b"kv", more).preflight)
        self.assertEqual(Origins().sender(b"kv", headers(origin=APP)).lines, b"")

    def test_what_is_an_origin(self) -> None:
        for text in ("https://app.example", "http://localhost:3000", "http://[::1]:80"):
            self.assertTrue(is_origin(text))
        for text in ("*", "null", "app.example", "https://app.example/", "https://a@b", "ftp://a", "https://", "ä"):
            self.assertFalse(is_origin(text), text)


class PreflightTests(SynchronousTestCase):
    """The answer needs no profile; nothing may be logged as a failure."""

    def ask(self, memory: int, *lines: bytes) -> bytes:
        fronted = Fronted(max_in_flight=memory)
        fronted.site.origins.allowed = [APP]
        head = [b"OPTIONS /kv/a HTTP/1.1", b"Host: a", b"Origin: " + APP, b"Access-Control-Request-Method: PUT", *lines]
        return fronted.ask(b"\r\n".join([*head, b"", b""])).received

    def test_it_is_answered(self) -> None:
        self.assertTrue(self.ask(2**20).startswith(b"HTTP/1.1 204 "))

    def test_a_body_is_not_read(self) -> None:
        self.assertTrue(self.ask(2**20, b"Content-Length: 9").startswith(b"HTTP/1.1 204 "))

    def test_without_memory_it_is_503(self) -> None:
        self.assertTrue(self.ask(1).startswith(b"HTTP/1.1 503 "))
