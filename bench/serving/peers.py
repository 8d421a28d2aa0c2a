"""The scenarios in which kvtwist stands beside its peers: reads, durable writes, and how long one request takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from bench.results import Result
from bench.serving.contenders import Contender
from bench.serving.processes import Server
from bench.serving.speech import Speech
from bench.serving.stage import Measure, Stage

FEW: Final = 8
PAUSE_MS: Final = 4
"""With 8 connections that is close to 2,000 requests a second, however fast the answers are."""
LATENCY_ENTRANTS: Final = ("kvtwist", "webdis")


def get_hot(stage: Stage) -> Iterator[Result]:
    """One key."""
    yield from _reads(stage, "get-hot", _readers(stage), stage.hot)


def get_random(stage: Stage) -> Iterator[Result]:
    """Any of all keys."""
    yield from _reads(stage, "get-random", _readers(stage), stage.random)


def latency(stage: Stage) -> Iterator[Result]:
    """How long a GET of any key takes: with much to do, with less, and at a pace that both can keep."""
    entrants = [entrant for entrant in _readers(stage) if entrant.name in LATENCY_ENTRANTS]
    yield from _reads(stage, "latency-64", entrants, stage.random)
    yield from _reads(stage, "latency-8", entrants, partial(stage.random, connections=FEW))
    calm = partial(stage.random, connections=FEW, pause_ms=PAUSE_MS)
    yield from _reads(stage, "latency-calm", entrants, calm)


def put_durable(stage: Stage) -> Iterator[Result]:
    """Any of all keys, safe before it is answered, into stores that begin empty."""
    entrants = [entrant for entrant in stage.entrants if "write" in entrant.can]

    def start(entrant: Contender) -> Server:
        return entrant.start(stage.fresh(durable=True))

    yield from _measured(stage, "put-durable", entrants, start, stage.writes)


def _readers(stage: Stage) -> list[Contender]:
    return [entrant for entrant in stage.entrants if "read" in entrant.can]


def _reads(
    stage: Stage, scenario: str, entrants: list[Contender], measure: Callable[[Server, Speech], Measure]
) -> Iterator[Result]:
    yield from _measured(stage, scenario, entrants, stage.reader, measure)


def _measured(
    stage: Stage,
    scenario: str,
    entrants: list[Contender],
    start: Callable[[Contender], Server],
    measure: Callable[[Server, Speech], Measure],
) -> Iterator[Result]:
    with stage.servers({entrant.name: partial(start, entrant) for entrant in entrants}) as servers:
        measures: dict[str, Measure | str] = {}
        for entrant in entrants:
            server = servers[entrant.name]
            measures[entrant.name] = measure(server, entrant.speech) if isinstance(server, Server) else server
        yield from stage.interleaved(scenario, measures)
