"""
`kvtwist` processes that wait for others: several with one target, pipes without a writer or reader, and signals.

tests/unit/cli tests a signal at every single step.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from errno import ENXIO
from pathlib import Path

import pytest

from tests.support.server import PATIENCE, clean_environment, until
from tests.support.template import Started
from tests.system.test_kvtwist_command import HEADER, filled, kvtwist


def start(*arguments: object, stdout: int | None = None) -> Started:
    """Start a command."""
    environment = clean_environment({"PYTHONUNBUFFERED": ""})
    return Started("kvtwist", *map(str, arguments), environment=environment, stdout=stdout)


def wait_until(condition: Callable[[], bool], process: Started) -> None:
    """Wait for something that a process does."""

    def is_so() -> bool:
        if condition():
            return True
        assert process.poll() is None, process.end()
        return False

    until(is_so)


def writer_of(pipe: Path, process: Started) -> int:
    """Open a pipe for writing, once it has a reader."""
    opened: list[int] = []

    def is_read() -> bool:
        try:
            opened.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        except OSError as error:
            assert error.errno == ENXIO
        return bool(opened)

    wait_until(is_read, process)
    return opened[0]


# --- at the same time -------------------------------------------------------------------------------------------------


def test_of_backups_to_one_target_one_succeeds(tmp_path: Path) -> None:
    store = filled(tmp_path / "data", 2000, b"x" * 1000)
    processes = [start("backup", store, tmp_path / "copy") for _ in range(3)]
    ends = [process.end() for process in processes]
    assert [status for status, _ in ends].count(0) == 1, ends
    for status, line in ends:
        assert status in (0, 3, 4) and line.count(b"\n") == bool(status), ends
    assert kvtwist("check", tmp_path / "copy").stdout.startswith(b"fine")
    assert not list(tmp_path.rglob("*partial*"))


# --- signals ----------------------------------------------------------------------------------------------------------


@contextmanager
def import_from_a_pipe(place: Path, stack: ExitStack) -> Iterator[Started]:
    """Waits for the rest of a line."""
    os.mkfifo(place / "pipe")
    process = start("import", "--create", place / "new", place / "pipe")
    pipe = writer_of(place / "pipe", process)
    stack.callback(os.close, pipe)
    os.write(pipe, HEADER[:9])
    wait_until(lambda: in_pipe(pipe) == 0, process)
    yield process
    assert not (place / "new").exists()


@contextmanager
def restore_from_a_pipe(place: Path, stack: ExitStack) -> Iterator[Started]:
    """Waits for the rest of a file."""
    os.mkfifo(place / "pipe")
    process = start("restore", place / "pipe", place / "new")
    pipe = writer_of(place / "pipe", process)
    stack.callback(os.close, pipe)
    os.write(pipe, b"man")
    wait_until(lambda: in_pipe(pipe) == 0, process)
    yield process
    assert [path.name for path in place.iterdir() if path.name.startswith("new")] == []


@contextmanager
def export_to_a_pipe(place: Path, stack: ExitStack) -> Iterator[Started]:
    """Waits for a reader."""
    os.mkfifo(place / "pipe")
    pipe = os.open(place / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    stack.callback(os.close, pipe)
    store = filled(place / "data", 3000, b"x" * 200)
    process = start("export", store, place / "pipe", "--force")
    wait_until(lambda: in_pipe(pipe) > 0, process)
    yield process


@contextmanager
def export_to_standard_output(place: Path, stack: ExitStack) -> Iterator[Started]:
    """Waits for a reader."""
    ours, theirs = os.pipe()
    stack.callback(os.close, ours)
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4096)
    process = start("export", filled(place / "data", 25, b"x" * 200), stdout=theirs)
    os.close(theirs)
    wait_until(lambda: in_pipe(ours) == 4096, process)
    yield process


@contextmanager
def backup_from_a_server(place: Path, stack: ExitStack) -> Iterator[Started]:
    """Waits for the rest of an answer."""
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    process = start("backup", url, place / "new")
    connection = stack.enter_context(listener.accept()[0])
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10240\r\nKvtwist-Revision: 1\r\n\r\nman")
    wait_until(lambda: any(place.glob("new*/*")), process)
    yield process
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("waiting", "number"),
    [
        (import_from_a_pipe, signal.SIGTERM),
        (restore_from_a_pipe, signal.SIGHUP),
        (export_to_a_pipe, signal.SIGTERM),
        (export_to_standard_output, signal.SIGINT),
        (backup_from_a_server, signal.SIGTERM),
    ],
)
def test_a_signal_ends_what_waits(
    tmp_path: Path,
    waiting: Callable[[Path, ExitStack], Iterator[Started]],
    number: signal.Signals,
) -> None:
    with ExitStack() as stack, waiting(tmp_path, stack) as process:  # type: ignore[attr-defined]
        process.send_signal(number)
        assert process.end() == (128 + number, b"kvtwist: interrupted\n")


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """As for a command that a script has put into the background, and that is not the terminal's."""
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); from kvtwist.cli.main import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "import", "--create", str(tmp_path / "new")],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=clean_environment({}),
    ) as process:
        assert process.stdin is not None
        process.stdin.write(HEADER)
        process.stdin.flush()
        until((tmp_path / "new" / "lock").exists)
        process.send_signal(signal.SIGINT)
        process.stdin.write(b'{"end":0}\n')
        process.stdin.close()
        assert process.wait(PATIENCE) == 0


def in_pipe(descriptor: int) -> int:
    """How many bytes are in a pipe."""
    (count,) = struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)))
    return int(count)
