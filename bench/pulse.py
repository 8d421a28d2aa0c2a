"""
A heartbeat from outside, in a process of its own: `python -m bench.pulse host port target` asks for one small resource
every ten milliseconds, over one connection, until its standard input ends; then it prints what it saw.

A request that comes while another one is still waiting would have waited until that one was answered, and is counted
so without being sent: a server that answers nobody for a second shows up in a hundred samples, and not in one.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from typing import Final

PERIOD: Final = 0.010


def _exchange(connection: socket.socket, request: bytes) -> int:
    """Send a request, read its whole answer; the status."""
    connection.sendall(request)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += _received(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
    left = int(fields.get(b"content-length", b"0")) - len(body)
    while left > 0:
        left -= len(_received(connection))
    return int(head.split(b" ", 2)[1])


def _received(connection: socket.socket) -> bytes:
    piece = connection.recv(65536)
    if not piece:
        raise ConnectionError("the server hung up")
    return piece


def _wait_for_end(over: threading.Event) -> None:
    os.read(0, 1)
    over.set()


def main(host: str, port: int, target: str) -> None:
    """Beat until standard input ends."""
    over = threading.Event()
    threading.Thread(target=_wait_for_end, args=(over,), daemon=True).start()
    samples: list[tuple[float, float, int]] = []
    request = f"GET {target} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
    with socket.create_connection((host, port), 60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        due = time.monotonic()
        while not over.is_set():
            time.sleep(max(due - time.monotonic(), 0))
            sent = time.monotonic()
            status = _exchange(connection, request)
            answered = time.monotonic()
            samples.append((due, answered - sent, status))
            due += PERIOD
            while due < answered:
                samples.append((due, answered - due, status))
                due += PERIOD
    json.dump(samples, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
