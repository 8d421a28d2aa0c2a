"""Acknowledged writes survive a stop and a kill of the process."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.answer import is_json_error
from tests.support.profiles import ALL_PROFILES, Profile, encoded
from tests.support.server import Server, running
from tests.support.wire import Connection, ask

End = Callable[[Server], int]

ENDS = pytest.mark.parametrize("end", [Server.stop, Server.kill], ids=["stopped", "killed"])


@ENDS
@pytest.mark.parametrize("profile", ALL_PROFILES, ids=lambda profile: profile.name)
def test_writes_and_deletions_outlive_the_process(tmp_path: Path, profile: Profile, end: End) -> None:
    options = ["--profile", profile.name]
    with running(tmp_path / "data", *options) as server:
        with Connection(server.address) as connection:
            for number in range(50):
                connection.send(encoded(profile.write(f"key{number}", b"%d" % number)))
                assert connection.receive().status == profile.created
            if profile.commits:
                assert connection.ask("POST", "/commit").status == 204
                assert connection.ask("DELETE", "/set", b'"key0"').status == 200
                assert connection.ask("POST", "/commit").status == 204
            else:
                assert connection.ask("DELETE", profile.target("key0")).status in (200, 204)
        end(server)
    with running(tmp_path / "data", *options) as server:
        found = [profile.read(server.address, f"key{number}") for number in range(50)]
    assert found == [None, *(b"%d" % number for number in range(1, 50))]


@pytest.mark.parametrize("profile", [profile.name for profile in ALL_PROFILES])
def test_server_stops_in_good_order(tmp_path: Path, profile: str) -> None:
    with running(tmp_path / "data", "--profile", profile) as server, Connection(server.address) as idle:
        idle.ask("GET", "/")
        assert server.stop() == -signal.SIGTERM  # which Twisted raises anew once it has stopped
        assert idle.receive_rest() == b""


@pytest.mark.parametrize("profile", [profile.name for profile in ALL_PROFILES])
def test_all_output_is_on_standard_output(tmp_path: Path, profile: str) -> None:
    with running(tmp_path / "data", "--profile", profile) as server:
        ask(server.address, "GET", "/no/such/path")
        ask(server.address, "PUT", "/", b"\xff")
        server.stop()
        assert server.errors() == ""


@ENDS
def test_queue_outlives_the_process(tmp_path: Path, end: End) -> None:
    with running(tmp_path / "data", "--profile", "transactional") as server:
        with Connection(server.address) as connection:
            connection.ask("POST", "/set", b'{"doomed":1}')
            connection.ask("POST", "/commit")
            assert connection.ask("POST", "/set", b'{"new": 1.0}').status == 201
            assert connection.ask("DELETE", "/set", b'"doomed"').status == 200
        end(server)
    with (
        running(tmp_path / "data", "--profile", "transactional") as server,
        Connection(server.address) as connection,
    ):
        is_json_error(connection.ask("GET", "/new"), 404)
        assert connection.ask("GET", "/doomed").body == b'{"doomed":1}'
        assert connection.ask("POST", "/set", b'{"new": 1.0}').status == 200
        assert connection.ask("POST", "/set", b'{"doomed":2}').status == 201
        assert connection.ask("DELETE", "/set", b'"doomed"').status == 200
        assert connection.ask("POST", "/commit").status == 204
        assert connection.ask("GET", "/new").body == b'{"new":1.0}'
        is_json_error(connection.ask("GET", "/doomed"), 404)


@ENDS
def test_history_outlives_the_process_in_a_directory(tmp_path: Path, end: End) -> None:
    with running(tmp_path / "data", "--profile", "history") as server:
        for value in (b"1", b"\xff"):
            ask(server.address, "PUT", "/foo", value)
        ask(server.address, "DELETE", "/foo")
        before = ask(server.address, "GET", "/foo/history").json()
        end(server)
    with running(tmp_path / "data", "--profile", "history") as server:
        assert ask(server.address, "GET", "/foo/history").json() == before
        ask(server.address, "PUT", "/foo", b"2")
        after = ask(server.address, "GET", "/foo/history").json()
    assert after[1:] == before
    assert after[0]["timestamp"] >= before[0]["timestamp"]


@ENDS
def test_clear_outlives_the_process(tmp_path: Path, end: End) -> None:
    with running(tmp_path / "data", "--profile", "lsfr") as server:
        ask(server.address, "PUT", "/kv/before", b"1")
        ask(server.address, "DELETE", "/clear")
        ask(server.address, "PUT", "/kv/after", b"2")
        end(server)
    with running(tmp_path / "data", "--profile", "keys") as server:
        assert ask(server.address, "GET", "/keys").json() == {"after": "2"}


def test_memory_store_leaves_nothing(tmp_path: Path) -> None:
    options = ["--profile", "lsfr", "--store", "memory"]
    with running(tmp_path / "data", *options) as server:
        assert ask(server.address, "PUT", "/kv/a", b"1").status == 200
        server.stop()
    with running(tmp_path / "data", *options) as server:
        assert ask(server.address, "GET", "/kv/a").status == 404
