"""
A process that may have few files open (`ulimit -n`): connections never take what the store needs, and where there are
no files left for a moment the store goes on once there are.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kvtwist.ops.system import RESERVED_FILES
from tests.support.failing_disk import TWISTD as FAILING
from tests.support.failing_disk import Faults
from tests.support.profiles import LSFR
from tests.support.server import Server, running, twistd_after, until
from tests.support.tools import kvtwist
from tests.support.wire import Connection

FILES = 160
LIMITED = twistd_after(f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({FILES}, {FILES}))")
OPTIONS = ("--profile", "lsfr", "--profile", "clstr", "--profile", "keys", "--memory-limit=1MiB")
MOST = FILES - RESERVED_FILES


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Server]:
    """A server that may have few files open, with a store whose records are in pages."""
    with running(tmp_path / "data", *OPTIONS) as server, Connection(server.address) as connection:
        for number in range(300):
            assert LSFR.put(connection, f"old{number}", b"v" * 1000).status == 200
        server.stop()
    with running(tmp_path / "data", *OPTIONS, twistd=LIMITED) as server:
        yield server


def assert_works(server: Server, connection: Connection, target: Path) -> None:
    """Whatever takes a file: the first write, reads of pages, checkpoints, a backup."""
    for number in range(300):
        assert connection.ask("GET", f"/kv/old{number}").body == b"v" * 1000
    lines = server.lines
    for number in range(600):
        assert LSFR.put(connection, f"new{number}", b"v" * 1000).status == 200
    server.wait_for("checkpoint of revision", lines)
    assert kvtwist("backup", target.parent / "data", target).exit_code == 0
    assert connection.ask("GET", "/health").status == 200
    assert b"\nkvtwist_store_read_only 0.0\n" in connection.ask("GET", "/metrics").body
    assert "failed" not in server.output()
    assert "Traceback" not in server.output() + server.errors()


def test_idle_connections_leave_the_store_its_files(limited: Server, tmp_path: Path) -> None:
    limited.wait_for(f"at most {MOST} connections instead of 50000")
    with Connection(limited.address) as connection, ExitStack() as idle:
        for _ in range(MOST - 1):
            idle.enter_context(socket.create_connection(limited.address))
        with Connection(limited.address) as one_more:
            assert one_more.receive().status == 503
        assert_works(limited, connection, tmp_path / "backup")


def test_a_rush_beyond_the_limit_is_survived(limited: Server) -> None:
    """Those that are refused take files for a moment, too: more than there are."""
    kept: dict[str, bytes] = {}
    with Connection(limited.address) as connection:
        assert connection.ask("GET", "/health").status == 200
        with ExitStack() as idle:
            for _ in range(4 * FILES):
                idle.enter_context(socket.create_connection(limited.address))
            for number in range(1000):
                answer = LSFR.put(connection, f"rush{number}", b"v" * 1000)
                assert answer.status in (200, 503)
                if answer.status == 200:
                    kept[f"rush{number}"] = b"v" * 1000
                assert connection.ask("GET", "/health").status == 200
            until(lambda: LSFR.put(connection, "more", b"v").status == 200)
            for key, value in kept.items():
                # As long as refused connections linger, a page may be 503: that means "not now".
                while (answer := connection.ask("GET", LSFR.target(key))).status == 503:
                    pass
                assert answer.body == value
        assert b"\nkvtwist_store_read_only 0.0\n" in connection.ask("GET", "/metrics").body


@pytest.mark.parametrize("call", ["create", "reopen", "names", "sync_directory", "write"])
def test_without_a_file_for_it_a_write_is_503_and_the_next_one_succeeds(call: str, tmp_path: Path) -> None:
    data, faults = tmp_path / "data", Faults(tmp_path / "faults")
    for first in ("1", "2"):  # with a spare segment to be opened again, and without
        with running(data, *OPTIONS, twistd=FAILING, environment=faults.environment) as server:
            faults.fail(call, errno.EMFILE)
            with Connection(server.address) as connection:
                answer = LSFR.put(connection, "k", first.encode())
                refused = answer.status == 503
                assert refused or answer.status == 200
                assert connection.ask("GET", "/health").status == 200
                assert b"\nkvtwist_store_read_only 0.0\n" in connection.ask("GET", "/metrics").body
                assert connection.ask("GET", "/kv/old").status == 404
                faults.heal()
                assert LSFR.put(connection, "k", first.encode()).status == 200
                assert connection.ask("GET", "/kv/k").body == first.encode()
            server.stop()
            assert "Traceback" not in server.output() + server.errors()
