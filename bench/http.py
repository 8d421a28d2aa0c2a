#!/usr/bin/env python
"""
How fast is the server beside others that answer HTTP?

Starts each server on one processor and wrk on another. Every answer's status is checked, and before and after each
measurement the values of a sample of keys. A transaction of several puts counts as several requests, and its time to an
answer is that of all of them.
"""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Final

sys.path.pop(0)  # bench/, whose http.py would hide the library's
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from attrs import frozen

from bench import command
from bench.command import Run, say
from bench.data import VALUE_BYTES, Data
from bench.figures import Figures, Panel, micro, milli, rounds, table, whole
from bench.peers import PEERS, Peer, Request, kvtwist, transactions
from bench.servers import Client, Server, WrongAnswer
from bench.wrk import Replay, wrk

SAMPLE: Final = 100
"""Keys whose values are compared."""
DRAWS: Final = 100_000
"""Requests in the file that wrk repeats."""
STEP: Final = 37_000
"""How far apart in that file two rounds begin."""


@frozen
class Scenario:
    """:ivar writes: durable PUTs into a store that began empty; else GETs from a full one."""

    title: str
    connections: int
    writes: bool = False
    one_key: bool = False


SCENARIOS: Final = (
    Scenario("GET of one key, 64 connections", 64, one_key=True),
    Scenario("GET of any key, 64 connections", 64),
    Scenario("GET of any key, 1 connection", 1),
    Scenario("durable PUT of any key, 64 connections", 64, writes=True),
    Scenario("durable PUT of any key, 1 connection", 1, writes=True),
)
METRICS: Final = (
    ("rate", "requests/s", whole),
    ("cpu_seconds", "processor time of a request, µs", micro),
    ("p99", "99th percentile of the time to an answer, ms", milli),
)


class Measurement:
    """All servers of a run, and what they are asked."""

    def __init__(self, run: Run, peers: dict[str, Peer], closing: ExitStack) -> None:
        self._place = run.place
        self._peers = peers
        self._closing = closing
        self._quick = run.quick
        self._seconds = 1 if run.quick else 5
        self._records = Data(1_000 if run.quick else 100_000)
        self._draws = list(self._records.uniform(1, 1_000 if run.quick else DRAWS))
        cores = sorted(os.sched_getaffinity(0))
        self._cores = (cores[0], cores[1]) if len(cores) > 1 else (None, None)
        self._servers: dict[tuple[str, bool], Server] = {}
        self._replays: dict[tuple[str, bool], Replay] = {}

    def start(self, name: str, writes: bool) -> None:
        """Start a peer's server for reads or for writes unless it runs, and let it do all for the first time."""
        if (name, writes) in self._servers:
            return
        peer = self._peers[name]
        server = Server(self._place / f"{name}-{'writes' if writes else 'reads'}", self._cores[0])
        self._servers[name, writes] = self._closing.enter_context(server)
        peer.start(server, None if writes else self._records)
        groups = self._groups(peer)
        requests = (self._put(peer, group) if writes else peer.get(self._records.key(*group)) for group in groups)
        self._replays[name, writes] = Replay.write(server.place / "requests", requests)
        if not writes:
            self._check(peer, server, self._draws[:SAMPLE])
        if not self._quick:
            wrk(server.port, self._replays[name, writes], 1, 64, self._cores[1])

    def _groups(self, peer: Peer) -> list[list[int]]:
        """The records of each request in the file that wrk repeats."""
        return [self._draws[at : at + peer.records] for at in range(0, len(self._draws), peer.records)]

    def _put(self, peer: Peer, group: list[int]) -> Request:
        records = [(self._records.key(index), self._records.value(index)) for index in group]
        return peer.put(*records[0]) if peer.put_many is None else peer.put_many(records)

    def measure(self, name: str, scenario: Scenario, number: int) -> dict[str, float]:
        """:raises WrongAnswer: a request failed, or a value is not what it should be."""
        peer, server = self._peers[name], self._servers[name, scenario.writes]
        groups = self._groups(peer)
        first = number * STEP % len(groups)
        hot = peer.get(self._records.key(self._draws[0]))[1]
        what = hot if scenario.one_key else self._replays[name, scenario.writes]
        before = server.cpu_seconds()
        figures = wrk(server.port, what, self._seconds, scenario.connections, self._cores[1], first)
        figures["cpu_seconds"] = (server.cpu_seconds() - before) / figures["requests"] / peer.records
        figures["rate"] *= peer.records
        if not scenario.writes and figures["bytes"] < figures["requests"] * VALUE_BYTES:
            raise WrongAnswer(f"{name}: {figures['bytes']:.0f} bytes cannot hold {figures['requests']:.0f} values")
        answered = min(int(figures["requests"]) - scenario.connections, len(groups))
        sent = [index for group in [*groups[first + 1 :], *groups[: first + 1]][:answered] for index in group]
        self._check(peer, server, sent[:: max(len(sent) // SAMPLE, 1)] if scenario.writes else self._draws[:SAMPLE])
        return figures

    def _check(self, peer: Peer, server: Server, indexes: list[int]) -> None:
        client = Client(server.port)
        for index in indexes:
            request = peer.get(self._records.key(index))
            answer = client.expect({200}, *request)
            if peer.found(self._records.value(index)) not in answer:
                raise WrongAnswer(f"{request[1]}: {answer[:80]!r}")


def contenders(run: Run) -> dict[str, Peer]:
    """Those that are chosen and installed."""
    peers = {name: kvtwist(checkout) for name, checkout in run.checkouts.items()}
    for name, checkout in run.checkouts.items():
        if not (checkout.root / "kvtwist/profiles/native.py").exists():
            continue
        suffix = "" if name == "kvtwist" else f"-{name}"
        peers[f"native{suffix}"] = kvtwist(checkout, "native")
        peers[f"txn{suffix}"] = transactions(checkout)
    peers |= PEERS
    found = {name: peers[name] for name in run.chosen(list(peers))}
    for name, peer in list(found.items()):
        if missing := peer.missing():
            say(f"skipped {name}: {', '.join(missing)} is not installed")
            del found[name]
    return found


def measure(run: Run) -> tuple[Figures, dict[str, Peer]]:
    """All scenarios in all rounds."""
    figures, peers = Figures(), contenders(run)
    with ExitStack() as closing:
        measurement = Measurement(run, peers, closing)
        for scenario in SCENARIOS:
            names = [name for name, peer in peers.items() if (peer.durable if scenario.writes else peer.reads)]
            for name in names:
                measurement.start(name, scenario.writes)
            for number, order in enumerate(rounds(run.rounds, names)):
                for name in order:
                    found = measurement.measure(name, scenario, number)
                    figures.add(scenario.title, name, **found)
                    say(f"{scenario.title}, {name}: {found['rate']:,.0f} requests/s, {micro(found['cpu_seconds'])} µs")
    return figures, peers


def main() -> None:
    """Exit with a traceback when an answer is wrong."""
    options = command.parser(__doc__, rounds=5).parse_args()
    if shutil.which("wrk") is None:
        sys.exit("bench/http.py needs wrk; run: apt-get install wrk")
    with command.run(options) as run:
        figures, peers = measure(run)
        lines = [
            [
                f"{scenario.title}: {unit}",
                *(figures.cell(scenario.title, name, metric, form, "kvtwist") for name in peers),
            ]
            for metric, unit, form in METRICS
            for scenario in SCENARIOS
        ]
        titles = [peer.title + (", old" if name.endswith("old") else "") for name, peer in peers.items()]
        panels = [
            Panel(f"{scenario.title}: requests/s", whole, figures.bars({n: (scenario.title, n, "rate") for n in peers}))
            for scenario in SCENARIOS
        ]
        run.report("http", table(["", *titles], lines), panels)


if __name__ == "__main__":
    main()
