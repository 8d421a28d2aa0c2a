#!/usr/bin/env python
"""
How soon is a change told, and what do watches cost that have nothing to tell?

Watches of one key are opened, more and more of them, and the key is written now and then: a round trip ends when the
last watch has been told. Then thousands watch other keys while one key is written. The watches and the writer are in
one process, so their part of the time is in all figures.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final

sys.path.pop(0)  # bench/, whose http.py would hide the library's
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import command
from bench.checkout import Checkout
from bench.command import say
from bench.figures import milli, short
from bench.phases import Metric, Phase, compare
from bench.servers import HOST, Client, Server, start_kvtwist

KIB: Final = 1024
METRICS: Final = (
    Metric("told", "until the last one is told, ms", milli, drawn=True),
    Metric("put", "the PUT itself, ms", milli, drawn=True),
    Metric("size", "memory of each watch, KiB", short),
)


class Watches:
    """Connections that watch a key each."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._connections: dict[int, socket.socket] = {}

    def open(self, port: int, keys: Iterator[str]) -> None:
        """Open one for each key, and wait until all have begun."""
        opened = []
        for key in keys:
            connection = socket.create_connection((HOST, port))
            connection.sendall(f"GET /v1/watch?key={key} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            opened.append(connection)
        for connection in opened:
            begun = b""
            while b"\nid: " not in begun:
                begun += connection.recv(65536)
            self._connections[connection.fileno()] = connection
            self._poll.register(connection, select.EPOLLIN)

    def wait(self) -> None:
        """Return when all have been told of a change."""
        left = set(self._connections)
        while left:
            for descriptor, _ in self._poll.poll():
                if b"event: put" in self._connections[descriptor].recv(65536):
                    left.discard(descriptor)

    def close(self) -> None:
        """Close all of them."""
        self._poll.close()
        for connection in self._connections.values():
            connection.close()


def _put(client: Client, key: str) -> float:
    began = time.perf_counter()
    client.expect({201, 204}, "PUT", f"/v1/kv/{key}", b"value")
    return time.perf_counter() - began


def measure(checkout: Checkout, place: Path, quick: bool) -> Iterator[Phase]:
    """The phases of one server."""
    puts = 5 if quick else 50
    with Server(place) as server:
        start_kvtwist(server, checkout, "--profile", "native", "--max-watches", "20000", "--max-in-flight", "256MiB")
        client = Client(server.port)
        yield _phase("PUT, no watch", {"put": median(_put(client, "k") for _ in range(puts))})
        watches, count = Watches(), 0
        for more in (1, 9, 90) if quick else (1, 99, 900):
            before = server.resident()
            watches.open(server.port, iter(["hot"] * more))
            count += more
            size = (server.resident() - before) / more
            told, put = [], []
            for _ in range(puts):
                began = time.perf_counter()
                put.append(_put(client, "hot"))
                watches.wait()
                told.append(time.perf_counter() - began)
            figures = {"told": median(told), "put": median(put)}
            yield _phase(f"PUT, {count:,} watch the key", figures if more < 100 else {**figures, "size": size / KIB})
        watches.close()
        idle, many = Watches(), 200 if quick else 10_000
        before = server.resident()
        idle.open(server.port, (f"idle/{number}" for number in range(many)))
        figures = {"size": (server.resident() - before) / many / KIB}
        yield _phase(
            f"PUT, {many:,} watch other keys", {**figures, "put": median(_put(client, "k") for _ in range(puts))}
        )
        idle.close()


def _phase(title: str, figures: dict[str, float]) -> Phase:
    say(f"{title}: " + ", ".join(f"{name} {value:.5g}" for name, value in figures.items()))
    return Phase(title, 0.0, 0.0, figures)


def main() -> None:
    """Exit with a traceback when the server fails."""
    options = command.parser(__doc__, rounds=3).parse_args()
    with command.run(options) as run:
        compare(run, "watch", METRICS, lambda checkout, place: measure(checkout, place, run.quick))


if __name__ == "__main__":
    main()
