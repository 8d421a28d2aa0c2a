"""Servers as processes of their own, each held to a core, and what the kernel says of them."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bench import ROOT
from bench.proc import memory

PATIENCE: Final = 60.0
"""Seconds for a start or a stop."""
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class CannotStart(Exception):
    """It did not start."""


def free_port() -> int:
    """One on which nobody listens now."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port: int = asked.getsockname()[1]
        return port


class Process:
    """:param output: where its standard output goes; else to its log, with its errors."""

    def __init__(
        self,
        command: Sequence[str],
        core: int,
        log: Path,
        environment: Mapping[str, str] | None = None,
        output: Path | None = None,
    ) -> None:
        self._log = log
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("KVTWIST_", "ETCD_"))}
        with log.open("wb") as errors, (output or log).open("ab") as written:
            self._process = subprocess.Popen(
                ["taskset", "-c", str(core), *command],
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=errors,
                cwd=log.parent,
                env={**kept, "PYTHONPATH": str(ROOT), **(environment or {})},
                preexec_fn=many_files,
            )

    def wait_for(self, port: int) -> None:
        """Until it listens there; :raises CannotStart: it does not."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        said = self._log.read_text("utf-8", "replace").strip().splitlines()
        raise CannotStart(f"it does not listen: {said[-1] if said else 'and does not say why'}")

    def cpu_seconds(self) -> float:
        """Of the processor, in all of its threads, until now."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident(self) -> int:
        """Bytes in memory."""
        return memory(self._process.pid).resident

    def stop(self) -> None:
        """Ask it to end, and see to it."""
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def many_files() -> None:
    """As many open ones as may be, for a process that begins."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Server:
    """
    What answers HTTP, with its helper.

    :ivar processes: those that work on a request, the one that speaks HTTP first.
    """

    def __init__(self, port: int, processes: Sequence[Process]) -> None:
        self.address = ("127.0.0.1", port)
        self.processes = processes

    def cpu_seconds(self) -> float:
        """Of all processes."""
        return sum(process.cpu_seconds() for process in self.processes)

    def resident(self) -> int:
        """Bytes in memory of the one that speaks HTTP."""
        return self.processes[0].resident()

    def stop(self) -> None:
        """End all of them."""
        for process in self.processes:
            process.stop()
