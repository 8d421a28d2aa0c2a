"""The scenarios of kvtwist alone: dialects, large values, idle connections, logs and metrics, tricks and limits."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from bench.results import Result
from bench.serving import checks, data, scripts
from bench.serving.contenders import kvtwist, or_stopped
from bench.serving.holder import held
from bench.serving.processes import Server
from bench.serving.speech import HISTORY, KEYS_DIALECT, LSFR, TRANSACTIONAL, Speech
from bench.serving.stage import Figures, Measure, Stage
from bench.serving.variant import FLOORS, TRICKS, WRITE_TRICKS

IDLE: Final = 10_000
FEW_LARGE: Final = 8
LARGE_WRITERS: Final = 8


def dialects(stage: Stage) -> Iterator[Result]:
    """Each dialect's own requests beside those of lsfr."""
    writers = {"lsfr": LSFR, "transactional": TRANSACTIONAL, "history": HISTORY, "keys": KEYS_DIALECT}
    readers: dict[str, tuple[Speech, Callable[[], Server]]] = {
        "lsfr": (LSFR, stage.kvtwist_reader),
        "keys": (KEYS_DIALECT, lambda: kvtwist(stage.fresh(loaded=True), ["--profile", "keys"])),
    }
    starts: dict[str, Callable[[], Server]] = {f"{name} GET": start for name, (_, start) in readers.items()}
    for name in writers:
        # `history` would be in memory if no directory were named.
        starts[f"{name} PUT"] = partial(lambda name: kvtwist(stage.fresh(), ["--profile", name]), name)
    with stage.servers(starts) as servers:
        measures: dict[str, Measure | str] = {}
        for name, speech in writers.items():
            measures[f"{name} PUT"] = _of(servers[f"{name} PUT"], partial(stage.writes, speech=speech))
        for name, (speech, _) in readers.items():
            measures[f"{name} GET"] = _of(servers[f"{name} GET"], partial(stage.random, speech=speech))
        yield from stage.interleaved("dialects", measures)


def idle(stage: Stage) -> Iterator[Result]:
    """Many connections that do nothing: what they take, and what they take away from those that do something."""

    def measure(number: int) -> Figures:
        server = stage.warmed()
        try:
            hot = stage.hot(server)
            before = hot(number)["rate"]
            resident = server.resident()
            with held(server.address[1], IDLE, stage.cores[1]):
                taken = server.resident() - resident
                figures = hot(number)
            after = hot(number)["rate"]
        finally:
            server.stop()
        return {**figures, "connection_bytes": taken / IDLE, "rate_alone": (before + after) / 2}

    yield from stage.interleaved("idle", {"kvtwist": measure})


def large(stage: Stage) -> Iterator[Result]:
    """Values of a mebibyte, and what the disk takes of as large pieces."""

    def start() -> Server:
        server = kvtwist(stage.fresh())
        with or_stopped(*server.processes):
            for index in range(FEW_LARGE):
                checks.put(server.address, [LSFR.put], index, data.large_value)
        return server

    with stage.servers({"reader": start, "writer": start}) as servers:
        measures: dict[str, Measure | str] = {
            "GET one key": _of(servers["reader"], partial(_large, stage, "get", 1)),
            "GET of 8 keys": _of(servers["reader"], partial(_large, stage, "get", FEW_LARGE)),
            "PUT": _of(servers["writer"], partial(_large, stage, "put", FEW_LARGE)),
            "the disk": lambda number: _disk(stage.place / "disk-probe", stage.seconds),
        }
        yield from stage.interleaved("large", measures)


def _large(stage: Stage, what: str, keys: int, server: Server) -> Measure:
    ask = LSFR.get if what == "get" else LSFR.put

    def measure(number: int) -> Figures:
        if keys == 1:
            script = scripts.constant(ask, data.key(0))
        else:
            script = scripts.few(ask, stage.draws, range(keys), data.LARGE_BYTES)
        figures = stage.ask(server, script, LARGE_WRITERS) if what == "put" else stage.ask(server, script)
        checks.read_back(server.address, LSFR, range(FEW_LARGE), data.large_value)
        return {**figures, "throughput": figures["rate"] * data.LARGE_BYTES}

    return measure


def _disk(path: Path, seconds: float) -> Figures:
    """Plain writes behind one another, each of them synced."""
    piece = data.large_value(0)
    count = 0
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        started = time.perf_counter()
        while time.perf_counter() - started < seconds:
            os.write(descriptor, piece)
            os.fdatasync(descriptor)
            count += 1
        took = time.perf_counter() - started
    finally:
        os.close(descriptor)
        path.unlink()
    return {"rate": count / took, "throughput": count * len(piece) / took}


def observed(stage: Stage) -> Iterator[Result]:
    """What it costs to watch the server."""
    null = Path(os.devnull)
    starts: dict[str, Callable[[], Server]] = {"off": stage.kvtwist_reader}
    for form in ("common", "json"):
        starts[f"{form} to /dev/null"] = partial(stage.warmed, "--access-log", form, output=null)
        starts[f"{form} to a file"] = partial(stage.warmed, "--access-log", form)
    starts["off, no metrics"] = partial(stage.warmed, variant=["unobserved"])
    yield from _hot(stage, "observed", starts)


def tricks(stage: Stage) -> Iterator[Result]:
    """Reads without each of the tricks that make them fast, and without all of them."""
    starts: dict[str, Callable[[], Server]] = {"kvtwist": stage.kvtwist_reader}
    starts.update({name: partial(stage.warmed, variant=[name]) for name in TRICKS})
    starts["all"] = partial(stage.warmed, variant=list(TRICKS))
    yield from _hot(stage, "tricks", starts)


def write_tricks(stage: Stage) -> Iterator[Result]:
    """Durable writes without each of the tricks that make them fast, or even."""
    variants: dict[str, list[str]] = {"kvtwist": [], **{name: [name] for name in WRITE_TRICKS}}
    starts: dict[str, Callable[[], Server]] = {
        name: partial(lambda variant: kvtwist(stage.fresh(), (), variant), variant)
        for name, variant in variants.items()
    }
    with stage.servers(starts) as servers:
        measures = {name: _of(server, partial(stage.writes, speech=LSFR)) for name, server in servers.items()}
        yield from stage.interleaved("write-tricks", measures)


def floors(stage: Stage) -> Iterator[Result]:
    """What would be left if HTTP cost next to nothing, and if the handlers and the store cost nothing either."""

    def start(variant: list[str], loaded: bool | None) -> Server:
        return kvtwist(stage.fresh(loaded), (), variant)

    starts: dict[str, Callable[[], Server]] = {}
    for name, variant in {"kvtwist": [], **{name: [name] for name in FLOORS}}.items():
        starts[f"{name} GET"] = partial(start, variant, False)
        if name != "nothing":
            starts[f"{name} PUT"] = partial(start, variant, None)
    with stage.servers(starts) as servers:
        measures: dict[str, Measure | str] = {}
        for name, server in servers.items():
            what: Callable[[Server], Measure] = partial(stage.writes, speech=LSFR) if "PUT" in name else stage.hot
            measures[name] = _of(server, partial(_unchecked, stage) if "nothing" in name else what)
        yield from stage.interleaved("floors", measures)


def _unchecked(stage: Stage, server: Server) -> Measure:
    """GET of one key, of a server that does not look at what it is asked."""
    return lambda number: stage.ask(server, scripts.constant(LSFR.get, data.key(42)))


def _hot(stage: Stage, scenario: str, starts: Mapping[str, Callable[[], Server]]) -> Iterator[Result]:
    with stage.servers(starts) as servers:
        yield from stage.interleaved(scenario, {name: _of(server, stage.hot) for name, server in servers.items()})


def _of(server: Server | str, measure: Callable[[Server], Measure]) -> Measure | str:
    return measure(server) if isinstance(server, Server) else server
