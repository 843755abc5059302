"""Charts as PNG files, the same bytes for the same chart: for papers, printing and `dvc plots`."""

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter
from numpy.typing import NDArray

from pipeline.report.charts import PALETTE, Bars, Chart, Dots, Intervals, Line, Mark, Paths, Strips, shown

WIDTH, HEIGHT, ROW = 7.0, 4.2, 0.34
DPI = 110
MARKERS = ("o", "s", "D", "^", "P", "X")
DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 2)),
    (0, (1.5, 1.5)),
    (0, (5, 2, 1.5, 2)),
    (0, (8, 2)),
    (0, (8, 2, 1, 2)),
)
GOLDEN = 0.6180339887498949
SPREAD = 0.8  # the share of a category's width that marks fill


names_as_they_are = mpl.rc_context({"text.parse_math": False})
"""Decorates what draws names: one such as `$x^{$` is text, and no mathematics."""


@names_as_they_are
def png(chart: Chart) -> bytes:
    """Draw a chart; no display, no time stamp and no software version go into the file."""
    chart = shown(chart)
    rows = len(chart.y.categories)
    figure = Figure(figsize=(WIDTH, 1.4 + ROW * rows if rows else HEIGHT), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for mark in chart.marks:
        draw(axes, chart, mark)
    dress(axes, chart)
    if len({mark.name for mark in chart.marks if mark.name}) > 1:
        figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def dress(axes: Axes, chart: Chart) -> None:
    """Labels with units, scales, a light grid and no frame."""
    axes.set_title(chart.title, loc="left", fontsize="medium", fontweight="bold")
    axes.set_xlabel(chart.x.label)
    axes.set_ylabel(chart.y.label)
    if chart.x.log:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(LogFormatter())
    if chart.y.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(LogFormatter())
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
    if chart.x.categories:
        axes.set_xticks(range(len(chart.x.categories)), chart.x.categories)
    if chart.y.categories:
        axes.set_yticks(range(len(chart.y.categories)), chart.y.categories)
        axes.set_ylim(len(chart.y.categories) - 0.5, -0.5)
    if chart.x.from_zero:
        axes.set_xlim(left=0)
    if chart.y.from_zero:
        axes.set_ylim(bottom=0)
    if chart.reference is not None:
        axes.axvline(chart.reference, color="0.4", linewidth=1)
    axes.grid(axis="x" if chart.y.categories else "y", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def draw(axes: Axes, chart: Chart, mark: Mark) -> None:
    """Draw one mark."""
    colour, marker = PALETTE[mark.colour], MARKERS[mark.colour]
    match mark:
        case Line():
            width, alpha = (1.0, 0.6) if mark.faint else (1.7, 1.0)
            style = {"color": colour, "linestyle": DASHES[mark.colour], "linewidth": width, "alpha": alpha}
            axes.plot(mark.x, mark.y, label=None if mark.faint else mark.name, **style)
            if len(mark.low):
                axes.fill_between(mark.x, mark.low, mark.high, color=colour, alpha=0.18, linewidth=0)
        case Dots():
            axes.scatter(mark.x, mark.y, color=colour, marker=marker, s=18, label=mark.name or None)
        case Strips():
            draw_strips(axes, chart, mark)
        case Bars():
            offset, width = place(chart, mark)
            x = positions(chart.x.categories, mark.categories) + offset
            axes.bar(x, mark.values, 0.92 * width, color=colour, label=mark.name)
        case Intervals():
            y = positions(chart.y.categories, mark.categories)
            axes.hlines(y, mark.low, mark.high, color=colour, linewidth=2.2)
            axes.scatter(mark.values, y, color=colour, marker=marker, s=30, zorder=3, label=mark.name or None)
        case Paths():
            x = positions(chart.x.categories, mark.categories)
            axes.set_xlim(-0.5, len(chart.x.categories) - 0.5)  # room for the names at both ends
            style = {"color": colour, "linestyle": DASHES[mark.colour], "marker": marker, "markersize": 3.5}
            for row, heights in enumerate(mark.heights):
                label = None if row else mark.name or None
                axes.plot(x, heights, linewidth=1.2, alpha=0.7, label=label, **style)


def draw_strips(axes: Axes, chart: Chart, mark: Strips) -> None:
    """A box of the quartiles, and every point over it, spread sideways by the golden ratio."""
    offset, width = place(chart, mark)
    x = positions(chart.x.categories, mark.categories)
    values = np.asarray(mark.values, dtype=np.float64)
    colour = PALETTE[mark.colour]
    for position in np.unique(x):
        here = values[x == position]
        axes.boxplot(
            [here],
            positions=[position + offset],
            widths=0.8 * width,
            showfliers=False,
            manage_ticks=False,
            boxprops={"color": colour},
            whiskerprops={"color": colour},
            capprops={"color": colour},
            medianprops={"color": colour, "linewidth": 2},
        )
        aside = (np.arange(here.size) * GOLDEN % 1 - 0.5) * 0.5 * width
        axes.scatter(
            position + offset + aside,
            here,
            color=colour,
            marker=MARKERS[mark.colour],
            s=9,
            alpha=0.55,
            linewidths=0,
            label=mark.name if position == x.min() else None,
        )


def place(chart: Chart, mark: Mark) -> tuple[float, float]:
    """The offset from a category's centre, and the width, of one of the marks that share categories."""
    together = [other for other in chart.marks if isinstance(other, type(mark))]
    width = SPREAD / len(together)
    return width * (together.index(mark) + 0.5) - SPREAD / 2, width


def positions(categories: Sequence[str], names: Sequence[str]) -> NDArray[np.float64]:
    """Where on the axis each name stands."""
    return np.asarray([categories.index(name) for name in names], dtype=np.float64)
