#!/usr/bin/env python
"""
How long does a server keep other clients waiting?

The largest requests that its limits allow, and some that they do not, are sent one after the other, while another
process asks for one key every ten milliseconds. Its longest wait is how long the reactor was held, together with all
else that the machine did.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

sys.path.pop(0)  # bench/, whose http.py would hide the library's
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from attrs import Factory, define

from bench import command
from bench.checkout import Checkout
from bench.command import say
from bench.figures import mebi, milli, short
from bench.phases import Metric, Phase, compare
from bench.probe import probing
from bench.servers import Client, Server, in_parallel, start_kvtwist

MIB: Final = 2**20
AFTERWARDS: Final = 0.3
"""Seconds after an answer that belong to its request: the work that follows on it."""

METRICS: Final = (
    Metric("wait", "longest GET of another client, ms", milli, drawn=True),
    Metric("wait_p99", "99th percentile, ms", milli),
    Metric("seconds", "the request itself, s", short),
    Metric("grown", "memory it took, MiB", mebi, drawn=True),
)


@define
class LargeRequests:
    """
    Sends them to one server.

    :ivar keys: in a PUT of many.
    :ivar changes: to stage for a commit.
    :ivar mebibytes: in the largest values.
    """

    server: Server
    keys: int
    changes: int
    mebibytes: int
    phases: list[Phase] = Factory(list)

    def send(self) -> None:
        """All of them."""
        small = {b"k%06d" % number: b"%d" % number for number in range(self.keys)}
        large = dict.fromkeys(small, b'"' + b"v" * (self.mebibytes * MIB // self.keys - 15) + b'"')
        self._ask(f"PUT /keys, {self.keys:,} new keys", "PUT", "/keys", _object(small))
        self._ask("the same again", "PUT", "/keys", _object(small))
        self._ask(f"the same keys, {self.mebibytes} MiB", "PUT", "/keys", _object(large))
        self._ask("PUT /keys, 600,000 keys", "PUT", "/keys", _object({b"%d" % at: b"1" for at in range(600_000)}))
        arrays = b"[" + b"[]," * (self.mebibytes * MIB // 8) + b"1]"
        self._ask(f"PUT /keys/k, {len(arrays) / MIB:.1f} MiB of []", "PUT", "/keys/k", arrays)
        puts = (b'{"put":{"key":"t%06d","value":"%d"}}' % (number, number) for number in range(self.keys))
        self._ask(f"POST /v1/txn, {self.keys:,} puts", "POST", "/v1/txn", _transaction(puts))
        gets = (b'{"get":{"key":"t%06d"}}' % number for number in range(self.keys))
        self._ask(f"POST /v1/txn, {self.keys:,} gets", "POST", "/v1/txn", _transaction(gets))
        self._stage(self.changes, b"1")
        self._ask(f"POST /commit, {self.changes:,} changes or all that fit", "POST", "/commit")
        self._stage(60, b'"' + b"v" * (self.mebibytes * MIB // 8) + b'"')
        self._ask(f"POST /commit, 60 values, {60 * self.mebibytes // 8} MiB", "POST", "/commit")
        self._ask("DELETE /keys?filter=k$", "DELETE", "/keys?filter=k$")
        self._ask("GET /keys", "GET", "/keys")
        self._ask("DELETE /keys", "DELETE", "/keys")

    def _ask(self, title: str, method: str, path: str, body: bytes = b"") -> None:
        time.sleep(AFTERWARDS)
        self.server.forget_peak()
        resident = self.server.resident()
        began = time.monotonic()
        status, _ = Client(self.server.port).request(method, path, body)
        ended = time.monotonic()
        time.sleep(AFTERWARDS)
        figures = {"seconds": ended - began, "grown": self.server.peak_resident() - resident}
        self.phases.append(Phase(f"{title}: {status}", began, ended + AFTERWARDS, figures))
        say(f"{title}: {status}, {ended - began:.2f} s")

    def _stage(self, count: int, value: bytes) -> None:
        """Stage so many changes; those for which there is no memory are refused."""

        def stage(client: Client, number: int) -> None:
            client.expect({200, 201, 507}, "POST", "/set", b'{"k%06d":%b}' % (number, value))

        in_parallel(self.server.port, 8, stage, range(count))


def _transaction(operations: Iterable[bytes]) -> bytes:
    return b'{"then":[' + b",".join(operations) + b"]}"


def _object(members: dict[bytes, bytes]) -> bytes:
    return b"{" + b",".join(b'"%b":%b' % member for member in members.items()) + b"}"


def main() -> None:
    """Exit with a traceback when the server fails."""
    options = command.parser(__doc__, rounds=3).parse_args()

    def measure(checkout: Checkout, place: Path) -> Iterator[Phase]:
        with Server(place) as server:
            start_kvtwist(server, checkout, "--profile", "keys", "--profile", "transactional", "--profile", "native")
            requests = LargeRequests(server, *((500, 200, 1) if options.quick else (10_000, 100_000, 8)))
            with probing(server.port) as probe:
                requests.send()
        yield from (phase.with_waits(probe) for phase in requests.phases)

    with command.run(options) as run:
        compare(run, "holds", METRICS, measure)


if __name__ == "__main__":
    main()
