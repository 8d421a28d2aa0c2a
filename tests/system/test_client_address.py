"""The access log names the client, also behind a proxy."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.support.server import PATIENCE, running
from tests.support.wire import head


@pytest.mark.parametrize(
    ("endpoint", "preamble", "client"),
    [
        ("tcp", b"", "127.0.0.1"),
        ("haproxy:tcp", b"PROXY TCP4 203.0.113.7 127.0.0.1 50000 80\r\n", "203.0.113.7"),
    ],
)
def test_the_client_and_not_its_proxy(tmp_path: Path, endpoint: str, preamble: bytes, client: str) -> None:
    options = ("-P", "lsfr", "--store", "memory", "--endpoint", f"{endpoint}:0:interface=127.0.0.1")
    with running(tmp_path / "data", *options, "--access-log", "json") as server:
        for request, status in ((head("GET", "/kv/a"), 404), (b"BAD\r\n\r\n", 400)):
            lines = server.lines
            with socket.create_connection(server.address, PATIENCE) as connection:
                connection.sendall(preamble + request)
                assert connection.recv(100).startswith(b"HTTP/1.1 %d " % status)
            told = json.loads(server.wait_for(r"\{.*\}$", after=lines)[0])
            assert (told["client"], told["status"]) == (client, status)
