"""A real `twistd kvstore` process, as an operator starts it: for signals, restarts, and raw bytes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import kvtwist
from tests.support import template
from tests.support.template import PATIENCE, Process

TWISTD: Final = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")
"""Twisted's own script, whose place in the file system depends on how it was installed."""

_NOT_A_DAEMON: Final = ("-n", "--pidfile=", "kvstore", "--port", "0")
_LISTENING: Final = r"kvtwist is serving .* on (?:https?://(?P<host>[^: ]+):(?P<port>[0-9]+)|unix:)"
_SOURCES: Final = Path(kvtwist.__file__).resolve().parents[1]


def twistd_after(code: str) -> tuple[str, ...]:
    """A twistd in whose process a statement is run first."""
    return *TWISTD[:2], f"{code}; {TWISTD[2]}"


def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds; :raises AssertionError: when it never does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "the condition never holds"
        time.sleep(0.001)  # leaves the processor to the process that makes it hold


class Server:
    """
    A running server process.

    :ivar address: where it listens, if that is not a socket in the file system.
    """

    address: tuple[str, int]

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        twistd: Sequence[str] | None = None,
    ) -> None:
        """
        Start it and return once it listens.

        :param twistd: a command that does what twistd does; without one, a copy of `tests.support.template` does it.
        :raises AssertionError: when it ends before it listens.
        """
        directory.mkdir(parents=True, exist_ok=True)
        command = [*_NOT_A_DAEMON, "--working-dir", str(directory), *arguments]
        self._lines: list[str] = []
        self._ended = False
        self._news = threading.Condition()
        self._errors = directory.with_name(directory.name + ".stderr")
        output, theirs = os.pipe()
        self._output = open(output, "rb")  # noqa: SIM115 # closed when it has ended
        with open(os.devnull, "rb") as nothing, open(theirs, "wb"), self._errors.open("ab") as errors:
            streams = (nothing.fileno(), theirs, errors.fileno())
            place, variables = directory.parent, clean_environment(environment or {})
            self._process: Process | subprocess.Popen[bytes]
            if twistd is None:
                self._process = Process("twistd", command, streams, place, variables)
            else:
                stdin, stdout, stderr = streams
                self._process = subprocess.Popen(
                    [*twistd, *command], stdin=stdin, stdout=stdout, stderr=stderr, cwd=place, env=variables
                )
        self._reader = threading.Thread(target=self._read, name="server output", daemon=True)
        self._reader.start()
        try:
            listening = self.wait_for(_LISTENING)
        except AssertionError:
            self.kill()
            raise
        host = (listening["host"] or "").replace("localhost", "127.0.0.1")
        self.address = (host, int(listening["port"] or 0))

    def _read(self) -> None:
        for line in self._output:
            with self._news:
                self._lines.append(line.decode("utf-8", "replace").rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    @property
    def lines(self) -> int:
        """How many lines it has written to standard output so far."""
        return len(self._lines)

    def wait_for(self, pattern: str, after: int = 0) -> re.Match[str]:
        """
        Wait for a line of output.

        :param after: how many lines to skip.
        :raises AssertionError: when the process ends without it.
        """
        with self._news:
            self._news.wait_for(lambda: self._ended or self._find(pattern, after) is not None, PATIENCE)
            found = self._find(pattern, after)
        assert found is not None, f"no line with {pattern!r} in:\n{self.output()}\n{self.errors()}"
        return found

    def _find(self, pattern: str, after: int) -> re.Match[str] | None:
        return next((found for line in self._lines[after:] if (found := re.search(pattern, line))), None)

    def output(self) -> str:
        """What it has written to standard output so far."""
        return "\n".join(self._lines)

    def errors(self) -> str:
        """What it has written to standard error so far."""
        return self._errors.read_text("utf-8", "replace")

    def is_alive(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        return self._end_with(signal.SIGTERM)

    def kill(self) -> int:
        """SIGKILL, which leaves the server no moment to tidy up."""
        return self._end_with(signal.SIGKILL)

    def _end_with(self, how: signal.Signals) -> int:
        if self.is_alive():
            self._process.send_signal(how)
        try:
            status = self._process.wait(PATIENCE)
        finally:
            self._process.kill()
        self._reader.join(PATIENCE)
        self._output.close()
        return status


@contextmanager
def running(
    directory: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    twistd: Sequence[str] | None = None,
) -> Iterator[Server]:
    """A server for as long as the block lasts; then it is killed."""
    server = Server(directory, *arguments, environment=environment, twistd=twistd)
    try:
        yield server
    finally:
        server.kill()


def finished(
    place: Path, *arguments: str, environment: Mapping[str, str] | None = None, twistd: Sequence[str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run twistd in a directory, to its end."""
    variables = clean_environment(environment or {})
    if twistd is None:
        ended = template.run("twistd", *arguments, cwd=place, environment=variables)
        return subprocess.CompletedProcess(ended.args, ended.returncode, ended.stdout.decode(), ended.stderr.decode())
    return subprocess.run(
        [*twistd, *arguments],
        cwd=place,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def refused(
    directory: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    twistd: Sequence[str] | None = None,
) -> str:
    """
    Start a server that cannot start; returns its error line.

    :raises AssertionError: it started after all, or it did not end with status 1 and one clear line.
    """
    process = finished(
        directory.parent,
        *_NOT_A_DAEMON,
        "--working-dir",
        str(directory),
        *arguments,
        environment=environment,
        twistd=twistd,
    )
    assert process.returncode == 1, process
    assert "Traceback" not in process.stdout + process.stderr, process
    lines = process.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("kvtwist: "), process
    return lines[0]


def clean_environment(more: Mapping[str, str]) -> dict[str, str]:
    """Our environment, without variables that would configure the server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KVTWIST_", "DATA_DIR"))}
    paths = [str(_SOURCES), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", **more}
