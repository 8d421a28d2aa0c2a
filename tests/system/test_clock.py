"""The wall clock is set while a server runs, or between two starts."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from tests.support import wild_clock
from tests.support.server import Server, running, until
from tests.support.tools import kvtwist
from tests.support.wild_clock import WallClock
from tests.support.wire import Connection, ask

YEARS = 10 * 365 * 86_400


@pytest.fixture
def clock(tmp_path: Path) -> WallClock:
    return WallClock(tmp_path / "clock")


def started(place: Path, clock: WallClock) -> Server:
    """A server with the `keys` and `history` profiles."""
    profiles = ("--profile", "keys", "--profile", "history", "--store", "dir")
    return Server(place / "data", *profiles, environment=clock.environment, twistd=wild_clock.TWISTD)


def stamps(server: Server, key: str) -> list[int]:
    return [event["timestamp"] for event in json.loads(ask(server.address, "GET", f"/{key}/history").body)]


def records(server: Server) -> float:
    metrics = ask(server.address, "GET", "/metrics").body
    found = re.search(rb'^kvtwist_store_records\{keyspace="data"\} (\S+)$', metrics, re.MULTILINE)
    assert found is not None
    return float(found[1])


@pytest.mark.parametrize("reactor", ["epoll", "poll", "select", "asyncio"])
def test_timers_go_on_when_the_clock_is_set_back(tmp_path: Path, clock: WallClock, reactor: str) -> None:
    options = ("--profile", "keys", "--store", "memory", "--idle-timeout", "3")
    twistd = (*wild_clock.TWISTD, f"--reactor={reactor}")
    with running(tmp_path / "data", *options, environment=clock.environment, twistd=twistd) as server:
        with Connection(server.address) as idle:
            assert idle.ask("GET", "/keys").status == 200
            clock.set(-3600)
            body = b'{"id": "a", "value": 1}'
            assert ask(server.address, "PUT", "/keys?expire_in=1", body).status == 201
            assert idle.receive_rest() == b"", "the connection is closed when it has been idle for too long"
        until(lambda: records(server) == 0)
        server.wait_for("warn kvtwist.store: the clock is 36.. s behind")
        server.stop()


def test_a_glitch_while_the_server_runs_changes_nothing(tmp_path: Path, clock: WallClock) -> None:
    def is_now(ms: int) -> bool:
        return abs(ms - time.time() * 1000) < 3_600_000

    for end in (Server.stop, Server.kill):
        server = started(tmp_path, clock)
        try:
            ask(server.address, "PUT", "/keys?expire_in=600", b'{"id": "session", "value": 1}')
            ask(server.address, "PUT", "/a", b"before")
            clock.set(YEARS)
            assert ask(server.address, "PUT", "/a", b"meanwhile").status == 204
            server.wait_for(r"error kvtwist\.store: the clock was set forward by 3153\d+ s")
            assert ask(server.address, "GET", "/keys/session").status == 200
            clock.set(0)
            assert ask(server.address, "PUT", "/a", b"after").status == 204
            server.wait_for("info kvtwist.store: the store's time follows the clock again")
            shown = stamps(server, "a")
            assert len(shown) >= 3 and shown == sorted(shown, reverse=True) and all(map(is_now, shown))
            end(server)
        finally:
            server.kill()
    server = started(tmp_path, clock)
    try:
        assert ask(server.address, "GET", "/keys/session").status == 200
        assert len(stamps(server, "a")) == 6
        assert "behind" not in server.output()
    finally:
        server.kill()


def test_the_way_back_from_a_glitch_that_a_start_has_believed(tmp_path: Path, clock: WallClock) -> None:
    server = started(tmp_path, clock)
    ask(server.address, "PUT", "/a", b"before")
    server.kill()
    clock.set(YEARS)
    server = started(tmp_path, clock)
    ask(server.address, "PUT", "/a", b"in ten years")
    server.kill()
    clock.set(0)
    server = started(tmp_path, clock)
    server.wait_for(r"warn kvtwist\.store: the clock is 31535\d+ s behind .* kvtwist reset-time")
    ask(server.address, "PUT", "/a", b"still in ten years")
    latest = stamps(server, "a")
    assert latest == sorted(latest, reverse=True)
    assert latest[0] > (time.time() + YEARS - 3600) * 1000
    server.stop()
    assert kvtwist("reset-time", tmp_path / "data").exit_code == 0
    server = started(tmp_path, clock)
    try:
        assert "behind" not in server.output()
        assert ask(server.address, "GET", "/a").body == b"still in ten years"
        ask(server.address, "PUT", "/a", b"now")
        [shown] = stamps(server, "a")
        assert abs(shown - time.time() * 1000) < 3_600_000
    finally:
        server.kill()
