"""
Another client, in a process of its own, that asks for one key every ten milliseconds: how long do others wait?

A request that is due while the last one still waits is counted as waiting, too, and not sent: a server that answers
nobody for a second shows as a hundred late answers and not as one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Final

from bench import ROOT
from bench.heartbeat import percentile
from bench.servers import HOST, Client, WrongAnswer

PERIOD: Final = 0.010
PATH: Final = "/keys/~probe"
"""Sorts after all keys of `bench.data`."""
VALUE: Final = b'"probe"'


class Probe:
    """Made by `probing`. Its samples are there when that has ended: (due on time.monotonic, seconds waited)."""

    def __init__(self) -> None:
        self._samples: Sequence[tuple[float, float]] = ()

    def read(self, text: str) -> None:
        """Take what the process has printed; :raises WrongAnswer: an answer had a status other than 200 and 404."""
        *self._samples, statuses = json.loads(text)
        if not set(statuses) <= {200, 404}:  # 404 after a request that deletes everything
            raise WrongAnswer(f"{PATH}: {statuses}")

    def waits(self, began: float, ended: float) -> dict[str, float]:
        """
        Seconds of the longest wait (`wait`) and of one in a hundred (`wait_p99`) between two moments.

        Empty if no request was due between them.
        """
        waits = [wait for due, wait in self._samples if began <= due < ended]
        return {"wait": max(waits), "wait_p99": percentile(waits, 99)} if waits else {}


@contextmanager
def probing(port: int) -> Iterator[Probe]:
    """Ask that server all the while."""
    Client(port).expect({200, 201}, "PUT", PATH, VALUE)
    command = [sys.executable, "-m", "bench.probe", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    probe = Probe()
    try:
        process.stdout.readline()
        yield probe
        output, _ = process.communicate("", timeout=120)
        probe.read(output)
    finally:
        process.kill()
        process.wait()


def main(port: int) -> None:
    """Ask until standard input ends."""
    over = threading.Event()

    def wait_for_end() -> None:
        os.read(0, 1)  # not by sys.stdin, whose lock would hold up the end of the process
        over.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    samples: list[tuple[float, float]] = []
    statuses: set[int] = set()
    connection = HTTPConnection(HOST, port, timeout=100)
    due = time.monotonic()
    while not over.is_set():
        time.sleep(max(due - time.monotonic(), 0))
        sent = time.monotonic()
        connection.request("GET", PATH)
        response = connection.getresponse()
        response.read()
        if not statuses:
            print("started", flush=True)
        statuses.add(response.status)
        answered = time.monotonic()
        samples.append((due, answered - sent))
        due += PERIOD
        while due < answered:
            samples.append((due, answered - due))
            due += PERIOD
    json.dump([*samples, sorted(statuses)], sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]))
