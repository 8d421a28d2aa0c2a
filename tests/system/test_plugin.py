"""
`twistd kvstore` as an operator meets it: what keeps it from starting is one line, it stops when it is told to, and it
can be a daemon.
"""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvtwist.engine.housekeeping import STOP_SECONDS
from kvtwist.web.service import DRAIN_SECONDS
from tests.support.server import PATIENCE, TWISTD, finished, running, until
from tests.support.wire import Connection, ask


def assert_refused(process: subprocess.CompletedProcess[str], *parts: str) -> None:
    """One clear line, a status that is not zero, and no traceback anywhere."""
    assert process.returncode not in (0, None), process
    assert "Traceback" not in process.stdout + process.stderr, process
    [line] = process.stderr.splitlines()
    assert line.startswith("kvtwist: "), line
    for part in parts:
        assert part in line, line


def start(place: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """A server in a directory, to its end."""
    return finished(place, "-n", "--pidfile=", "kvstore", "--port=0", *arguments, **options)


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that somebody else has."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


@pytest.fixture
def free_port() -> int:
    """A port that nobody had a moment ago."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port: int = other.getsockname()[1]
        return port


# --- what keeps it from starting --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "environment", "part"),
    [
        (["--port=http"], {}, "--port"),
        (["--port", "70000"], {}, "70000"),
        (["--no-such-option"], {}, "no-such-option"),
        (["stray"], {}, "kvtwist"),
        (["--profile=redis"], {}, "redis"),
        (["--store=disk"], {}, "--store"),
        (["--max-value=lots"], {}, "--max-value"),
        ([], {"KVTWIST_ACCESS_LOG": "loud"}, "--access-log"),
        ([], {"KVTWIST_PROFILE": "redis"}, "redis"),
        (["--endpoint=nonsense"], {}, "nonsense"),
        (["--endpoint=tcp:http"], {}, "tcp:http"),
        (["--endpoint=tcp:70000"], {}, "tcp:70000"),
        (["--endpoint=unix:none/such/socket"], {}, "none/such/socket"),
        (["--endpoint=ssl:0:privateKey=none.pem"], {}, "none.pem"),
        (["--interface=192.0.2.1"], {}, "192.0.2.1"),
        (["--interface=localhost.invalid"], {}, "localhost.invalid"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_option_is_one_line(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], part: str
) -> None:
    assert_refused(start(tmp_path, *arguments, environment=environment), part)


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/kvtwist"])
def test_a_directory_that_cannot_be_made_is_one_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("not a directory")
    assert_refused(start(tmp_path, "--working-dir", place), place)


def test_a_port_in_use_is_one_line(tmp_path: Path, taken_port: int) -> None:
    for arguments in ([f"--port={taken_port}"], ["--port", str(taken_port)]):
        process = start(tmp_path, *arguments)
        assert_refused(process, str(taken_port), "in use")


def test_a_directory_in_use_is_one_line_and_the_other_server_goes_on(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--profile", "lsfr") as server:
        ask(server.address, "PUT", "/kv/a", b"1")
        assert_refused(start(tmp_path, "--working-dir=data"), "data is in use by another server")
        assert ask(server.address, "PUT", "/kv/a", b"2").status == 200
        server.stop()
    with running(tmp_path / "data", "--profile", "lsfr") as server:
        assert ask(server.address, "GET", "/kv/a").body == b"2"


def test_a_damaged_journal_is_one_line_that_names_file_and_offset(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--profile", "lsfr") as server:
        for number in range(3):
            ask(server.address, "PUT", f"/kv/{number}", b"value")
        server.kill()
    [journal] = (tmp_path / "data").glob("journal-*")
    content = journal.read_bytes()
    at = content.index(b"value")
    journal.write_bytes(content[:at] + b"VALUE" + content[at + 5 :])
    assert_refused(
        start(tmp_path, "--working-dir=data"), str(journal), "damaged at byte", f"; run: kvtwist check {tmp_path}/data"
    )
    journal.write_bytes(content)
    with running(tmp_path / "data", "--profile", "lsfr") as server:
        assert ask(server.address, "GET", "/kv/0").body == b"value"


def test_a_damaged_manifest_is_one_line(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--profile", "lsfr") as server:
        ask(server.address, "PUT", "/kv/a", b"1")
        server.stop()
    [manifest] = (tmp_path / "data").glob("manifest-*")
    manifest.write_bytes(manifest.read_bytes()[:-1])
    assert_refused(start(tmp_path, "--working-dir=data"), str(manifest), "; run: kvtwist check ")


def test_nothing_is_made_where_it_could_not_start(tmp_path: Path) -> None:
    assert_refused(start(tmp_path, "--port=http", "--working-dir=data", twistd=TWISTD), "--port")
    assert list(tmp_path.iterdir()) == []


# --- starting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [["--port={}"], ["--port", "{}"], ["-p", "{}"], ["-p{}"]], ids=" ".join)
def test_a_port_may_be_written_with_or_without_an_equals_sign(tmp_path: Path, form: list[str], free_port: int) -> None:
    with running(tmp_path / "data", *(part.format(free_port) for part in form)) as server:
        assert server.address == ("127.0.0.1", free_port)


def test_options_may_come_from_the_environment(tmp_path: Path) -> None:
    environment = {"KVTWIST_PROFILE": "lsfr,keys", "KVTWIST_MAX_VALUE": "10"}
    with running(tmp_path / "data", environment=environment) as server:
        assert ask(server.address, "PUT", "/kv/a", b"1" * 10).status == 200
        assert ask(server.address, "PUT", "/kv/a", b"1" * 11).status == 413
        assert ask(server.address, "GET", "/keys").status == 200


def test_it_listens_once_the_store_is_open(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        output = server.output()
        assert 0 <= output.index("transactions replayed") < output.index("kvtwist is serving")


def test_a_torn_tail_is_a_warning(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--profile", "lsfr") as server:
        ask(server.address, "PUT", "/kv/a", b"1")
        ask(server.address, "PUT", "/kv/b", b"2")
        server.kill()
    [journal] = (tmp_path / "data").glob("journal-*")
    journal.write_bytes(journal.read_bytes().rstrip(b"\0")[:-1])
    with running(tmp_path / "data", "--profile", "lsfr") as server:
        server.wait_for("unfinished frame at the end of the journal")
        assert ask(server.address, "GET", "/kv/a").body == b"1"
        assert ask(server.address, "GET", "/kv/b").status == 404


# --- stopping ---------------------------------------------------------------------------------------------------------


def in_good_order(how: signal.Signals) -> tuple[int, int]:
    """Exit statuses: Twisted raises the signal anew once everything has stopped, so that shells see what it was."""
    return 0, -how


def test_the_time_that_a_stop_may_take_is_bounded() -> None:
    assert DRAIN_SECONDS + STOP_SECONDS < 5


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_in_good_order_whatever_is_open(tmp_path: Path, how: signal.Signals) -> None:
    with running(tmp_path / "data", "--profile", "lsfr") as server:
        connections = [Connection(server.address) for _ in range(5)]
        _, idle, head, body, pipelined = connections  # the first one says nothing at all
        assert idle.ask("PUT", "/kv/a", b"1").status == 200
        head.send(b"PUT /kv/b HTTP/1.1\r\nHost: localhost\r\nContent-Le")
        body.send(b"PUT /kv/c HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf")
        assert pipelined.ask("GET", "/kv/a").body == b"1"
        pipelined.send(b"PUT /kv/d HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n2" * 20)
        assert server._end_with(how) in in_good_order(how)
        assert server.errors() == ""
        assert "Traceback" not in server.output()
        for connection in connections:
            connection.close()
    with running(tmp_path / "data", "--profile", "lsfr") as server:
        assert "0 transactions replayed" in server.output()
        assert ask(server.address, "GET", "/kv/a").body == b"1"
        for key in "bc":
            assert ask(server.address, "GET", f"/kv/{key}").status == 404


def test_a_second_signal_changes_nothing(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--profile", "lsfr") as server:
        connection = Connection(server.address)
        connection.send(b"PUT /kv/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf")
        assert ask(server.address, "PUT", "/kv/a", b"1").status == 200
        server._process.send_signal(signal.SIGTERM)
        assert server.stop() in in_good_order(signal.SIGTERM)
        connection.close()
    with running(tmp_path / "data", "--profile", "lsfr") as server:
        assert ask(server.address, "GET", "/kv/a").body == b"1"


def test_after_a_stop_nothing_is_replayed(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--profile", "transactional") as server:
        for number in range(100):
            ask(server.address, "POST", "/set", b'{"k%d":%d}' % (number, number))
        ask(server.address, "POST", "/commit")
        assert server.stop() in in_good_order(signal.SIGTERM)
    with running(tmp_path / "data", "--profile", "transactional") as server:
        server.wait_for(r"\b0 transactions replayed")
        assert ask(server.address, "GET", "/k99").body == b'{"k99":99}'
        server.kill()
    with running(tmp_path / "data", "--profile", "transactional") as server:
        server.wait_for(r"\b0 transactions replayed")


@pytest.mark.parametrize("how", [signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_to_reload_does_not_kill(tmp_path: Path, how: signal.Signals) -> None:
    with running(tmp_path / "data", "--profile", "lsfr") as server:
        server._process.send_signal(how)
        server.wait_for(f"info kvtwist: {how.name}: reloading the log")
        assert ask(server.address, "PUT", "/kv/a", b"1").status == 200
        assert server.stop() in in_good_order(signal.SIGTERM)


def test_a_sigint_that_its_shell_ignores_is_ignored(tmp_path: Path) -> None:
    twistd = ("sh", "-c", "trap '' INT; exec \"$@\"", "sh", *TWISTD)
    with running(tmp_path / "data", "--profile", "lsfr", twistd=twistd) as server:
        assert "SIGINT is ignored" in server.output()
        server._process.send_signal(signal.SIGINT)
        assert ask(server.address, "PUT", "/kv/a", b"1").status == 200
        assert server.stop() in in_good_order(signal.SIGTERM)


# --- as a daemon ------------------------------------------------------------------------------------------------------


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """The address of a daemon with its files in `tmp_path`; what is left of it is killed."""
    process = finished(tmp_path, *DAEMON, "kvstore", "--port=0", "--profile=lsfr", "--working-dir=data", twistd=TWISTD)
    assert process.returncode == 0, process
    assert process.stderr == ""
    pid = int((tmp_path / "pid").read_text())
    try:
        until(lambda: "kvtwist is serving" in (tmp_path / "log").read_text())
        found = re.search(r"kvtwist is serving lsfr on http://localhost:([0-9]+)$", (tmp_path / "log").read_text())
        assert found is not None
        yield "127.0.0.1", int(found[1])
    finally:
        if (tmp_path / "pid").exists():
            os.kill(pid, signal.SIGKILL)


DAEMON = ("--pidfile=pid", "--logfile=log")


def test_a_daemon_starts_serves_and_stops(tmp_path: Path, daemon: tuple[str, int]) -> None:
    pid = int((tmp_path / "pid").read_text())
    assert ask(daemon, "PUT", "/kv/a", b"1").status == 200
    end = os.pidfd_open(pid)
    os.kill(pid, signal.SIGTERM)
    wait_for_end(end)
    assert not (tmp_path / "pid").exists()
    assert "Traceback" not in (tmp_path / "log").read_text()
    with running(tmp_path / "data", "--profile", "lsfr") as server:
        assert "0 transactions replayed" in server.output()
        assert ask(server.address, "GET", "/kv/a").body == b"1"


@pytest.mark.parametrize("how", [signal.SIGHUP, signal.SIGUSR1])
def test_a_daemon_goes_on_in_a_new_log_when_it_is_asked_to(
    tmp_path: Path, daemon: tuple[str, int], how: signal.Signals
) -> None:
    log = tmp_path / "log"
    log.rename(tmp_path / "log.1")
    os.kill(int((tmp_path / "pid").read_text()), how)
    until(lambda: log.exists() and "reopened the log" in log.read_text())
    assert ask(daemon, "GET", "/kv/a").status == 404
    assert (tmp_path / "log.1").read_text().endswith(f" {how.name}: reloading the log\n")


def wait_for_end(descriptor: int) -> None:
    """Return once the process of a descriptor has ended."""
    try:
        ended, _, _ = select.select([descriptor], [], [], PATIENCE)
        assert ended, "the daemon does not end"
    finally:
        os.close(descriptor)


def test_a_daemon_that_cannot_start_says_why(tmp_path: Path, taken_port: int) -> None:
    with running(tmp_path / "data") as server:
        assert server.is_alive()
        for arguments, part in (
            (["--working-dir=data", "--port=0"], "in use by another server"),
            (["--working-dir=other", f"--port={taken_port}"], "in use"),
            (["--port=http"], "--port"),
        ):
            process = finished(tmp_path, *DAEMON, "kvstore", *arguments, twistd=TWISTD)
            assert process.returncode not in (0, None), process
            log = tmp_path / "log"
            assert part in process.stderr + (log.read_text() if log.exists() else ""), process
            assert "Traceback" not in process.stdout + process.stderr, process
