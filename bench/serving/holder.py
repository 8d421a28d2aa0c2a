"""
Opens connections, asks once on each, and holds them until its standard input ends: `python -m bench.serving.holder`.

It writes a line when all are there, and one with how many the server had closed when it ends.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import PIPE, Popen

from bench import ROOT
from bench.serving import data
from bench.serving.processes import PATIENCE, many_files
from bench.serving.wrk import WrongAnswer


def _open(port: int, request: bytes, expected: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), PATIENCE)
    connection.sendall(request)
    answer = b""
    while not answer.endswith(expected):
        piece = connection.recv(4096)
        if not piece:
            sys.exit("the server hung up")
        answer += piece
    connection.setblocking(False)
    return connection


def _is_closed(connection: socket.socket) -> bool:
    try:
        return not connection.recv(1)
    except BlockingIOError:
        return False


@contextmanager
def held(port: int, count: int, core: int) -> Iterator[None]:
    """:raises WrongAnswer: they could not all be opened, or the server has closed some meanwhile."""
    command = ["taskset", "-c", str(core), sys.executable, "-m", "bench.serving.holder", str(port), str(count)]
    process = Popen(command, cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True, preexec_fn=many_files)
    assert process.stdout is not None
    try:
        if process.stdout.readline().strip() != "held":
            raise WrongAnswer(f"{count} connections could not be opened: {process.communicate('')[1][-300:]}")
        yield
        output, _ = process.communicate("", timeout=PATIENCE)
        if output.strip() != "0 closed":
            raise WrongAnswer(f"idle connections: {output.strip() or 'nothing is known of them'}")
    finally:
        process.kill()
        process.wait()


def main(port: int, count: int) -> None:
    """See above."""
    request = b"GET /kv/%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % data.key(1)
    connections = [_open(port, request, data.value(1)) for _ in range(count)]
    print("held", flush=True)
    sys.stdin.read()
    print(f"{sum(map(_is_closed, connections))} closed", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
