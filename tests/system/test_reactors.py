"""The front watches its connections within whatever reactor `twistd --reactor` chooses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.server import TWISTD, running
from tests.support.wire import Connection, head, sized


@pytest.mark.parametrize("reactor", ["epoll", "poll", "select", "asyncio"])
def test_a_reactor(tmp_path: Path, reactor: str) -> None:
    options = ("--profile", "lsfr", "--store", "dir")
    with running(tmp_path / "data", *options, twistd=(*TWISTD, f"--reactor={reactor}")) as server:
        connections = [Connection(server.address) for _ in range(40)]
        for number, connection in enumerate(connections):
            connection.send(sized("PUT", f"/kv/{number}", b"%d" % number) + head("GET", f"/kv/{number}"))
        for number, connection in enumerate(connections):
            assert connection.receive("PUT").status == 200
            assert connection.receive().body == b"%d" % number
        for connection in connections[:20]:
            connection.abort()
        server.stop()
        for connection in connections[20:]:
            assert connection.receive_rest() == b""
            connection.close()
        assert "Traceback" not in server.output() + server.errors()
