"""Sockets in the file system: stale ones, long paths, and the address in the log."""

from __future__ import annotations

import os
import socket
from types import SimpleNamespace
from typing import Any

from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kvtwist.web.origins import Origins
from kvtwist.web.service import HTTPService
from kvtwist.web.sockets import MAX_PATH, SocketEndpoint, remove_stale, short_path
from tests.support.engine import TestCase


class StaleTests(TestCase):
    def setUp(self) -> None:
        super().setUp()
        self.socket = str(self.path / "socket")

    def bound(self, kind: int = socket.SOCK_STREAM) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, kind)
        self.addCleanup(made.close)
        made.bind(self.socket)
        return made

    def test_a_stale_socket_is_removed(self) -> None:
        self.bound().close()
        remove_stale(self.socket)
        self.assertFalse(os.path.exists(self.socket))

    def test_a_socket_in_use_stays(self) -> None:
        listening = self.bound()
        listening.listen(0)
        for _ in range(3):  # also with as many connections as may wait
            remove_stale(self.socket)
            self.assertTrue(os.path.exists(self.socket))
            connection = socket.socket(socket.AF_UNIX)
            self.addCleanup(connection.close)
            connection.setblocking(False)
            connection.connect_ex(self.socket)

    def test_anything_else_stays(self) -> None:
        with open(self.socket, "w"):
            pass
        remove_stale(self.socket)
        self.assertTrue(os.path.exists(self.socket))
        os.remove(self.socket)
        os.symlink("nowhere", self.socket)
        remove_stale(self.socket)
        self.assertTrue(os.path.islink(self.socket))
        os.remove(self.socket)
        self.bound().close()
        os.rename(self.socket, f"{self.socket}.stale")
        os.symlink(f"{self.socket}.stale", self.socket)
        remove_stale(self.socket)
        self.assertTrue(os.path.islink(self.socket))
        os.remove(self.socket)
        self.bound(socket.SOCK_DGRAM)
        remove_stale(self.socket)
        self.assertTrue(os.path.exists(self.socket))

    def test_there_is_none(self) -> None:
        remove_stale(self.socket)
        remove_stale("\0abstract")
        remove_stale(os.path.join(self.socket, "below"))
        self.assertEqual(os.listdir(os.path.dirname(self.socket)), [])


class ShortPathTests(TestCase):
    def test_a_short_path_is_unchanged(self) -> None:
        for path in ("/a/admin.sock", "/" + "a" * (MAX_PATH - 1)):
            self.assertEqual(short_path(path), path)

    def test_a_longer_one_leads_to_the_same_socket(self) -> None:
        place = str(self.path)
        for name in ("a" * MAX_PATH, "\u00e9" * (MAX_PATH // 2 + 1)):
            directory = os.path.join(place, name)
            os.makedirs(directory)
            path = short_path(os.path.join(directory, "socket"))
            self.assertLessEqual(len(os.fsencode(path)), MAX_PATH)
            with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as client:
                listening.bind(path)
                listening.listen()
                client.connect(path)
            self.assertEqual(os.listdir(directory), ["socket"])

    def test_one_without_a_directory(self) -> None:
        self.assertTrue(short_path("a" * (MAX_PATH + 1)).endswith("/" + "a" * (MAX_PATH + 1)))


class Port:
    """Listens somewhere."""

    def __init__(self, host: object) -> None:
        self._host = host

    def getHost(self) -> object:
        return self._host


def service(endpoint: Any, host: object = None) -> HTTPService:
    made = HTTPService(Clock(), endpoint, SimpleNamespace(origins=Origins()))  # type: ignore[arg-type]
    if host is not None:
        made._listens(Port(host))  # type: ignore[arg-type]
    return made


class AddressTests(SynchronousTestCase):
    # Endpoint, where it listens, address, URL.
    KNOWN = [
        ("tcp:0", IPv4Address("TCP", "127.0.0.1", 4000), "127.0.0.1:4000", "http://localhost:4000"),
        ("tcp:0", IPv4Address("TCP", "0.0.0.0", 4), "0.0.0.0:4", "http://localhost:4 (on every interface)"),
        ("tcp:0", IPv4Address("TCP", "192.0.2.1", 80), "192.0.2.1:80", "http://192.0.2.1:80"),
        ("tcp6:0", IPv6Address("TCP", "::1", 80), "[::1]:80", "http://[::1]:80"),
        ("tcp6:0", IPv6Address("TCP", "::", 80), "[::]:80", "http://localhost:80 (on every interface)"),
        ("ssl:0:privateKey=k", IPv4Address("TCP", "127.0.0.1", 1), "127.0.0.1:1", "https://localhost:1"),
        ("haproxy:ssl:0", IPv4Address("TCP", "192.0.2.1", 1), "192.0.2.1:1", "https://192.0.2.1:1"),
        ("haproxy:tcp:0", IPv4Address("TCP", "192.0.2.1", 1), "192.0.2.1:1", "http://192.0.2.1:1"),
        ("unix:/a", UNIXAddress("/a"), "/a", "unix:/a"),
        ("unix:x", UNIXAddress(b"\0name"), "@name", "unix:@name"),
        ("onion:80", HostnameAddress(b"abc.onion", 80), None, None),
        (SocketEndpoint(None, "/long"), UNIXAddress("/proc/self/fd/7/long"), "/long", "unix:/long"),
    ]

    def test_where_it_listens(self) -> None:
        for endpoint, host, address, url in self.KNOWN:
            found = service(endpoint, host)
            if address is None:
                self.assertIn("abc.onion", f"{found.address()} {found.url()}")
            else:
                self.assertEqual((found.address(), found.url()), (address, url))

    def test_whether_others_can_reach_it(self) -> None:
        for address, exposed in (("127.0.0.1", False), ("127.8.8.8", False), ("0.0.0.0", True), ("192.0.2.1", True)):
            found = service("tcp:0", IPv4Address("TCP", address, 1))
            self.assertEqual((found.is_exposed, found._site.origins.is_loopback), (exposed, not exposed))
        for address, exposed in (("::1", False), ("::", True), ("fe80::1%eth0", True)):
            self.assertEqual(service("tcp6:0", IPv6Address("TCP", address, 1)).is_exposed, exposed)
        self.assertFalse(service("unix:/a", UNIXAddress("/a")).is_exposed)
        self.assertFalse(service("tcp:0").is_exposed)

    def test_before_it_listens(self) -> None:
        self.assertIs(service("tcp:0").address(), None)
        self.assertEqual(service("tcp:0").url(), "tcp:0")
        self.assertEqual(service("tcp:0").addresses(), [])
