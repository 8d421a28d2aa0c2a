"""Servers as processes, and a client that checks what they answer."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Final, TypeVar

import psutil

from bench import machine
from bench.checkout import Checkout

HOST: Final = "127.0.0.1"
PATIENCE: Final = 120.0
"""Seconds that a start or a stop may take."""

T = TypeVar("T")


class ServerFailed(Exception):
    """A server did not start, did not stop, or ended with an error."""


class WrongAnswer(Exception):
    """A server answered something else than it should."""


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """
    A server and its helper, if it has one. As a context manager it ends them.

    :param place: its working directory, which is made.
    :param core: the processor that its processes are held to.
    :ivar port: of the process that was started last, which is the one that answers.
    """

    port: int

    def __init__(self, place: Path, core: int | None = None) -> None:
        self.place = place
        self._core = core
        self._processes: list[psutil.Popen] = []
        place.mkdir(exist_ok=True)

    def start(self, command: Sequence[str], port: int, **variables: str) -> None:
        """
        Start a process, and wait until it listens on the port.

        :param variables: to set in its environment.
        :raises ServerFailed: it does not listen.
        """
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("KVTWIST_", "ETCD_"))}
        log = self.place / f"{Path(command[0]).name}.log"
        with log.open("ab") as output:
            process = psutil.Popen(
                command,
                cwd=self.place,
                env={**inherited, **variables},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=None if self._core is None else self._pin,
            )
        self._processes.append(process)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and process.poll() is None:
            try:
                socket.create_connection((HOST, port), 1).close()
            except OSError:
                time.sleep(0.01)
            else:
                self.port = port
                return
        self.kill()
        raise ServerFailed(f"{command[0]} does not listen:\n{log.read_text('utf-8', 'replace')[-2000:]}")

    def _pin(self) -> None:
        assert self._core is not None
        os.sched_setaffinity(0, {self._core})

    def cpu_seconds(self) -> float:
        """Processor time of all threads of all its processes until now."""
        times = [process.cpu_times() for process in self._processes]
        return sum(one.user + one.system for one in times)

    def resident(self) -> int:
        """Bytes that are resident now."""
        return int(self._processes[-1].memory_info().rss)

    def forget_peak(self) -> None:
        """Count `peak_resident` from now on."""
        machine.forget_peak(self._processes[-1].pid)

    def peak_resident(self) -> int:
        """The most bytes that were resident."""
        return machine.peak_resident(self._processes[-1].pid)

    def stop(self) -> None:
        """Ask all processes to end; :raises ServerFailed: one does not, or ends with an error."""
        try:
            while self._processes:
                process = self._processes[-1]
                process.terminate()
                status = process.wait(PATIENCE)
                if status not in (0, -signal.SIGTERM):
                    raise ServerFailed(f"{process.args[0]} ended with status {status}; see its log")
                self._processes.pop()
        finally:
            self.kill()

    def kill(self) -> None:
        """End all processes."""
        while self._processes:
            process = self._processes.pop()
            process.kill()
            process.wait()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self.stop()
        else:
            self.kill()


def start_kvtwist(server: Server, checkout: Checkout, *options: str) -> None:
    """Start `twistd kvstore` as run.sh does, on a free port and the directory `data` in the server's place."""
    port = free_port()
    twistd = [checkout.python, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=", "kvstore"]
    server.start([*twistd, "--port", str(port), "--working-dir", "data", *options], port, PYTHONPATH=str(checkout.root))


class Client:
    """One keep-alive connection."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection(HOST, port, timeout=600)

    def request(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Status and body."""
        self._connection.request(method, path, body or None)
        response = self._connection.getresponse()
        return response.status, response.read()

    def expect(self, statuses: Container[int], method: str, path: str, body: bytes = b"") -> bytes:
        """The body; :raises WrongAnswer: the status is not one of those."""
        status, answer = self.request(method, path, body)
        if status not in statuses:
            raise WrongAnswer(f"{method} {path}: {status} {answer[:100]!r}")
        return answer

    def digest(self, path: str) -> str:
        """The SHA-256 of the body of a GET, which may be larger than memory."""
        self._connection.request("GET", path)
        response = self._connection.getresponse()
        digest = hashlib.sha256(b"" if response.status == 200 else b"%d" % response.status)
        while piece := response.read(2**18):
            digest.update(piece)
        return digest.hexdigest()


def in_parallel(port: int, connections: int, act: Callable[[Client, T], object], subjects: Sequence[T]) -> None:
    """Call `act` with every subject, over so many connections at a time."""

    def work(first: int) -> None:
        client = Client(port)
        for subject in subjects[first::connections]:
            act(client, subject)

    with ThreadPoolExecutor(connections) as pool:
        list(pool.map(work, range(connections)))
