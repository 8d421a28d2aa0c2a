"""Results as two pictures: how cost grows with the number of keys, and how the contenders compare at the largest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import matplotlib
from attrs import frozen

from bench.results import Results
from bench.tables import TITLES

matplotlib.use("svg")  # before pyplot looks for a screen

from matplotlib import pyplot
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullLocator

# Okabe and Ito's colours, which everybody can tell apart.
_COLOURS: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
_MARKERS: Final = "osD^vP"


@frozen
class Panel:
    """One measure. `scale` makes of the figure what is drawn, which is a cost: less is better."""

    title: str
    phase: str
    figure: str
    scale: Callable[[float], float]
    per: str | None = None
    limit: tuple[str, float] | None = None


def _microseconds(rate: float) -> float:
    return 1e6 / rate


def _milliseconds(seconds: float) -> float:
    return seconds * 1e3


def _mebibytes(size: float) -> float:
    return size / 2**20


PANELS: Final = (
    Panel("load, random keys: µs per record", "load-random", "rate", _microseconds),
    Panel("update, uniform: µs per record", "update-uniform", "rate", _microseconds),
    Panel("get, uniform, from cold: µs", "get-uniform", "rate", _microseconds),
    Panel("full scan: µs per record", "scan", "rate", _microseconds),
    Panel("clean restart: ms", "restart", "seconds", _milliseconds, limit=("1 s", 1000)),
    Panel("restart after SIGKILL: ms", "recover", "seconds", _milliseconds),
    Panel("checkpoint: ms", "checkpoint", "seconds", _milliseconds),
    Panel("bytes written per byte, uniform updates", "update-uniform", "bytes_written", float, "user_bytes", ("5", 5)),
    Panel("resident at most, uniform updates: MiB", "update-uniform", "memory_peak", _mebibytes),
    Panel("disk after uniform updates, times raw", "update-uniform", "disk_bytes", float, "raw_bytes", ("2", 2)),
    Panel("reactor held, updates, p99.9: ms", "update-uniform", "hold_p999", _milliseconds, limit=("20 ms", 20)),
    Panel("reactor held, checkpoint, longest: ms", "checkpoint", "hold_max", _milliseconds, limit=("20 ms", 20)),
)

_COMPARED: Final = (
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


def draw(results: Results, directory: Path) -> list[Path]:
    """Write the pictures; returns where."""
    directory.mkdir(parents=True, exist_ok=True)
    # Text stays text, so that it can be read, searched and scaled; and the same results make the same file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "kvtwist", "font.family": "sans-serif"}):
        return [_growth(results, directory / "growth.svg"), _ratios(results, directory / "ratios.svg")]


def _growth(results: Results, path: Path) -> Path:
    figure, grid = pyplot.subplots(4, 3, figsize=(12, 13), sharex=True)
    for axes, panel in zip(grid.flat, PANELS, strict=True):
        _panel(axes, results, panel)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=len(labels), frameon=False, bbox_to_anchor=(0.5, 0.975))
    figure.suptitle("What it costs, by the number of keys (less is better; both axes logarithmic)", y=0.99)
    figure.tight_layout(rect=(0, 0, 1, 0.96))
    return _save(figure, path)


def _panel(axes: Any, results: Results, panel: Panel) -> None:
    sizes = results.sizes()
    for at, contender in enumerate(results.contenders()):
        points = []
        for size in sizes:
            found = results.spread(size, panel.phase, contender, panel.figure, panel.per)
            if found is not None and found.median > 0:
                points.append((size, panel.scale(found.median)))
        axes.plot(
            *zip(*points, strict=True) if points else ([], []),
            color=_COLOURS[at % len(_COLOURS)],
            marker=_MARKERS[at % len(_MARKERS)],
            markersize=5,
            label=contender,
        )
    axes.set_title(panel.title, fontsize=10)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(sizes, [_short(size) for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(sizes[0] / 1.6, sizes[-1] * 1.6)
    _decades(axes)
    if panel.limit is not None:
        name, value = panel.limit
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, value / 1.5), max(high, value * 2))
        axes.axhline(value, color="#888888", linewidth=0.8, linestyle="--")
        axes.annotate(f"goal: {name}", (sizes[0] / 1.5, value), fontsize=8, color="#666666", va="bottom")
    axes.grid(True, which="major", linewidth=0.4)
    axes.tick_params(labelbottom=True)


def _decades(axes: Any) -> None:
    """At least a decade on the axis, so that noise does not look like growth."""
    low, high = axes.get_ylim()
    if high / low < 10:
        middle = (low * high) ** 0.5
        axes.set_ylim(middle / 10**0.5, middle * 10**0.5)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: _minor(value)))
    axes.tick_params(which="both", labelsize=8)


def _minor(value: float) -> str:
    return f"{value:g}" if f"{value:e}"[0] in "25" else ""


def _short(size: int) -> str:
    return "1 million" if size == 10**6 else f"{size:,}"


def _ratios(results: Results, path: Path) -> Path:
    size = results.sizes()[-1]
    contenders = results.contenders()
    first, others = contenders[0], contenders[1:]
    phases = [phase for phase in _COMPARED if results.spread(size, phase, first, "rate")]
    figure, axes = pyplot.subplots(figsize=(11, 0.75 * len(phases) + 1.8))
    height = 0.8 / max(len(others), 1)
    for at, contender in enumerate(others, start=1):
        for line, phase in enumerate(phases):
            found = results.spread(size, phase, contender, "rate")
            base = results.spread(size, phase, first, "rate")
            if found is None or base is None:
                continue
            ratio = found.median / base.median
            where = line + (at - 1 - (len(others) - 1) / 2) * height
            colour = _COLOURS[at % len(_COLOURS)]
            axes.barh(where, ratio - 1, height, left=1, color=colour)
            text = f"{ratio:.2g}x" if ratio < 10 else f"{ratio:.0f}x"
            axes.annotate(
                text,
                (ratio, where),
                xytext=(3 if ratio >= 1 else -3, 0),
                textcoords="offset points",
                ha="left" if ratio >= 1 else "right",
                va="center",
                fontsize=8,
            )
    rates = [(phase, results.spread(size, phase, first, "rate")) for phase in phases]
    labels = [f"{TITLES[phase]}\n{first}: {rate.median:,.0f}/s" for phase, rate in rates if rate]
    axes.set_yticks(range(len(phases)), labels, fontsize=9)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.set_xlim(low / 1.5, high * 1.5)
    axes.set_ylim(len(phases) - 0.4, -0.6)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}x" if _minor(value) else ""))
    axes.tick_params(axis="x", which="both", labelsize=8)
    axes.axvline(1, color="black", linewidth=1)
    axes.grid(True, axis="x", which="major", linewidth=0.4)
    for line in range(1, len(phases), 2):
        axes.axhspan(line - 0.5, line + 0.5, color="#f4f4f4", zorder=0)
    axes.set_axisbelow(True)
    axes.set_title(f"Operations per second at {_short(size)} keys, relative to {first}: right of the line is faster")
    colours = [Patch(color=_COLOURS[at % len(_COLOURS)], label=name) for at, name in enumerate(others, start=1)]
    axes.legend(handles=colours, loc="lower right", frameon=True)
    figure.tight_layout()
    return _save(figure, path)


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path
