"""The page's sections on what networks look at, made of the tables that `vec2age explain` writes.

Every table says in its metadata what it is (`kind`) and how it is called:

- `heat`: `text` and three PNG pictures each (`picture`, `overlay`, `guided`);
- `projection`: `x`, `y` and `label` (text) or `value` (a number) of every vector;
- `plane`: `x`, `y`, `loss` and `ratio` (null where it was not computed) of every point.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import imread

from pipeline.core.tables import producer_of, read_table
from pipeline.report.charts import PALETTE
from pipeline.report.matrix import DPI, as_png
from pipeline.report.page import Picture, Section
from pipeline.report.png import MARKERS, names_as_they_are

KINDS = ("heat", "projection", "plane")
SIDE = 3.6
# Ten digits or seven expressions need more than a chart has; they are told apart by markers as well.
COLOURS = (*PALETTE, "#56B4E9", "#C9A400", "#7B1E3B", "#202020", "#F28CB1", "#5B8C00")
LEVELS = 16
TINY = 1e-6


@dataclass(frozen=True)
class Explained:
    """One table of `vec2age explain`."""

    name: str
    settings: Mapping[str, Any]
    frame: pd.DataFrame

    @property
    def title(self) -> str:
        """What it is called."""
        return str(self.settings["title"])


def read_explained(folder: Path) -> dict[str, list[Explained]]:
    """The tables of a folder by their kind; tables of other kinds are not looked at."""
    found: dict[str, list[Explained]] = {kind: [] for kind in KINDS}
    for path in sorted(folder.glob("*.parquet")):
        settings = producer_of(path)["settings"]
        if settings.get("kind") in found:
            table = Explained(path.stem, settings, read_table(path).to_pandas())
            found[settings["kind"]].append(table)
    return found


def sections(folder: Path) -> list[Section]:
    """The sections that a folder's tables make; none where there is no table."""
    tables = read_explained(folder)
    made = []
    if tables["heat"]:
        made.append(
            Section(
                "Where networks look",
                "Grad-CAM weighs a layer's maps by the gradient of what is predicted: red is where the "
                "prediction comes from. Guided Grad-CAM shows the pixels behind it.",
                tuple(heat(table) for table in tables["heat"]),
            )
        )
    if tables["projection"]:
        made.append(
            Section(
                "How vectors and features lie",
                "Vectors laid out on a plane so that near ones stay near. Distances between far groups and "
                "the size of groups mean little.",
                tuple(projections(group) for group in beside(tables["projection"])),
            )
        )
    if tables["plane"]:
        made.append(
            Section(
                "Loss landscapes",
                "The loss over a plane through the trained weights, spanned by two random directions whose "
                "filters are as long as the network's own, and, where it was computed, how far from convex "
                "it is: the Hessian's smallest eigenvalue over its largest, in size.",
                tuple(planes(tables["plane"])),
            )
        )
    return made


def blank(width: float, height: float) -> Figure:
    """A figure that needs no display."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


@names_as_they_are
def heat(table: Explained) -> Picture:
    """Pictures, their heat and their guided gradients, a row each."""
    names = {"picture": "picture", "overlay": "Grad-CAM", "guided": "Guided Grad-CAM"}
    rows = len(table.frame)
    figure = blank(2.0 * len(names), 2.2 * rows)
    for row, found in enumerate(table.frame.itertuples()):
        for column, (name, title) in enumerate(names.items()):
            axes = figure.add_subplot(rows, len(names), row * len(names) + column + 1)
            axes.imshow(imread(io.BytesIO(getattr(found, name))))
            axes.set_axis_off()
            axes.set_title(str(found.text) if column == 0 else title, fontsize="x-small", loc="left")
    alt = f"{rows} pictures, each with its heat map and its guided gradients beside it."
    return Picture(f"explain_{table.name}", table.title, alt, as_png(figure), caption_of(table))


def caption_of(table: Explained) -> str:
    """The settings that a reader should know."""
    return str(table.settings.get("caption", ""))


def beside(tables: Sequence[Explained]) -> list[list[Explained]]:
    """Projections that are to be seen side by side: those whose settings name the same `beside`."""
    groups: dict[str, list[Explained]] = {}
    for table in tables:
        groups.setdefault(str(table.settings.get("beside", table.name)), []).append(table)
    return list(groups.values())


@names_as_they_are
def projections(tables: Sequence[Explained]) -> Picture:
    """Projections side by side, each with its own points, all with the first one's legend."""
    figure = blank(5.2 * len(tables) + 1.6, 5.2)
    for position, table in enumerate(tables, start=1):
        axes = figure.add_subplot(1, len(tables), position)
        scatter(figure, axes, table, legend=position == 1)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(table.title, loc="left", fontsize="small", fontweight="bold", wrap=True)
    first = tables[0]
    colour = first.settings.get("colour", "their values")
    alt = f"{len(first.frame)} points on a plane, coloured by {colour}" + ", once for each." * (
        len(tables) > 1
    )
    title = first.title if len(tables) == 1 else str(first.settings["together"])
    name = str(first.settings.get("beside", first.name))
    return Picture(f"explain_{name}", title, alt, as_png(figure), caption_of(first))


def scatter(figure: Figure, axes: Axes, table: Explained, legend: bool) -> None:
    """Points in the colours of their labels, each label with a marker of its own, or of their values."""
    frame = table.frame
    if "label" not in frame:
        points = axes.scatter(frame["x"], frame["y"], c=frame["value"], s=9, cmap="viridis", linewidths=0)
        figure.colorbar(points, ax=axes, label=str(table.settings.get("colour", "")))
        return
    labels = frame["label"].fillna("unknown")
    for position, name in enumerate(sorted(labels.unique(), key=natural)):
        some = frame[labels == name]
        axes.scatter(
            some["x"],
            some["y"],
            s=9,
            color=COLOURS[position % len(COLOURS)],
            marker=MARKERS[(position + position // len(COLOURS)) % len(MARKERS)],
            linewidths=0,
            alpha=0.8,
            label=name if legend else None,
        )
    if legend:
        figure.legend(loc="outside right center", frameon=False, fontsize="small", markerscale=2)


def natural(name: str) -> tuple[int, float, str]:
    """Numbers before words, by their size."""
    return (0, float(name), "") if name.replace(".", "", 1).isdecimal() else (1, 0.0, name)


@names_as_they_are
def planes(tables: Sequence[Explained]) -> list[Picture]:
    """All landscapes side by side on one scale, and all ratios."""
    made = [side_by_side(tables, "loss", "Loss over a plane of weights", "explain_landscape")]
    # Contours need two rows and two columns.
    with_ratio = [table for table in tables if min(grid_of(table, "ratio")[2].shape) >= 2]
    if with_ratio:
        made.append(side_by_side(with_ratio, "ratio", "|λ min / λ max| of the Hessian", "explain_hessian"))
    return made


def side_by_side(tables: Sequence[Explained], column: str, title: str, name: str) -> Picture:
    """Filled contours of one column of every plane."""
    grids = [grid_of(table, column) for table in tables]
    # Losses of different kinds have no common unit: each is drawn over its own range of magnitudes.
    figure = blank(SIDE * len(tables) + 0.6, SIDE + 0.2)
    for position, (table, (x, y, values)) in enumerate(zip(tables, grids, strict=True), start=1):
        axes = figure.add_subplot(1, len(tables), position)
        contours(figure, axes, x, y, values, logarithmic=column == "loss")
        axes.set_title(table.title, loc="left", fontsize="small")
        axes.set_xlabel("along δ")
        axes.set_ylabel("along η" if position == 1 else "")
    middle = ", ".join(f"{table.title}: {middle_of(table, column):.3g}" for table in tables)
    alt = f"Contour plots of the {'loss' if column == 'loss' else 'ratio'} around {len(tables)} networks."
    caption = f"At the trained weights (the middle) {middle}."
    if column == "ratio":
        caption = " ".join([caption, *(caption_of(table) for table in tables if caption_of(table))])
    return Picture(name, title, alt, as_png(figure), caption)


def middle_of(table: Explained, column: str) -> float:
    """The value at the trained weights."""
    frame = table.frame
    return float(frame.loc[(frame["x"] == 0) & (frame["y"] == 0), column].iloc[0])


def grid_of(table: Explained, column: str) -> tuple[Any, Any, Any]:
    """One column as a matrix over its axes."""
    wide = table.frame[table.frame[column].notna()].pivot(index="y", columns="x", values=column)
    return (
        wide.columns.to_numpy(dtype=np.float64),
        wide.index.to_numpy(dtype=np.float64),
        wide.to_numpy(dtype=np.float64),
    )


def contours(figure: Figure, axes: Axes, x: Any, y: Any, values: Any, logarithmic: bool) -> None:
    """Filled contours with a scale; a loss that is nowhere negative by powers of ten."""
    finite = values[np.isfinite(values)]
    low, high = float(finite.min()), float(finite.max())
    if high - low <= TINY * max(abs(high), TINY):
        high = low + max(abs(low), 1.0)
    scale: Normalize
    if logarithmic and high > 0:
        low = max(low, high * TINY)
        levels = np.geomspace(low, high, LEVELS)
        scale = LogNorm(low, high)
    else:
        levels = np.linspace(low, high, LEVELS)
        scale = Normalize(low, high)
    # A loss that is no number is beyond all others; a ratio that was not found stays white.
    known = np.nan_to_num(values, nan=high) if logarithmic else np.ma.masked_invalid(values)
    shown = np.clip(known, low, high)
    drawn = axes.contourf(x, y, shown, levels=levels, norm=scale, cmap="viridis")
    axes.contour(x, y, shown, levels=levels, colors="white", linewidths=0.3)
    axes.set_aspect("equal")
    bar = figure.colorbar(drawn, ax=axes, shrink=0.8, ticks=levels[:: LEVELS // 5])
    bar.ax.set_yticklabels([f"{level:.3g}" for level in levels[:: LEVELS // 5]])
    bar.ax.minorticks_off()
