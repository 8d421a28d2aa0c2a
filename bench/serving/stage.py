"""What a run has: a place, two cores, servers that are started when they are needed, and rounds by turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from subprocess import SubprocessError

from attrs import Factory, define, field

from bench.results import Result
from bench.serving import checks, contenders, data, scripts
from bench.serving.contenders import Contender, Place
from bench.serving.prepared import prepared
from bench.serving.processes import CannotStart, Server
from bench.serving.speech import LSFR, Ask, Speech
from bench.serving.wrk import CONNECTIONS, WrongAnswer, wrk
from bench.workload import VALUE_BYTES

Figures = dict[str, float]
Measure = Callable[[int], Figures]
"""Measures something in a round, which it is told the number of."""

SAMPLE = 100
"""How many keys are read back."""
_BREATH_SECONDS = 0.2
_STEP = 37_000
"""How far from each other rounds begin in what was drawn."""


@define
class Stage:
    """
    :ivar entrants: who takes part, where there is a choice.
    :ivar cores: of the servers, and of those who ask them.
    """

    place: Path
    rounds: int
    seconds: int
    entrants: Sequence[Contender]
    cores: tuple[int, int]
    tell: Callable[[str], None]
    draws: data.Draws = field(init=False)
    _number: Iterator[int] = field(init=False, factory=count)
    _stores: dict[bool, Path] = Factory(dict)
    _readers: dict[str, Server] = Factory(dict)
    _closing: ExitStack = Factory(ExitStack)

    def __attrs_post_init__(self) -> None:
        self.draws = data.Draws(self.place)

    def close(self) -> None:
        """End every server that is still there."""
        self._closing.close()

    # --- servers --------------------------------------------------------------------------------------------------

    def fresh(self, loaded: bool | None = None, durable: bool = False) -> Place:
        """A place for a server: empty, or with all keys as text (`loaded` is False) or as JSON (True)."""
        directory = self.place / f"server-{next(self._number)}"
        directory.mkdir()
        store = None if loaded is None else self._store(loaded)
        return Place(directory, self.cores[0], store, durable)

    def _store(self, as_json: bool) -> Path:
        if as_json not in self._stores:
            self._stores[as_json] = prepared(self.place / ("store-json" if as_json else "store-text"), as_json)
        return self._stores[as_json]

    def reader(self, contender: Contender) -> Server:
        """One with all keys that nobody writes to, and that stays until the end."""
        if contender.name not in self._readers:
            server = contender.start(self.fresh(loaded=False))
            self._closing.callback(server.stop)
            self._readers[contender.name] = server
            self.check_reader(server, contender.speech)
            self.warm(server, contender.speech.get)
        return self._readers[contender.name]

    def kvtwist_reader(self) -> Server:
        """kvtwist as it is."""
        return self.reader(contenders.CONTENDERS["kvtwist"])

    def warmed(self, *options: str, variant: Sequence[str] = (), output: Path | None = None) -> Server:
        """Another kvtwist with all keys, which has done everything for the first time."""
        server = contenders.kvtwist(self.fresh(loaded=False), options, variant, output)
        with contenders.or_stopped(*server.processes):
            self.check_reader(server, LSFR)
            self.warm(server, LSFR.get)
        return server

    @contextmanager
    def servers(self, started: Mapping[str, Callable[[], Server]]) -> Iterator[dict[str, Server | str]]:
        """Several, for a while; in place of one that does not start, why it did not."""
        with ExitStack() as closing:
            found: dict[str, Server | str] = {}
            for name, start in started.items():
                try:
                    found[name] = server = start()
                except (CannotStart, WrongAnswer, SubprocessError, OSError, RuntimeError) as error:
                    found[name] = f"{type(error).__name__}: {error}"
                else:
                    if server not in self._readers.values():
                        closing.callback(server.stop)
            yield found

    # --- rounds ---------------------------------------------------------------------------------------------------

    def interleaved(self, scenario: str, measures: Mapping[str, Measure | str]) -> Iterator[Result]:
        """All measures in every round; who comes first changes. A text is why there is nothing to measure."""
        names = list(measures)
        for number in range(self.rounds):
            turn = number % len(names) if names else 0
            for name in [*names[turn:], *names[:turn]]:
                figures, error = _tried(measures[name], number)
                told = f"FAILED: {error}" if error else _summary(figures)
                self.tell(f"{number + 1}/{self.rounds}  {scenario:14} {name:28} {told}")
                yield Result(data.KEYS, number, scenario, name, figures, error)

    # --- asking ---------------------------------------------------------------------------------------------------

    def ask(self, server: Server, script: str, connections: int = CONNECTIONS) -> Figures:
        """What wrk says of it, and the processor's time that a request took the server."""
        before = server.cpu_seconds()
        figures = wrk(server.address, script, self.seconds, self.place, self.cores[1], connections)
        taken = server.cpu_seconds() - before
        figures["cpu_seconds"] = taken / figures["requests"]
        figures["core_share"] = taken / figures["seconds"]
        # wrk has left with requests in flight. A peer has been seen to give their answers to whoever came next.
        time.sleep(_BREATH_SECONDS)
        return figures

    def start_of(self, number: int) -> int:
        """Where a round begins in what was drawn."""
        return number * _STEP % data.DRAWS

    def hot(self, server: Server, speech: Speech = LSFR) -> Measure:
        """GET of one key."""

        def measure(number: int) -> Figures:
            figures = self.ask(server, scripts.constant(speech.get, data.key(42)))
            self._check(server, speech, figures)
            return figures

        return measure

    def random(
        self, server: Server, speech: Speech = LSFR, connections: int = CONNECTIONS, pause_ms: int = 0
    ) -> Measure:
        """GET of any key."""

        def measure(number: int) -> Figures:
            script = scripts.drawn([speech.get], self.draws, self.start_of(number), pause_ms)
            figures = self.ask(server, script, connections)
            self._check(server, speech, figures)
            return figures

        return measure

    def _check(self, server: Server, speech: Speech, figures: Figures) -> None:
        """:raises WrongAnswer: it has sent too little, or does not hold what it should."""
        if figures["bytes"] < figures["requests"] * VALUE_BYTES:
            raise WrongAnswer(f"{figures['bytes']:.0f} bytes are not {figures['requests']:.0f} values")
        checks.read_back(server.address, speech, [42, *self.draws.order[: SAMPLE // 10]])

    def writes(self, server: Server, speech: Speech) -> Measure:
        """Writes of any key. What was acknowledged is then looked for."""
        asks = (speech.put, *speech.after)

        def measure(number: int) -> Figures:
            start = self.start_of(number)
            figures = self.ask(server, scripts.drawn(asks, self.draws, start))
            for ask in speech.after:
                checks.put(server.address, [ask], 0)
            # The last ones may have been on their way when wrk ended.
            written = self.draws.drawn(start, int(figures["requests"]) // len(asks) - CONNECTIONS)
            checks.read_back(server.address, speech, written[:: max(len(written) // SAMPLE, 1)])
            return figures

        return measure

    def check_reader(self, server: Server, speech: Speech) -> None:
        """What it should hold, before it is measured. :raises WrongAnswer: it does not."""
        checks.read_back(server.address, speech, [42, *self.draws.order[: SAMPLE - 1]])

    def warm(self, server: Server, ask: Ask) -> None:
        """Let it do everything for the first time."""
        wrk(server.address, scripts.drawn([ask], self.draws, 0), 1, self.place, self.cores[1])


def _tried(measure: Measure | str, number: int) -> tuple[Figures, str | None]:
    if isinstance(measure, str):
        return {}, measure
    try:
        return measure(number), None
    except (WrongAnswer, CannotStart, SubprocessError, OSError) as error:
        return {}, f"{type(error).__name__}: {error}"


def _summary(figures: Figures) -> str:
    parts = [f"{figures['rate']:>9,.0f}/s"] if "rate" in figures else []
    parts += [f"{figures['cpu_seconds'] * 1e6:6.1f} µs of the processor"] if "cpu_seconds" in figures else []
    parts += [f"p99 {figures['p99'] * 1e3:.2f} ms"] if "p99" in figures else []
    parts += [f"{figures['throughput'] / 1e9:6.2f} GB/s"] if "throughput" in figures else []
    parts += [f"{figures['connection_bytes'] / 1024:6.1f} KiB a connection"] if "connection_bytes" in figures else []
    return "  ".join(parts)
