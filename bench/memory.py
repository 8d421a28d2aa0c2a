#!/usr/bin/env python
"""
What does a server with a million keys take of memory and disk, under a memory limit?

It is loaded, read, updated and listed over HTTP, restarted, and half of its keys expire at one moment. All listings are
compared, byte by byte, with what was acknowledged.
"""

from __future__ import annotations

import hashlib
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

sys.path.pop(0)  # bench/, whose http.py would hide the library's
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import command, machine, probe
from bench.checkout import Checkout
from bench.command import say
from bench.data import RECORD_BYTES, Data
from bench.figures import mebi, milli, short
from bench.phases import Metric, Phase, compare
from bench.probe import probing
from bench.servers import Client, Server, WrongAnswer, in_parallel, start_kvtwist

AT_ONCE: Final = 100
"""Keys in a PUT of the load."""
EXPIRY_PATIENCE: Final = 180
"""Seconds after which the server must not count expired records any more."""
_RECORDS: Final = re.compile(rb'^kvtwist_store_records\{keyspace="data"\} ([0-9.e+]+)$', re.MULTILINE)

METRICS: Final = (
    Metric("seconds", "s", short),
    Metric("resident", "resident at most, MiB", mebi, drawn=True),
    Metric("disk", "disk, MiB", mebi, drawn=True),
    Metric("disk_ratio", "disk, times raw data", short),
    Metric("wait", "longest GET of another client, ms", milli, drawn=True),
    Metric("wait_p99", "99th percentile, ms", milli),
)


class Load:
    """What one server goes through. It keeps which write of each record was the last to be acknowledged."""

    def __init__(self, server: Server, records: Data) -> None:
        self._server = server
        self._records = records
        self._generations = bytearray(records.size)
        """By record; 0 for a record that is not there."""
        self.phases: list[Phase] = []

    def with_all_records(self) -> None:
        """Before the restart."""
        self._phase("load", self._load)
        self._phase("reads", self._read)
        self._phase("updates", self._update)
        self._phase("GET /keys", self._list)

    def with_half_of_them(self) -> None:
        """After the restart."""
        self._phase("GET /keys after a restart", self._list)
        seconds = 0.8 * self.phases[0].figures["seconds"] + 3
        expiry = time.time() + seconds
        self._phase("half are written to expire", lambda: self._write_expiring(expiry))
        time.sleep(max(expiry + 1 - time.time(), 0))
        self._phase("their expiry", self._expire)
        self._phase("GET /keys after that", self._list)

    def _phase(self, name: str, act: Callable[[], None]) -> None:
        self._server.forget_peak()
        began = time.monotonic()
        act()
        ended = time.monotonic()
        raw = (self._records.size - self._generations.count(0)) * RECORD_BYTES
        disk = machine.disk_bytes(self._server.place / "data")
        figures = {"seconds": ended - began, "resident": self._server.peak_resident(), "disk": disk}
        self.phases.append(Phase(name, began, ended, {**figures, "disk_ratio": disk / raw}))
        say(f"{name}: {ended - began:.1f} s, {mebi(figures['resident'])} MiB")

    def _load(self) -> None:
        batches = [range(at, min(at + AT_ONCE, self._records.size)) for at in range(0, self._records.size, AT_ONCE)]
        in_parallel(self._server.port, 4, lambda client, batch: self._put(client, batch, 1, "/keys"), batches)

    def _write_expiring(self, expiry: float) -> None:
        def put(client: Client, batch: range) -> None:
            self._put(client, batch, 3, f"/keys?expire_in={max(round(expiry - time.time()), 1)}")

        step = 2 * AT_ONCE
        batches = [range(at, min(at + step, self._records.size), 2) for at in range(0, self._records.size, step)]
        in_parallel(self._server.port, 4, put, batches)

    def _put(self, client: Client, batch: range, generation: int, path: str) -> None:
        members = b",".join(self._member(index, generation) for index in batch)
        client.expect({200, 201}, "PUT", path, b"{%b}" % members)
        for index in batch:
            self._generations[index] = generation

    def _member(self, index: int, generation: int) -> bytes:
        return b'"%b":"%b"' % (self._records.key(index), self._records.value(index, generation))

    def _path(self, index: int) -> str:
        return f"/keys/{self._records.key(index).decode()}"

    def _read(self) -> None:
        def read(client: Client, index: int) -> None:
            expected = b'"%b"' % self._records.value(index, self._generations[index])
            found = client.expect({200}, "GET", self._path(index))
            if found != expected:
                raise WrongAnswer(f"{self._path(index)}: {found[:40]!r}")

        in_parallel(self._server.port, 8, read, list(self._records.uniform(1, self._records.size // 10)))

    def _update(self) -> None:
        def update(client: Client, index: int) -> None:
            client.expect({200}, "PUT", self._path(index), b'"%b"' % self._records.value(index, 2))
            self._generations[index] = 2

        in_parallel(self._server.port, 8, update, list(self._records.uniform(2, self._records.size // 10)))

    def _list(self) -> None:
        expected = hashlib.sha256(b"{")
        for index, generation in enumerate(self._generations):
            if generation:
                expected.update(self._member(index, generation) + b",")
        expected.update(b'"~probe":' + probe.VALUE + b"}")
        if Client(self._server.port).digest("/keys") != expected.hexdigest():
            raise WrongAnswer("GET /keys does not show what was acknowledged")

    def _expire(self) -> None:
        for index in range(0, self._records.size, 2):
            self._generations[index] = 0
        left = self._records.size // 2 + 1  # with the probe's key
        client, end = Client(self._server.port), time.monotonic() + EXPIRY_PATIENCE
        while (count := self._counted(client)) != left:
            if time.monotonic() > end:
                raise WrongAnswer(f"{count} records are counted where {left} are left")
            time.sleep(0.2)

    def _counted(self, client: Client) -> int:
        found = _RECORDS.search(client.expect({200}, "GET", "/metrics"))
        return int(float(found[1])) if found else -1


def main() -> None:
    """Exit with a traceback when anything was lost."""
    parser = command.parser(__doc__, rounds=1)
    parser.add_argument("--records", type=int, default=1_000_000, help="[1000000]")
    parser.add_argument("--memory-limit", default="32MiB", metavar="SIZE", help="of the server [32MiB]")
    options = parser.parse_args()

    def measure(checkout: Checkout, place: Path) -> Iterator[Phase]:
        server = Server(place)
        load = Load(server, Data(2_000 if options.quick else options.records))
        for part in (load.with_all_records, load.with_half_of_them):
            with server:
                start_kvtwist(server, checkout, "--profile", "keys", "--memory-limit", options.memory_limit)
                done = len(load.phases)
                with probing(server.port) as probe:
                    part()
                yield from (phase.with_waits(probe) for phase in load.phases[done:])

    with command.run(options) as run:
        compare(run, "memory", METRICS, measure)


if __name__ == "__main__":
    main()
