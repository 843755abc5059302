"""Charts as Plotly figures: JSON that the page, a notebook (`plotly.io.from_json`) or Plotly itself draws.

Backgrounds are transparent and grey tones are left to the page, which knows whether it is light or dark.
"""

import html
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from pipeline.report.charts import (
    DASHES,
    PALETTE,
    SYMBOLS,
    Axis,
    Bars,
    Chart,
    Dots,
    Intervals,
    Line,
    Mark,
    Paths,
    Strips,
    shown,
)

DIGITS = 5
FEW = 1000
MARKUP = re.compile(r"&|<(?!br>)")


def plotly_json(chart: Chart) -> str:
    """A chart as Plotly's JSON (data and layout), the same text for the same chart."""
    chart = shown(chart)
    figure = go.Figure(data=[trace for mark in chart.marks for trace in traces(mark)], layout=layout(chart))
    plain = figure.to_plotly_json()
    plain["layout"].pop("template", None)
    return json.dumps(unmarked({"data": plain["data"], "layout": plain["layout"]}), sort_keys=True)


def unmarked(tree: Any) -> Any:
    """A figure whose texts mark up nothing, such as a link, but the ends of lines: Plotly reads some HTML."""
    if isinstance(tree, str):
        return MARKUP.sub(lambda found: html.escape(found[0], quote=False), tree)
    if isinstance(tree, dict):
        return {key: value if key == "hovertemplate" else unmarked(value) for key, value in tree.items()}
    return [unmarked(one) for one in tree] if isinstance(tree, list | tuple) else tree


def traces(mark: Mark) -> list[Any]:
    """The Plotly traces of one mark."""
    match mark:
        case Line():
            return [*band(mark, PALETTE[mark.colour]), line(mark)]
        case Dots():
            marker = marked(mark, size=7)
            return [
                go.Scatter(x=numbers(mark.x), y=numbers(mark.y), mode="markers", marker=marker, **told(mark))
            ]
        case Strips():
            return [strips(mark)]
        case Bars():
            return [bars(mark)]
        case Intervals():
            return [intervals(mark)]
        case Paths():
            return [path(mark, row) for row in range(len(mark.heights))]


def told(mark: Mark) -> dict[str, Any]:
    """What legend and pointer say of a mark."""
    in_legend = bool(mark.name) and not (isinstance(mark, Line) and mark.faint)
    legend = {"name": mark.name, "legendgroup": mark.name, "showlegend": in_legend}
    if not mark.labels:
        return {**legend, "hovertemplate": "%{x}: %{y}"}
    return {**legend, "text": list(mark.labels), "hovertemplate": "%{text}<extra></extra>"}


def marked(mark: Mark, **more: Any) -> dict[str, Any]:
    """The symbol of a mark's points."""
    return {"color": PALETTE[mark.colour], "symbol": SYMBOLS[mark.colour], **more}


def line(mark: Line) -> Any:
    """A line; thin and a little see-through where it is faint."""
    width, opacity = (1.2, 0.75) if mark.faint else (2.2, 1)
    style = {"color": PALETTE[mark.colour], "dash": DASHES[mark.colour], "width": width}
    x, y = numbers(mark.x), numbers(mark.y)
    return go.Scatter(x=x, y=y, mode="lines", line=style, opacity=opacity, **told(mark))


def strips(mark: Strips) -> Any:
    """All points of a category, with a box of their quartiles."""
    return go.Box(
        x=list(mark.categories),
        y=numbers(mark.values),
        boxpoints="all",
        pointpos=0,
        jitter=0.5,
        fillcolor="rgba(0,0,0,0)",
        line={"color": PALETTE[mark.colour], "width": 1.6},
        marker=marked(mark, size=4, opacity=0.55),
        offsetgroup=mark.name,
        hoveron="points",
        **told(mark),
    )


def bars(mark: Bars) -> Any:
    """A bar for each category; its label shows under the pointer alone."""
    return go.Bar(
        x=list(mark.categories),
        y=numbers(mark.values),
        marker={"color": PALETTE[mark.colour]},
        offsetgroup=mark.name,
        textposition="none",
        **told(mark),
    )


def intervals(mark: Intervals) -> Any:
    """Points with their intervals from left to right."""
    middle = np.asarray(mark.values, dtype=np.float64)
    return go.Scatter(
        x=numbers(middle),
        y=list(mark.categories),
        mode="markers",
        marker=marked(mark, size=9),
        error_x={
            "array": numbers(np.asarray(mark.high) - middle),
            "arrayminus": numbers(middle - np.asarray(mark.low)),
            "color": PALETTE[mark.colour],
            "thickness": 2.2,
            "width": 0,
        },
        **told(mark),
    )


def path(mark: Paths, row: int) -> Any:
    """One of the lines across categories; the first one stands for all in the legend."""
    said = told(mark)
    said["showlegend"] &= row == 0
    if mark.labels:
        said["text"] = [mark.labels[row]] * len(mark.heights[row])
    return go.Scatter(
        x=list(mark.categories),
        y=numbers(mark.heights[row]),
        mode="lines+markers",
        line={"color": PALETTE[mark.colour], "dash": DASHES[mark.colour], "width": 1.6},
        marker=marked(mark, size=6),
        opacity=0.75,
        **said,
    )


def band(mark: Line, colour: str) -> list[Any]:
    """The area between a line's bounds, as one closed outline."""
    if not len(mark.low):
        return []
    x, low, high = (np.asarray(column, dtype=np.float64) for column in (mark.x, mark.low, mark.high))
    drawn = np.isfinite(low) & np.isfinite(high)
    x, bounds = x[drawn], np.concatenate([high[drawn], low[drawn][::-1]])
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return [
        go.Scatter(
            x=numbers(np.concatenate([x, x[::-1]])),
            y=numbers(bounds),
            mode="lines",
            fill="toself",
            fillcolor=f"rgba({red},{green},{blue},0.15)",
            line={"width": 0},
            hoverinfo="skip",
            legendgroup=mark.name,
            showlegend=False,
        )
    ]


def layout(chart: Chart) -> dict[str, Any]:
    """Axes with units, the legend below, no title (the page has its own)."""
    laid: dict[str, Any] = {
        "xaxis": axis(chart.x, [value for mark in chart.marks if isinstance(mark, Line) for value in mark.x]),
        "yaxis": axis(chart.y, [value for mark in chart.marks if isinstance(mark, Line) for value in mark.y])
        | ({"autorange": "reversed"} if chart.y.categories else {}),
        "boxmode": "group",
        "barmode": "group",
        "hovermode": "closest",
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
        "margin": {"l": 56, "r": 12, "t": 24, "b": 48},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "height": 90 + 34 * len(chart.y.categories) if chart.y.categories else 400,
    }
    if chart.reference is not None:
        laid["shapes"] = [
            {"type": "line", "x0": chart.reference, "x1": chart.reference, "y0": 0, "y1": 1, "yref": "paper"}
        ]
    return laid


def axis(described: Axis, values: Sequence[float]) -> dict[str, Any]:
    """One axis, over the given values."""
    laid: dict[str, Any] = {
        "title": {"text": described.label},
        "automargin": True,
        "zeroline": False,
    }
    if described.log:
        laid |= {"type": "log", "exponentformat": "power", "dtick": 1} | steps_within(values)
    if described.categories:
        order = list(described.categories)
        laid |= {"type": "category", "categoryorder": "array", "categoryarray": order}
    if described.from_zero:
        laid["rangemode"] = "tozero"
    return laid


def steps_within(values: Sequence[float]) -> dict[str, Any]:
    """Ticks at 1, 2 and 5 for a logarithmic axis over few powers of ten; powers alone would be too sparse."""
    positive = [value for value in values if 0 < value < np.inf]
    if not positive or max(positive) / min(positive) > FEW:
        return {}
    powers = range(int(np.floor(np.log10(min(positive)))), int(np.ceil(np.log10(max(positive)))) + 1)
    ticks = [float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]
    return {"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def numbers(values: Sequence[float] | NDArray[np.float64]) -> list[float | None]:
    """Floats to five digits, null for what is not finite: plain JSON, and a third of the size."""
    return [float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None for value in map(float, values)]
