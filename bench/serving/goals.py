"""What the server is meant to reach, and whether it did."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Final

from attrs import frozen

from bench.results import Results, Spread
from bench.serving.data import KEYS

Reached = Callable[[Results], float | None]


def figure(results: Results, scenario: str, name: str, which: str) -> Spread | None:
    """A median over the rounds, and how far they were apart."""
    return results.spread(KEYS, scenario, name, which)


def ratio(results: Results, scenario: str, name: str, base: str, which: str = "rate") -> Spread | None:
    """
    Of two, round by round: in each round they were measured within seconds, and a slow minute was slow for both.

    None where there is no round with both.
    """
    above = {result.round: result.figures for result in results.of(KEYS, scenario, name)}
    below = {result.round: result.figures for result in results.of(KEYS, scenario, base)}
    shares = [
        above[number][which] / below[number][which]
        for number in above.keys() & below.keys()
        if which in above[number] and below[number].get(which)
    ]
    return Spread(statistics.median(shares), min(shares), max(shares)) if shares else None


@frozen
class Goal:
    """
    :ivar at_least: whether more is better.
    :ivar form: how the figure is written.
    :ivar paid: the same by what requests cost the processor, which other work on the machine changes less.
    """

    text: str
    wanted: float
    reached: Reached
    at_least: bool = True
    form: str = "{:.2f}x"
    paid: Reached | None = None

    def is_met(self, value: float) -> bool:
        """Whether that is enough."""
        return value >= self.wanted if self.at_least else value <= self.wanted


def _beside(text: str, wanted: float, scenario: str, name: str, base: str) -> Goal:
    """How many times as many requests as another."""
    return Goal(
        text,
        wanted,
        lambda results: _median(ratio(results, scenario, name, base)),
        paid=lambda results: _median(ratio(results, scenario, base, name, "cpu_seconds")),
    )


def _cost(text: str, name: str, base: str) -> Goal:
    """Which share of the requests is lost to something."""
    return Goal(
        text,
        0.10,
        lambda results: _lost(ratio(results, "observed", name, base)),
        at_least=False,
        form="{:.1%}",
        paid=lambda results: _lost(ratio(results, "observed", base, name, "cpu_seconds")),
    )


def _late(text: str, scenario: str, base: str) -> Goal:
    """How many times as long the slowest in a hundred take as with another."""
    return Goal(
        text,
        1.0,
        lambda results: _median(ratio(results, scenario, "kvtwist", base, "p99")),
        at_least=False,
    )


def _figure(scenario: str, name: str, which: str, unit: float) -> Reached:
    def reached(results: Results) -> float | None:
        found = figure(results, scenario, name, which)
        return None if found is None else found.median / unit

    return reached


def _median(found: Spread | None) -> float | None:
    return None if found is None else found.median


def _lost(found: Spread | None) -> float | None:
    return None if found is None else 1 - found.median


_GETS: Final = (("get-hot", "GET of one key"), ("get-random", "GET of any key"))
_PEERS: Final = (("webdis", "webdis + redis", 1.2), ("uvicorn", "uvicorn", 1.8), ("klein", "stock Klein", 8.0))

GOALS: Final = (
    *(
        _beside(f"{what}, beside {title}", wanted, scenario, "kvtwist", name)
        for scenario, what in _GETS
        for name, title, wanted in _PEERS
    ),
    _beside("durable PUT, beside webdis + redis", 1.1, "put-durable", "kvtwist", "webdis"),
    _beside("durable PUT, beside etcd", 3.0, "put-durable", "kvtwist", "etcd"),
    _late("p99 of GET of any key, a calm server, beside webdis + redis", "latency-calm", "webdis"),
    _late("p99 of GET of any key, 8 connections, beside webdis + redis", "latency-8", "webdis"),
    _late("p99 of GET of any key, 64 connections, beside webdis + redis", "get-random", "webdis"),
    _late("p99 of GET of any key, 64 connections, beside uvicorn", "get-random", "uvicorn"),
    _late("p99 of durable PUT, beside webdis + redis", "put-durable", "webdis"),
    _late("p99 of durable PUT, beside etcd", "put-durable", "etcd"),
    *(
        _beside(f"{name}, beside lsfr", 0.5, "dialects", name, f"lsfr {name.split()[1]}")
        for name in ("transactional PUT", "history PUT", "keys PUT", "keys GET")
    ),
    Goal(
        "an idle connection",
        20,
        _figure("idle", "kvtwist", "connection_bytes", 1024),
        at_least=False,
        form="{:.1f} KiB",
    ),
    Goal("GET of 1 MiB", 1, _figure("large", "GET one key", "throughput", 1e9), form="{:.2f} GB/s"),
    Goal("PUT of 1 MiB, beside the disk", 0.5, lambda results: _median(ratio(results, "large", "PUT", "the disk"))),
    *(
        _cost(f"access log, {name}, costs", name, "off")
        for name in ("common to a file", "json to a file", "common to /dev/null", "json to /dev/null")
    ),
    _cost("metrics cost", "off", "off, no metrics"),
)
