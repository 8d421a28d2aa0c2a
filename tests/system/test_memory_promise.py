"""
Whatever clients do, the process takes the interpreter, `--memory-limit`, `--max-in-flight`, and 16 of the largest value.

Seen from outside: the kernel's count of the resident memory of a server, under clients that only cost.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.process import MIB, peak_memory
from tests.support.server import PATIENCE, Server, running, until
from tests.support.tls import tls
from tests.support.wire import head, sized

VALUE = 8 * MIB
MEMORY_LIMIT = 16 * MIB
IN_FLIGHT = 32 * MIB
BESIDES = 16 * VALUE
"""What docs/operations.md promises beside the limits: copies of a value on its way to the disk, and the allocator's."""

Open = Callable[[], socket.socket]


class Crowd:
    """Clients of one server, and how much memory it took before there were any."""

    def __init__(self, server: Server, connect: Open) -> None:
        self.server = server
        self._connect = connect
        self._before = peak_memory(server.pid)
        self._connections: list[socket.socket] = []

    def connect(self, sent: bytes) -> socket.socket:
        """A client that has sent something, or could not."""
        connection = self._connect()
        self._connections.append(connection)
        with contextlib.suppress(OSError):
            connection.sendall(sent)
        return connection

    def leave(self) -> None:
        """All of them are gone."""
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    def check(self) -> None:
        """The server still answers a newcomer, and has kept its promise."""
        assert self.status("/health") == 200
        until(lambda: self.status("/kv/small") == 200)
        grown = peak_memory(self.server.pid) - self._before
        print(f"grown by {grown / MIB:.0f} MiB")
        assert grown < MEMORY_LIMIT + IN_FLIGHT + BESIDES, f"grown by {grown / MIB:.0f} MiB"

    def status(self, target: str) -> int:
        """What a newcomer hears."""
        with self._connect() as connection:
            connection.sendall(head("GET", target))
            return int(connection.recv(100).split()[1])

    def metric(self, name: str) -> float:
        """What the server tells Prometheus."""
        with self._connect() as connection, connection.makefile("rb") as answer:
            connection.sendall(head("GET", "/metrics"))
            return next(float(line.split()[1]) for line in answer if line.startswith(name.encode()))


@pytest.fixture(params=["tcp", "tls"])
def crowd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Crowd]:
    """A server with a small value, and four large ones."""
    endpoint, context = "tcp:0:interface=127.0.0.1", None
    if request.param == "tls":
        endpoint, context = tls(tmp_path)

    def connect() -> socket.socket:
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)  # what the kernel holds is not the server's
        plain.settimeout(PATIENCE)
        plain.connect(server.address)
        return plain if context is None else context.wrap_socket(plain, server_hostname="127.0.0.1")

    options = ("--endpoint", endpoint, "--memory-limit", str(MEMORY_LIMIT), "--max-in-flight", str(IN_FLIGHT))
    with running(tmp_path / "data", "-P", "clstr", "-P", "keys", "-P", "native", *options) as server:
        crowd = Crowd(server, connect)
        for key, size in (("small", 1), *((f"large{number}", VALUE) for number in range(4))):
            with connect() as connection:
                connection.sendall(sized("PUT", f"/kv/{key}", b"v" * size))
                assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        yield crowd
        crowd.leave()


def test_answers_that_nobody_reads(crowd: Crowd) -> None:
    for _ in range(100):
        crowd.connect(head("GET", "/kv/large0"))
    crowd.check()


def test_different_answers_that_nobody_reads(crowd: Crowd) -> None:
    for number in range(40):
        crowd.connect(head("GET", f"/kv/large{number % 4}"))
    crowd.check()


def test_transactions_whose_results_nobody_reads(crowd: Crowd) -> None:
    for number in range(40):
        keys = [f"large{number % 4}", f"large{(number + 1) % 4}"]
        body = json.dumps({"then": [{"get": {"key": key}} for key in keys]}).encode()
        crowd.connect(sized("POST", "/v1/txn", body))
    crowd.check()


def test_transactions_that_are_far_too_long(crowd: Crowd) -> None:
    body = b'{"then":[' + b",".join([b'{"get":{"key":"a"}}'] * 700_000) + b"]}"
    for _ in range(8):
        crowd.connect(sized("POST", "/v1/txn", body))
    crowd.check()


def test_listings_that_nobody_reads(crowd: Crowd) -> None:
    for _ in range(40):
        crowd.connect(head("GET", "/keys"))
    crowd.check()


def test_heads_that_never_end(crowd: Crowd) -> None:
    for _ in range(1500):
        crowd.connect(head("GET", "/kv/a", "X: " + "x" * 63_000)[:-2])
    crowd.check()


def test_bodies_that_are_only_announced(crowd: Crowd) -> None:
    for _ in range(64):
        crowd.connect(head("PUT", "/kv/a", f"Content-Length: {VALUE}"))
    crowd.check()


def test_bodies_that_never_end(crowd: Crowd) -> None:
    for _ in range(30):
        crowd.connect(sized("PUT", "/kv/a", b"v" * VALUE)[:-1])
    crowd.check()


def test_requests_sent_ahead(crowd: Crowd) -> None:
    for _ in range(300):
        crowd.connect(head("GET", "/kv/large0") + head("GET", "/kv/small") * 1500)
    crowd.check()


def test_clients_that_leave_in_the_middle(crowd: Crowd) -> None:
    for _ in range(8):
        for _ in range(20):
            crowd.connect(head("GET", "/kv/large0")).recv(1000)
        crowd.leave()
    crowd.check()
