"""
Test processes that start fast, as copies of one that has imported everything: imports take most of a start.

A copy has its own arguments, environment, directory, streams and reactor, and ends as any process does. Real starts are
tested in `tests/system/test_plugin.py` and `test_kvtwist_command.py`.

A request goes to the template over a socket, together with the streams. The template forks a watcher; the watcher forks
the process, waits for it, and reports its number and its exit status.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

MAINS: Final = {"twistd": "twisted.scripts.twistd:run", "kvtwist": "kvtwist.cli.main:main"}
PATIENCE: Final = 60.0
"""Seconds after which an event that tests wait for counts as never coming. Nothing is measured with it."""
PRELOADED: Final = ("kvtwist.tap", "kvtwist.cli.main", "twisted.scripts.twistd", "twisted.plugins.kvtwist_plugin")


class Process:
    """
    A copy of the template, which behaves like a `subprocess.Popen`.

    :ivar pid: its number.
    """

    def __init__(
        self,
        main: str,
        arguments: Sequence[str],
        streams: tuple[int, int, int],
        cwd: str | Path,
        environment: Mapping[str, str],
    ) -> None:
        """
        :param main: one of `MAINS`.
        :param streams: descriptors of its standard input, output and error.
        """
        request = {"main": main, "argv": [main, *arguments], "cwd": str(cwd), "environment": dict(environment)}
        self._report, theirs = os.pipe()
        try:
            socket.send_fds(_template(), [json.dumps(request).encode()], [*streams, theirs])
        finally:
            os.close(theirs)
        self._status: int | None = None
        self.pid = self._read_number()

    def poll(self) -> int | None:
        """The exit status; None while it runs."""
        if self._status is None and self._has_ended(0):
            self._status = self._read_number()
            os.close(self._report)
        return self._status

    def wait(self, timeout: float | None = None) -> int:
        """:raises subprocess.TimeoutExpired: it runs on after that many seconds."""
        if self._status is None and not self._has_ended(timeout):
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        status = self.poll()
        assert status is not None
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _has_ended(self, timeout: float | None) -> bool:
        report = select.poll()
        report.register(self._report, select.POLLIN)
        return bool(report.poll(None if timeout is None else timeout * 1000))

    def _read_number(self) -> int:
        data = os.read(self._report, 4)
        assert len(data) == 4, "the template has died"
        return int.from_bytes(data, "big", signed=True)


def run(
    main: str, *arguments: str, cwd: str | Path = ".", environment: Mapping[str, str], text: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run a process to its end; :param text: what it reads from standard input."""
    with TemporaryFile() as given, TemporaryFile() as output, TemporaryFile() as errors:
        given.write(text)
        given.seek(0)
        streams = (given.fileno(), output.fileno(), errors.fileno())
        process = Process(main, arguments, streams, Path(cwd).absolute(), environment)
        try:
            status = process.wait(PATIENCE)
        finally:
            process.kill()
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess([main, *arguments], status, output.read(), errors.read())


class Started(Process):
    """A process whose standard error can be read when it has ended."""

    def __init__(self, main: str, *arguments: str, environment: Mapping[str, str], stdout: int | None = None) -> None:
        """:param stdout: a descriptor; None for nothing."""
        errors, theirs = os.pipe()
        self._errors = open(errors, "rb")  # noqa: SIM115 # closed when it has been read
        with open(theirs, "wb"), open(os.devnull, "r+b") as nothing:
            streams = (nothing.fileno(), nothing.fileno() if stdout is None else stdout, theirs)
            super().__init__(main, arguments, streams, Path.cwd(), environment)

    def end(self) -> tuple[int, bytes]:
        """Wait for its end; returns its status, and what it has written to standard error."""
        with self._errors:
            return self.wait(PATIENCE), self._errors.read()


@functools.cache
def _template() -> socket.socket:
    """The socket of the template, which ends when the socket is closed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        descriptor = theirs.fileno()
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(descriptor)],
            stdin=subprocess.DEVNULL,
            pass_fds=[descriptor],
            cwd=Path(__file__).parents[2],
        )
    atexit.register(lambda: (ours.close(), process.wait()))
    return ours


# --- in the template --------------------------------------------------------------------------------------------------


def serve(requests: socket.socket) -> Callable[[], object]:
    """Fork a process for each request; in it, return the function to call."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, 2**20, 4)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                """A watcher whose process has ended."""
        if not message:
            raise SystemExit
        if os.fork() == 0:
            requests.close()
            *streams, report = descriptors
            pid = os.fork()
            if pid == 0:
                os.close(report)
                return become(json.loads(message), streams)
            _watch(pid, streams, report)
        for descriptor in descriptors:
            os.close(descriptor)


def _watch(pid: int, streams: list[int], report: int) -> None:
    for descriptor in streams:
        os.close(descriptor)
    os.write(report, pid.to_bytes(4, "big", signed=True))
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.write(report, status.to_bytes(4, "big", signed=True))
    os._exit(0)


def become(request: dict, streams: list[int]) -> Callable[[], object]:
    """Turn this process into the one that was requested; returns its `main`."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin = TextIOWrapper(open(0, "rb", closefd=False))  # noqa: SIM115
    unbuffered = bool(request["environment"].get("PYTHONUNBUFFERED"))
    sys.stdout = TextIOWrapper(open(1, "wb", 0 if unbuffered else -1, closefd=False), write_through=unbuffered)  # noqa: SIM115
    sys.stderr = TextIOWrapper(open(2, "wb", 0, closefd=False), errors="backslashreplace", write_through=True)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    renew_reactor()
    sys.argv = request["argv"]
    module, _, function = MAINS[request["main"]].partition(":")
    main: Callable[[], object] = getattr(importlib.import_module(module), function)
    return main


def renew_reactor() -> None:
    """Make a reactor in the place of the template's, whose descriptors all processes would share."""
    old = sys.modules.pop("twisted.internet.reactor")
    del sys.modules["twisted.internet"].reactor
    new = importlib.import_module("twisted.internet.reactor")
    for module in list(sys.modules.values()):
        if vars(module).get("reactor") is old:
            vars(module)["reactor"] = new


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for module in PRELOADED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # so that a copy shares their memory until it writes to them
    serve(socket.socket(fileno=int(sys.argv[1])))()
