"""1,000 PUTs one after the other, each on a new connection: none is lost over restarts, however the server ended."""

from __future__ import annotations

import time
from pathlib import Path

from tests.support.server import Server, running
from tests.support.wire import ask

COUNT = 1000


def test_none_is_lost_on_restart(tmp_path: Path) -> None:
    latencies = []
    with running(tmp_path / "data", "--profile", "clstr") as server:
        for number in range(COUNT):
            started = time.monotonic()
            assert ask(server.address, "PUT", f"/kv/key{number}", b"%d" % number).status == 200
            latencies.append(time.monotonic() - started)
        server.kill()
    print(f"the slowest of {COUNT} PUTs took {1000 * max(latencies):.1f} ms")
    for end in (Server.stop, Server.kill):  # of which the first one makes pages of what was in the journal
        with running(tmp_path / "data", "--profile", "keys") as server:
            found = ask(server.address, "GET", "/keys").json()
            assert found == {f"key{number}": str(number) for number in range(COUNT)}
            end(server)
