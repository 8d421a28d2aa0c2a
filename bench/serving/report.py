"""What was measured over HTTP, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from bench.results import Results, Spread
from bench.serving.contenders import CONTENDERS
from bench.serving.goals import GOALS, figure, ratio

NOTHING: Final = "-"

SCENARIOS: Final = {
    "get-hot": "GET of one key",
    "get-random": "GET of any of 100,000 keys",
    "put-durable": "durable PUT of any of 100,000 keys",
}
LATENCIES: Final = {
    "latency-64": "64 connections, as fast as they can",
    "latency-8": "8 connections, as fast as they can",
    "latency-calm": "8 connections, about 2,000 requests a second",
}
DIALECTS: Final = {
    "lsfr PUT": "lsfr: PUT /kv/key",
    "history PUT": "history: PUT /key",
    "keys PUT": "keys: PUT /keys/key",
    "transactional PUT": "transactional: POST /set and POST /commit by turns",
    "lsfr GET": "lsfr: GET /kv/key",
    "keys GET": "keys: GET /keys/key",
}
TRICKS: Final = {
    "poller": "connections watched by an epoll of their own, in turns",
    "turns": "answers sent at the end of a turn, and not each at once",
    "routes": "routes in tables, and not through werkzeug",
    "deferreds": "handlers driven without Klein's wrapper, and no Deferred where nothing waits",
    "transport": "bytes sent to the socket at once, and not by the reactor",
    "heads": "heads of responses kept",
    "metrics": "metrics as sums, and not prometheus_client's own",
    "parser": "what llhttp says of a client's headers, remembered",
    "steps": "requests that have come as a whole read in one go, and not in steps",
    "records": "records kept ready, and not looked for in pages",
    "all": "all of them together",
}
WRITE_TRICKS: Final = {
    "poller": TRICKS["poller"],
    "turns": TRICKS["turns"],
    "deferreds": TRICKS["deferreds"],
    "steps": TRICKS["steps"],
    "threads": "jobs given to threads directly, and not by twisted.internet.threads",
    "collector": "what never goes away, kept out of the search for garbage",
}

FLOORS: Final = {
    "kvtwist GET": "GET of one key",
    "handler GET": "GET, next to nothing of HTTP: the same poller, dispatcher, handler, store and metrics",
    "nothing GET": "GET, the poller alone: the same answer to all that arrives",
    "kvtwist PUT": "durable PUT of any key",
    "handler PUT": "PUT, next to nothing of HTTP",
}


def report(results: Results) -> str:
    """All tables."""
    lines = [f"{results.version}, {results.date}: `{results.how}`  ", f"{results.machine}", ""]
    for part in (_goals, _peers, _latencies, _dialects, _tricks, _write_tricks, _floors, _observed, _large, _idle):
        lines += part(results)
    if results.errors():
        lines += ["### What failed", ""]
        lines += [f"- {e.phase}, {e.contender}, round {e.round + 1}: {e.error}" for e in results.errors()]
    return "\n".join(lines).rstrip() + "\n"


def _table(title: str, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> Iterator[str]:
    """Without the lines that have nothing to say, and none at all if none is left."""
    kept = [(name, cells) for name, cells in rows if set(cells) != {NOTHING}]
    if not kept or not columns:
        return
    yield f"| {title} | {' | '.join(columns)} |"
    yield f"|---|{'---:|' * len(columns)}"
    for name, cells in kept:
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""


def _goals(results: Results) -> Iterator[str]:
    rows = []
    for goal in GOALS:
        value = goal.reached(results)
        if value is None:
            continue
        wanted = ("at least " if goal.at_least else "at most ") + goal.form.format(goal.wanted)
        verdict = "met" if goal.is_met(value) else "**missed**"
        paid = None if goal.paid is None else goal.paid(results)
        cells = [wanted, goal.form.format(value), verdict, NOTHING if paid is None else goal.form.format(paid)]
        rows.append((goal.text, cells))
    yield from _table("goal", ["wanted", "measured", "", "by processor time"], rows)


def _peers(results: Results) -> Iterator[str]:
    names = [name for name in CONTENDERS if any(figure(results, scenario, name, "rate") for scenario in SCENARIOS)]
    titles = [CONTENDERS[name].title for name in names]
    for title, which, form in (
        ("requests a second, 64 connections (more is better)", "rate", _whole),
        ("processor time of a request, µs, server and helper (less is better)", "cpu_seconds", _microseconds),
    ):
        rows = [
            (text, [_beside(results, scenario, name, "kvtwist", which, form) for name in names])
            for scenario, text in SCENARIOS.items()
        ]
        yield from _table(title, titles, rows)
    shares = [
        (text, [_cell(figure(results, scenario, name, "core_share"), _percent) for name in names])
        for scenario, text in SCENARIOS.items()
    ]
    yield from _table("share of its core that the server had", titles, shares)


def _latencies(results: Results) -> Iterator[str]:
    names = [name for name in CONTENDERS if any(figure(results, one, name, "p50") for one in LATENCIES)]
    columns = [f"{CONTENDERS[name].title}: {what}" for name in names for what in ("p50 / p99 ms", "requests/s")]
    rows = []
    for scenario, text in LATENCIES.items():
        cells = []
        for name in names:
            found = [figure(results, scenario, name, which) for which in ("p50", "p99")]
            cells.append(" / ".join(_milliseconds(one.median) for one in found if one) or NOTHING)
            cells.append(_cell(figure(results, scenario, name, "rate"), _whole))
        rows.append((text, cells))
    yield from _table("GET of any key: how long it takes", columns, rows)


def _dialects(results: Results) -> Iterator[str]:
    rows = [
        (text, [_beside(results, "dialects", name, f"lsfr {name.split()[1]}", "rate", _whole)])
        for name, text in DIALECTS.items()
    ]
    yield from _table("dialects, 64 connections", ["requests/s (beside lsfr)"], rows)


def _tricks(results: Results) -> Iterator[str]:
    rows = []
    for name, text in TRICKS.items():
        cells = [_cell(figure(results, "tricks", name, "rate"), _whole)]
        found = ratio(results, "tricks", "kvtwist", name)
        cells.append(NOTHING if found is None else f"{found.median - 1:+.1%}{_apart(found)}")
        cells.append(_saved(figure(results, "tricks", "kvtwist", "cpu_seconds"), results, name))
        rows.append((text, cells))
    base = _cell(figure(results, "tricks", "kvtwist", "rate"), _whole)
    columns = ["requests/s without it", "what it buys", "processor time it saves, µs"]
    yield from _table(f"tricks: GET of one key, {base} requests/s with all of them", columns, rows)


def _write_tricks(results: Results) -> Iterator[str]:
    rows = []
    for name, text in WRITE_TRICKS.items():
        found = ratio(results, "write-tricks", "kvtwist", name)
        rows.append(
            (
                text,
                [
                    _cell(figure(results, "write-tricks", name, "rate"), _whole),
                    NOTHING if found is None else f"{found.median - 1:+.1%}{_apart(found)}",
                    _cell(figure(results, "write-tricks", name, "p99"), _milliseconds),
                ],
            )
        )
    rate = _cell(figure(results, "write-tricks", "kvtwist", "rate"), _whole)
    p99 = _cell(figure(results, "write-tricks", "kvtwist", "p99"), _milliseconds)
    columns = ["requests/s without it", "what it buys", "p99 without it, ms"]
    yield from _table(f"tricks: durable PUT of any key, {rate} requests/s and p99 {p99} ms with all", columns, rows)


def _saved(base: Spread | None, results: Results, name: str) -> str:
    found = figure(results, "tricks", name, "cpu_seconds")
    return NOTHING if found is None or base is None else f"{(found.median - base.median) * 1e6:+.1f}"


def _floors(results: Results) -> Iterator[str]:
    rows = []
    for name, text in FLOORS.items():
        cells = [_beside(results, "floors", name, f"kvtwist {name.split()[1]}", "rate", _whole)]
        cells.append(_cell(figure(results, "floors", name, "cpu_seconds"), _microseconds))
        rows.append((text, cells))
    yield from _table("what would be left", ["requests/s (beside kvtwist)", "processor time of each, µs"], rows)


def _observed(results: Results) -> Iterator[str]:
    names = list(dict.fromkeys(r.contender for r in sorted(results.results, key=_round) if r.phase == "observed"))
    rows = [(name, [_beside(results, "observed", name, "off", "rate", _whole)]) for name in names]
    yield from _table("access log: GET of one key", ["requests/s (beside off)"], rows)


def _round(result: object) -> int:
    return getattr(result, "round", 0)


def _large(results: Results) -> Iterator[str]:
    names = ("GET one key", "GET of 8 keys", "PUT", "the disk")
    columns: dict[str, tuple[str, Callable[[float], str]]] = {
        "GB/s": ("throughput", _gigabytes),
        "processor time of each, µs": ("cpu_seconds", _microseconds),
    }
    rows = [
        (name, [_cell(figure(results, "large", name, which), form) for which, form in columns.values()])
        for name in names
    ]
    share = ratio(results, "large", "PUT", "the disk")
    if share is not None:
        rows.append(("PUT, share of the disk", [f"{share.median:.0%}{_apart(share)}", NOTHING]))
    yield from _table("values of 1 MiB", list(columns), rows)


def _idle(results: Results) -> Iterator[str]:
    size = figure(results, "idle", "kvtwist", "connection_bytes")
    cells = [_cell(size, lambda value: f"{value / 1024:.1f}")]
    cells += [_cell(figure(results, "idle", "kvtwist", which), _whole) for which in ("rate_alone", "rate")]
    columns = ["KiB each", "GET/s of the busy 64 alone", "beside them"]
    yield from _table("10,000 idle connections", columns, [("kvtwist", cells)])


def _beside(results: Results, scenario: str, name: str, base: str, which: str, form: Callable[[float], str]) -> str:
    text = _cell(figure(results, scenario, name, which), form)
    found = None if name == base else ratio(results, scenario, name, base, which)
    return text if found is None else f"{text} ({found.median:.2f}x)"


def _cell(found: Spread | None, form: Callable[[float], str]) -> str:
    return NOTHING if found is None else form(found.median) + _apart(found)


def _apart(found: Spread) -> str:
    return f" ±{abs(found.share) * 100:.0f} %" if abs(found.share) >= 0.005 else ""


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _microseconds(value: float) -> str:
    return f"{value * 1e6:.1f}"


def _percent(value: float) -> str:
    return f"{value:.0%}"


def _milliseconds(value: float) -> str:
    return f"{value * 1e3:.2f}"


def _gigabytes(value: float) -> str:
    return f"{value / 1e9:.2f}"
