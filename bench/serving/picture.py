"""What was measured over HTTP, as a picture: the peers side by side, and what each trick of the front buys."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import matplotlib

from bench.results import Results
from bench.serving.contenders import CONTENDERS
from bench.serving.goals import figure, ratio
from bench.serving.report import SCENARIOS, TRICKS

matplotlib.use("svg")  # before pyplot looks for a screen

from matplotlib import pyplot
from matplotlib.ticker import FuncFormatter

# Okabe and Ito's colours, which everybody can tell apart.
_COLOURS: Final = ("#0072b2", "#56b4e9", "#cc79a7", "#e69f00", "#009e73", "#d55e00")


def draw(results: Results, directory: Path) -> Path:
    """Write it; returns where."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "http.svg"
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "kvtwist", "font.family": "sans-serif"}):
        drawn, (peers, tricks) = pyplot.subplots(2, 1, figsize=(10, 9.5), height_ratios=(3, 2))
        _peers(peers, results)
        _tricks(tricks, results)
        drawn.tight_layout()
        drawn.savefig(path, metadata={"Date": None})
        pyplot.close(drawn)
    return path


def _peers(axes: Any, results: Results) -> None:
    at = 0.0
    ticks, labels = [], []
    for scenario, text in SCENARIOS.items():
        begin = at
        for name, colour in zip(CONTENDERS, _COLOURS, strict=True):
            found = figure(results, scenario, name, "rate")
            if found is None:
                continue
            apart = [[found.median - found.low], [found.high - found.median]]
            axes.barh(at, found.median, 0.9, color=colour, xerr=apart, error_kw={"linewidth": 0.8, "capsize": 2})
            beside = ratio(results, scenario, "kvtwist", name)
            said = "" if beside is None or name == "kvtwist" else f" (kvtwist: {beside.median:.2g}x)"
            axes.annotate(
                f"{CONTENDERS[name].title}: {found.median:,.0f}{said}",
                (found.high, at),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
            at += 1
        if at > begin:
            ticks.append((begin + at - 1) / 2)
            labels.append(text.replace(" of any", "\nof any").replace(" of one", "\nof one"))
            at += 1
    axes.set_yticks(ticks, labels, fontsize=9)
    axes.invert_yaxis()
    _, high = axes.get_xlim()
    axes.set_xlim(0, high * 1.7)  # room for what is written behind the bars
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_title("Requests a second, 64 connections, one core for each server")
    _plain(axes)


def _tricks(axes: Any, results: Results) -> None:
    bought = [(text, ratio(results, "tricks", "kvtwist", name)) for name, text in TRICKS.items()]
    shown = [(text, found) for text, found in bought if found is not None]
    for at, (_, found) in enumerate(shown):
        share = (found.median - 1) * 100
        apart = [[(found.median - found.low) * 100], [(found.high - found.median) * 100]]
        axes.barh(at, share, 0.8, color=_COLOURS[0], xerr=apart, error_kw={"linewidth": 0.8, "capsize": 2})
        axes.annotate(
            f"{share:+.0f} %",
            ((found.high - 1) * 100, at),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(range(len(shown)), [text for text, _ in shown], fontsize=9)
    axes.invert_yaxis()
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * 1.1)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    axes.set_title("What each trick of the front buys: requests a second, GET of one key")
    _plain(axes)


def _plain(axes: Any) -> None:
    axes.grid(True, axis="x", which="major", linewidth=0.4)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", labelsize=8)
