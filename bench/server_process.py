"""A real `twistd kvstore`, as an operator starts it, and what it takes while it runs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench import ROOT
from bench.proc import Memory, forget_peak, memory

PATIENCE: Final = 120.0
"""Seconds for a start or a stop."""
SAMPLE_SECONDS: Final = 0.1

_TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=")
_LISTENING = re.compile(r"kvtwist is serving .* on http://localhost:([0-9]+)")


class ServerFailed(Exception):
    """It did not start, or not stop, or ended of its own accord."""


class Server:
    """
    :ivar address: where it listens.
    :ivar start_seconds: from starting the process until it listened.
    """

    def __init__(self, directory: Path, options: Sequence[str]) -> None:
        """Start it and wait until it listens; :raises ServerFailed: when it does not."""
        self._log = directory.with_name(directory.name + ".log")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("KVTWIST_")}
        command = [*_TWISTD, "kvstore", "--profile", "keys", "--port", "0", "--working-dir", str(directory), *options]
        started = time.monotonic()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=directory.parent,
                env={**environment, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            )
        try:
            self.address = self._listening(started + PATIENCE)
        except ServerFailed:
            self.kill()
            raise
        self.start_seconds = time.monotonic() - started
        self.memory = MemoryWatch(self._process.pid)

    def _listening(self, end: float) -> tuple[str, int]:
        while time.monotonic() < end and self._process.poll() is None:
            found = _LISTENING.search(self.log())
            if found:
                return "127.0.0.1", int(found[1])
            time.sleep(0.01)
        raise ServerFailed(f"the server did not start:\n{self.log()[-2000:]}")

    def log(self) -> str:
        """What it has written."""
        return self._log.read_text("utf-8", "replace")

    def stop(self) -> float:
        """SIGTERM; returns the seconds until it was gone. :raises ServerFailed: it did not go, or not well."""
        self.memory.stop()
        started = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise ServerFailed(f"the server did not stop within {PATIENCE:.0f} s") from None
        finally:
            self.kill()
        if status not in (0, -signal.SIGTERM):  # twistd ends by the signal that it was sent, when all is done
            raise ServerFailed(f"the server ended with status {status}:\n{self.log()[-2000:]}")
        return time.monotonic() - started

    def kill(self) -> None:
        """Leave nothing behind."""
        self._process.kill()
        self._process.wait()


class MemoryWatch:
    """Looks at a process ten times a second."""

    def __init__(self, process: int) -> None:
        self._process = process
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._most = Memory(0, 0, 0)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """Forget what was."""
        forget_peak(self._process)
        with self._lock:
            self._most = memory(self._process)

    def most(self) -> Memory:
        """The most of each since `begin`: as seen, but for the peak, which the kernel keeps and misses nothing."""
        self._look()
        with self._lock:
            return self._most

    def _look(self) -> None:
        now = memory(self._process)
        with self._lock:
            most = self._most
            self._most = Memory(
                max(now.resident, most.resident), max(now.peak, most.peak), max(now.anonymous, most.anonymous)
            )

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            try:
                self._look()
            except OSError:
                return  # it is gone

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()
