"""Results as Markdown: a few tables to a number of keys, a contender to a column."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from attrs import frozen

from bench.phases import PHASES
from bench.results import Results, Spread

NOTHING: Final = "-"
TITLES: Final = {phase.name: phase.title for phase in PHASES}


@frozen
class Row:
    """
    :ivar figure: which figure of the phase; divided by `per`, if there is one.
    :ivar compared: whether cells also say how they relate to kvtwist's.
    """

    phase: str
    figure: str
    form: Callable[[float], str]
    title: str = ""
    per: str | None = None
    compared: bool = False


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _seconds(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _microseconds(value: float) -> str:
    return f"{value * 1e6:.1f}"


def _times(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _mebibytes(value: float) -> str:
    return f"{value / 2**20:,.0f}"


def _percent(value: float) -> str:
    return f"{value * 100:.1f} %"


RATES: Final = tuple(
    Row(phase, "rate", _whole, compared=True)
    for phase in (
        "load-sequential",
        "load-random",
        "put-single",
        "update-sequential",
        "update-uniform",
        "update-skewed",
        "get-one",
        "get-hot",
        "get-uniform",
        "scan",
        "prefix",
    )
)

PROCESSOR: Final = tuple(Row(row.phase, "cpu_seconds", _microseconds, per="count", compared=True) for row in RATES)

DURATIONS: Final = (
    Row("restart", "seconds", _seconds, compared=True),
    Row("recover", "seconds", _seconds, compared=True),
    Row("recover", "rate", _whole, "records replayed a second"),
    Row("checkpoint", "seconds", _seconds, compared=True),
    Row("clear", "seconds", _seconds, compared=True),
)

WRITTEN: Final = tuple(
    Row(phase, figure, _times, f"{TITLES[phase]}{suffix}", "user_bytes")
    for phase in ("load-sequential", "load-random", "update-sequential", "update-uniform", "update-skewed")
    for figure, suffix in (("bytes_written", ""), ("device_bytes", ": the disk"))
)

SPACE: Final = (
    Row("load-random", "memory_base", _mebibytes, "resident before the store is opened, MiB"),
    *(
        Row(phase, "memory_peak", _mebibytes, f"resident at most: {TITLES[phase]}, MiB")
        for phase in ("load-random", "get-uniform", "update-uniform", "scan", "checkpoint", "recover", "clear")
    ),
    Row("update-uniform", "memory_own", _mebibytes, "resident without mapped files, after uniform updates, MiB"),
    Row("load-random", "disk_bytes", _times, "disk after the random load, times raw data", "raw_bytes"),
    Row("update-uniform", "disk_bytes", _times, "disk after uniform updates, times raw data", "raw_bytes"),
)

HELD: Final = ("load-sequential", "load-random", "update-uniform", "checkpoint", "scan", "expiry", "clear")
_HOLDS: Final = ("hold_p50", "hold_p99", "hold_p999", "hold_max")


def report(results: Results) -> str:
    """All tables."""
    lines = [f"{results.version}, {results.date}: `{results.how}`  ", f"{results.machine}", ""]
    for size in results.sizes():
        lines += [f"### {size:,} keys", ""]
        lines += _table(results, size, "operations per second (more is better)", RATES)
        lines += _table(results, size, "processor time of an operation, µs, all threads (less is better)", PROCESSOR)
        lines += _table(results, size, "seconds (less is better)", DURATIONS)
        lines += _table(results, size, "bytes written per byte of user data", WRITTEN)
        lines += _table(results, size, "memory and disk", SPACE)
        lines += _holds(results, size)
    if results.errors():
        lines += ["### What failed", ""]
        lines += [f"- {e.size:,} keys, {TITLES[e.phase]}, {e.contender}: {e.error}" for e in results.errors()]
        lines.append("")
    return "\n".join(lines)


def _table(results: Results, size: int, title: str, rows: tuple[Row, ...]) -> Iterator[str]:
    lines = [
        (row.title or TITLES[row.phase], [_cell(results, size, contender, row) for contender in results.contenders()])
        for row in rows
    ]
    yield from _lines(results, title, lines)


def _lines(results: Results, title: str, lines: list[tuple[str, list[str]]]) -> Iterator[str]:
    """A table without the lines that have nothing to say, if any is left."""
    kept = [(name, cells) for name, cells in lines if set(cells) != {NOTHING}]
    if not kept:
        return
    columns = results.contenders()
    yield f"| {title} | {' | '.join(columns)} |"
    yield f"|---|{'---:|' * len(columns)}"
    for name, cells in kept:
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""


def _cell(results: Results, size: int, contender: str, row: Row) -> str:
    found = results.spread(size, row.phase, contender, row.figure, row.per)
    if found is None:
        return NOTHING
    first = results.contenders()[0]
    base = results.spread(size, row.phase, first, row.figure, row.per)
    ratio = f" ({_times(found.median / base.median)}x)" if row.compared and base and first != contender else ""
    return row.form(found.median) + _plus_minus(found) + ratio


def _plus_minus(found: Spread) -> str:
    return f" ±{found.share * 100:.0f} %" if found.share >= 0.005 else ""


def _holds(results: Results, size: int) -> Iterator[str]:
    title = "reactor thread held, ms: p50 / p99 / p99.9 / longest (time in holds over 20 ms)"
    contenders = results.contenders()
    lines = [(TITLES[phase], [_hold(results, size, phase, contender) for contender in contenders]) for phase in HELD]
    yield from _lines(results, title, lines)


def _hold(results: Results, size: int, phase: str, contender: str) -> str:
    found = [results.spread(size, phase, contender, name) for name in _HOLDS]
    share = results.spread(size, phase, contender, "hold_long_share")
    if share is None:
        return NOTHING
    times = " / ".join(f"{one.median * 1000:.1f}" for one in found if one)
    return f"{times} ({_percent(share.median)})"
