"""Draws bars with matplotlib: the median of each contender, and the range of its rounds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.figures import Panel

COLUMNS: Final = 3
_OWN, _OTHER = "#2166ac", "#b0b7bf"


def draw(path: Path, panels: Sequence[Panel]) -> None:
    """Write an SVG with a row of bars for each panel. kvtwist's own stand out."""
    panels = [panel for panel in panels if panel.bars]
    mpl.rcParams.update({"svg.hashsalt": "kvtwist", "svg.fonttype": "none", "font.size": 9})
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    height = 0.7 + 0.25 * max(len(panel.bars) for panel in panels)
    figure = Figure(figsize=(4 * columns, height * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis, panel in zip(axes, panels, strict=False):
        middles = [median(values) for values in panel.bars.values()]
        low = [middle - min(values) for middle, values in zip(middles, panel.bars.values(), strict=True)]
        high = [max(values) - middle for middle, values in zip(middles, panel.bars.values(), strict=True)]
        others = any(name.startswith("kvtwist") for name in panel.bars)
        colors = [_OTHER if others and not name.startswith("kvtwist") else _OWN for name in panel.bars]
        drawn = axis.barh(list(panel.bars), middles, xerr=[low, high], color=colors, error_kw={"lw": 0.8})
        axis.bar_label(drawn, [panel.form(middle) for middle in middles], padding=6)
        axis.set_title(panel.title, loc="left", fontsize=9)
        axis.invert_yaxis()
        axis.margins(x=0.2)
        axis.spines[["top", "right", "bottom"]].set_visible(False)
        axis.tick_params(bottom=False, labelbottom=False, left=False)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
