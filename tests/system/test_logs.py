"""
The log of a real process: its format everywhere, and that nothing that happens to it is felt by a client or keeps the
server from stopping.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from kvtwist.engine.housekeeping import STOP_SECONDS
from kvtwist.ops.log_writer import FLUSH_SECONDS
from kvtwist.web.service import DRAIN_SECONDS
from tests.support.server import PATIENCE, TWISTD, clean_environment, running, until
from tests.support.wire import Connection, ask

REQUESTS = 2000
EVENT = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+[+-]\d{4} (debug|info|warn) [\w.#-]+: ")


@contextmanager
def serving(
    place: Path, output: int | IO[Any], *options: str, command: tuple[str, ...] = TWISTD
) -> Iterator[tuple[subprocess.Popen[bytes], tuple[str, int]]]:
    """A process whose standard output is that, and the address at which it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()
    process = subprocess.Popen(
        [*command, "-n", "--pidfile=", "kvstore", f"--port={address[1]}", "--profile=keys", *options],
        cwd=place,
        env=clean_environment({"KVTWIST_STORE": "memory"}),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.PIPE,
    )

    def answers() -> bool:
        assert process.poll() is None, process.stderr and process.stderr.read()
        try:
            return ask(address, "GET", "/keys").status == 200
        except ConnectionRefusedError:
            return False

    try:
        until(answers)
        yield process, address
    finally:
        process.kill()
        process.communicate()


def ended_well(process: subprocess.Popen[bytes]) -> bool:
    """Whether it ends when it is asked to, and has nothing to complain of."""
    process.terminate()
    process.wait(PATIENCE)
    assert process.stderr is not None
    return process.returncode == -signal.SIGTERM and process.stderr.read() == b""


def dropped(address: tuple[str, int]) -> int:
    """What the metrics say."""
    found = re.search(rb"^kvtwist_log_dropped_lines_total (\S+)$", ask(address, "GET", "/metrics").body, re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


def ask_often(address: tuple[str, int]) -> None:
    with Connection(address) as connection:
        for number in range(REQUESTS):
            assert connection.ask("GET", f"/keys/{number}").status == 404


def test_the_time_that_a_stop_may_take_is_bounded() -> None:
    assert DRAIN_SECONDS + STOP_SECONDS + FLUSH_SECONDS < 5


def test_a_pipe_that_nobody_reads_for_a_while(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    with serving(tmp_path, writer, "--access-log=json", "--log-buffer=64KiB") as (process, address):
        os.close(writer)
        ask_often(address)
        assert dropped(address) > 0
        with os.fdopen(reader) as output:
            told = 0
            lines = []
            while told < dropped(address):
                lines.append(output.readline())
                found = re.search(r" warn kvtwist\.log: (\d+) lines of the log were dropped", lines[-1])
                told += int(found[1]) if found else 0
            assert ask(address, "GET", "/keys/last").status == 404
            process.terminate()
            lines += output.readlines()
            assert ended_well(process)
    exchanges = [json.loads(line) for line in lines if line.startswith("{")]
    assert all(EVENT.match(line) for line in lines if not line.startswith("{"))
    targets = Counter(exchange["target"] for exchange in exchanges)
    asked = sum(count for target, count in targets.items() if target.startswith("/keys/"))
    others = sum(count for target, count in targets.items() if target == "/metrics")
    assert asked + others + told >= REQUESTS
    assert targets["/keys/last"] == 1, "what comes after a gap is written again"
    assert lines[-1].endswith(" info kvtwist: stopped\n")


@pytest.mark.parametrize("reader", ["does not read", "is gone"])
def test_a_pipe_that_nobody_reads_any_more(tmp_path: Path, reader: str) -> None:
    end, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    with serving(tmp_path, writer, "--access-log=common", "--log-buffer=4KiB") as (process, address):
        os.close(writer)
        if reader == "is gone":
            os.close(end)
        ask_often(address)
        assert dropped(address) > REQUESTS // 2
        assert ended_well(process)
    if reader != "is gone":
        os.close(end)


def test_a_full_disk(tmp_path: Path) -> None:
    with (
        open("/dev/full", "wb", buffering=0) as full,
        serving(tmp_path, full, "--access-log=common") as (process, address),
    ):
        ask_often(address)
        until(lambda: dropped(address) > REQUESTS)
        assert ended_well(process)


def test_no_standard_output(tmp_path: Path) -> None:
    command = ("sh", "-c", 'exec "$@" >&-', "sh", *TWISTD)
    with serving(tmp_path, subprocess.DEVNULL, "--store=dir", "--access-log=common", command=command) as (
        process,
        address,
    ):
        ask_often(address)
        assert ended_well(process)
    with running(tmp_path / "kvtwist-data", "--profile", "keys") as server:
        assert ask(server.address, "GET", "/keys").status == 200


def test_a_terminal_stays_as_it_was_for_those_who_share_it(tmp_path: Path) -> None:
    control, terminal = os.openpty()
    with serving(tmp_path, terminal) as (process, _):
        assert os.get_blocking(terminal)
        assert ended_well(process)
    os.close(terminal)
    os.close(control)


@pytest.mark.parametrize("logger", [(), ("--logger", "kvtwist.ops.logs.stdout")], ids=["", "as it was once given"])
@pytest.mark.parametrize("level", ["info", "debug"])
def test_one_line_an_event(tmp_path: Path, logger: tuple[str, ...], level: str) -> None:
    options = ("--profile", "lsfr", "--access-log", "json", "--log-level", level)
    with running(tmp_path / "data", *options, twistd=(*TWISTD, *logger)) as server:
        assert ask(server.address, "PUT", "/kv/a", b"1").status == 200
        server.stop()
        assert server.errors() == ""
        lines = server.output().splitlines()
    exchanges = [json.loads(line) for line in lines if line.startswith("{")]
    assert [(each["method"], each["target"], each["status"]) for each in exchanges] == [("PUT", "/kv/a", 200)]
    assert all(EVENT.match(line) for line in lines if not line.startswith("{")), lines
    assert any("Received SIGTERM" in line for line in lines) == (level == "debug")


def test_what_is_logged_of_a_start_and_a_stop(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--profile", "lsfr", "--profile", "keys") as server:
        server.stop()
        lines = [line.partition(": ")[2] for line in server.output().splitlines() if "ulimit" not in line]
    port = server.address[1]
    assert lines == [
        f"store in {tmp_path}/data: 0 transactions replayed from 0 journal segments (0 bytes)",
        f"Admin site listening on {tmp_path}/data/admin.sock",
        f"kvtwist is serving lsfr, keys on http://localhost:{port}",
        "asked to stop",
        "stopped",
    ]


def test_what_is_not_as_it_seems_is_a_warning(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--profile", "history", "--store", "memory") as server:
        lines = [line.split(" ", 1)[1] for line in server.output().splitlines()]
        port = server.address[1]
        assert lines[-1] == f"info kvtwist: kvtwist is serving history on http://localhost:{port}, in memory"
        assert lines[-2].startswith("warn kvtwist: NOTHING IS KEPT ON DISK")
    with running(tmp_path / "data", environment={"KVTWIST_PORTS": "4000"}) as server:
        server.wait_for("warn kvtwist: unknown environment variable KVTWIST_PORTS; did you mean KVTWIST_PORT")
        assert "NOTHING IS KEPT" not in server.output()


def test_a_daemon_writes_lines_of_json_too(tmp_path: Path) -> None:
    started = subprocess.run(
        [*TWISTD, "--pidfile=pid", "kvstore", "--port=0", "--profile=lsfr", "--access-log=json"],
        cwd=tmp_path,
        env=clean_environment({}),
        timeout=PATIENCE,
        check=True,
        capture_output=True,
    )
    assert (started.stdout, started.stderr) == (b"", b"")
    pid = int((tmp_path / "pid").read_text())
    log = tmp_path / "twistd.log"
    try:
        until(lambda: "kvtwist is serving" in log.read_text())
        found = re.search(r"kvtwist is serving lsfr on http://localhost:(\d+)\n\Z", log.read_text())
        assert found is not None
        address = ("127.0.0.1", int(found[1]))
        for number in range(3):
            assert ask(address, "PUT", f"/kv/{number}", b"1").status == 200
        os.kill(pid, signal.SIGTERM)
        until(lambda: not (tmp_path / "pid").exists())
    finally:
        if (tmp_path / "pid").exists():
            os.kill(pid, signal.SIGKILL)
    lines = log.read_text().splitlines()
    exchanges = [json.loads(line) for line in lines if not EVENT.match(line)]
    assert [each["target"] for each in exchanges] == ["/kv/0", "/kv/1", "/kv/2"]


def test_what_keeps_it_from_starting_is_shown_once(tmp_path: Path) -> None:
    with running(tmp_path / "data"):
        refused = subprocess.run(
            [*TWISTD, "-n", "--pidfile=", "kvstore", "--port=0", "--working-dir=data"],
            cwd=tmp_path,
            env=clean_environment({}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # as on a terminal
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert refused.returncode == 1
    assert refused.stdout.count("in use by another server") == 1


@pytest.mark.parametrize(
    ("options", "part"),
    [(["--logfile=-"], "standard output"), (["-n", "--logfile=none/such"], "none/such: No such file")],
)
def test_a_log_that_cannot_be_is_one_line(tmp_path: Path, options: list[str], part: str) -> None:
    refused = subprocess.run(
        [*TWISTD, *options, "--pidfile=", "kvstore", "--port=0"],
        cwd=tmp_path,
        env=clean_environment({}),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert refused.returncode == 1
    [line] = refused.stderr.splitlines()
    assert line.startswith("kvtwist: ")
    assert part in line
