"""
10,000 PUTs at once, each on a connection of its own, beside a thousand clients that never end their requests: all are
answered with 200, and all survive SIGKILL; and those who took too long hear so.
"""

from __future__ import annotations

import resource
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.server import PATIENCE, running
from tests.support.wire import Address, ask, sized

COUNT = 10_000
SLOW = 1_000
SPARE_FILES = 500


@contextmanager
def many_files(count: int) -> Iterator[None]:
    """Let this process have so many files open; skips the test where the system does not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"this process may have {hard} open files at most (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def ask_all(address: Address, requests: list[bytes]) -> list[bytes]:
    """Open a connection for each request, then send all, and read all answers; each asks for the connection to close."""
    waiting: dict[int, tuple[int, socket.socket]] = {}
    answers = [b""] * len(requests)
    poll = select.epoll()
    try:
        for number in range(len(requests)):
            connection = socket.socket()
            connection.setblocking(False)
            connection.connect_ex(address)
            waiting[connection.fileno()] = number, connection
            poll.register(connection, select.EPOLLOUT)
        while waiting:
            events = poll.poll(PATIENCE)
            assert events, f"{len(waiting)} of {len(requests)} connections have no answer"
            for descriptor, event in events:
                number, connection = waiting[descriptor]
                if event & select.EPOLLOUT:
                    connection.sendall(requests[number])
                    poll.modify(connection, select.EPOLLIN)
                    continue
                try:
                    piece = connection.recv(65536)
                except ConnectionResetError:
                    piece = b""  # what has come has to be the whole answer
                answers[number] += piece
                if not piece:
                    poll.unregister(connection)
                    del waiting[descriptor]
                    connection.close()
    finally:
        poll.close()
        for _, connection in waiting.values():
            connection.close()
    return answers


@contextmanager
def slow(address: Address) -> Iterator[list[socket.socket]]:
    """So many clients that send a little of a request, and now and then a little more."""
    connections = [socket.create_connection(address, PATIENCE) for _ in range(SLOW)]
    try:
        send_more(connections, b"PUT /kv/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n")
        yield connections
    finally:
        for connection in connections:
            connection.close()


def send_more(connections: list[socket.socket], data: bytes) -> None:
    """Send on each of them, as far as it is there."""
    for connection in connections:
        with suppress(OSError):
            connection.sendall(data)


def everything(connection: socket.socket) -> bytes:
    """All that comes until the connection ends, in whatever way."""
    data = b""
    with suppress(ConnectionError):
        while more := connection.recv(65536):
            data += more
    return data


def test_all_are_answered_and_all_are_there_after_a_kill(tmp_path: Path) -> None:
    requests = [
        sized("PUT", f"/kv/key:{number}", b"value of %d" % number, "Connection: close") for number in range(COUNT)
    ]
    options = ("--profile", "lsfr", "--head-timeout", "5")
    with (
        many_files(COUNT + SLOW + SPARE_FILES),
        running(tmp_path / "data", *options) as server,
        slow(server.address) as others,
    ):
        send_more(others, b"X-")
        started = time.monotonic()
        answers = ask_all(server.address, requests)
        print(f"{COUNT} PUTs on {COUNT} connections in {time.monotonic() - started:.1f} s")
        send_more(others, b"A: b\r\n")
        assert {everything(connection)[:13] for connection in others} == {b"HTTP/1.1 408 "}
        is_alive = server.is_alive()
        server.kill()
        assert "Traceback" not in server.output() + server.errors()
    wrong = [answer for answer in answers if not (answer.startswith(b"HTTP/1.1 200 ") and b"\r\n\r\n" in answer)]
    assert not wrong, f"{len(wrong)} of {COUNT}, for example {wrong[0]!r}; {is_alive=}; {server.output()}"
    with running(tmp_path / "data", "--profile", "keys") as server:
        found = ask(server.address, "GET", "/keys").json()
    assert found == {f"key:{number}": f"value of {number}" for number in range(COUNT)}
