"""
Many clients send while the server is stopped; afterwards each gets its own answers, over every transport.

The process is stopped meanwhile, so that all of it has arrived before any of it is read.
"""

from __future__ import annotations

import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.fronts import responses
from tests.support.profiles import KEYS, encoded
from tests.support.server import PATIENCE, Server, running, until
from tests.support.tls import tls
from tests.support.wire import head, rest_of

MANY = 200
BURST = 5
LAST = "Connection: close"
OPTIONS = ("--profile", KEYS.name, "--durability", "sync")

Opened = tuple[Server, Callable[[], socket.socket]]


@pytest.fixture(scope="module", params=["tcp", "unix", "tls"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """A server that waits for its disk, and how to connect to it."""
    directory = tmp_path_factory.mktemp("once")
    path = directory / "socket"
    secure, context = tls(directory)
    endpoint = {"tcp": "tcp:0:interface=127.0.0.1", "unix": f"unix:{path}", "tls": secure}[request.param]

    def connect() -> socket.socket:
        if request.param == "unix":
            return _unix(path)
        plain = socket.create_connection(server.address, PATIENCE)
        if request.param == "tcp":
            return plain
        return context.wrap_socket(plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False)

    with running(directory / "data", "--endpoint", endpoint, *OPTIONS) as server:
        yield server, connect
        assert server.is_alive()
        server.stop()
        assert "Traceback" not in server.output() + server.errors()


def _unix(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(path))  # which waits for as long as too many wait already; with a time limit it would not
    connection.settimeout(PATIENCE)
    return connection


@contextmanager
def connected(opened: Opened) -> Iterator[list[socket.socket]]:
    """Many connections that the server knows."""
    with ExitStack() as stack:
        connections = []
        for _ in range(MANY):
            connection = stack.enter_context(opened[1]())
            connection.sendall(head("GET", "/no/such/path"))
            data = connection.recv(65536)
            assert data.startswith(b"HTTP/1.1 404 "), data
            connections.append(connection)
        yield connections


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    """For as long as the block lasts, the server does nothing."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        until(lambda: Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def test_everyone_gets_their_own_answers(opened: Opened, key: str) -> None:
    with connected(opened) as connections:
        with stopped(opened[0]):
            for number, connection in enumerate(connections):
                for turn in range(BURST):
                    name = f"{key}.{number}.{turn}"
                    value = b"%d" % (number * BURST + turn)
                    connection.sendall(encoded(KEYS.write(name, value)) + head("GET", KEYS.target(name)))
                connection.sendall(head("GET", "/no/such/path", LAST))
        for number, connection in enumerate(connections):
            answers = responses(rest_of(connection))
            assert [answer.status for answer in answers] == [KEYS.created, 200] * BURST + [404]
            values = [int(answer.body) for answer in answers[1::2]]
            assert values == [number * BURST + turn for turn in range(BURST)]


def test_writes_that_reach_the_disk_together_are_all_answered(opened: Opened, key: str) -> None:
    with connected(opened) as connections:
        with stopped(opened[0]):
            for number, connection in enumerate(connections):
                connection.sendall(encoded(KEYS.write(f"{key}.{number}", b"%d" % number)))
        for connection in connections:
            [answer] = responses(connection.recv(65536))
            assert answer.status == KEYS.created
        for number, connection in enumerate(reversed(connections)):
            connection.sendall(head("GET", KEYS.target(f"{key}.{number}"), LAST))
            [answer] = responses(rest_of(connection))
            assert answer.body == b"%d" % number


def test_some_leave_before_they_are_answered(opened: Opened, key: str) -> None:
    with connected(opened) as connections:
        with stopped(opened[0]):
            for number, connection in enumerate(connections):
                connection.sendall(encoded(KEYS.write(f"{key}.{number}", b"1")) + head("GET", "/no/such/path", LAST))
                if number % 3 == 0:
                    connection.close()
        for number, connection in enumerate(connections):
            if number % 3:
                assert [answer.status for answer in responses(rest_of(connection))] == [KEYS.created, 404]


def test_a_client_that_finishes_sending_is_answered(opened: Opened) -> None:
    with connected(opened) as connections:
        if isinstance(connections[0], ssl.SSLSocket):
            pytest.skip("TLS, as Python has it, is finished for both or for none")
        with stopped(opened[0]):
            for number, connection in enumerate(connections):
                connection.sendall(head("GET", "/no/such/path") + head("GET", f"/no/{number}"))
                connection.shutdown(socket.SHUT_WR)
        for connection in connections:
            assert [answer.status for answer in responses(rest_of(connection))] == [404, 404]
