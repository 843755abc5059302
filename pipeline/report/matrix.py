"""Matplotlib pictures that charts have no mark for: matrices with their numbers in them."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.report.page import Picture
from pipeline.report.png import names_as_they_are

DPI = 100
CELL = 0.55  # inches


def as_png(figure: Figure) -> bytes:
    """A figure's PNG without time stamp or version: the same bytes for the same figure."""
    if not isinstance(figure.canvas, FigureCanvasAgg):
        FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


@names_as_they_are
def matrix_picture(
    name: str, title: str, shares: NDArray[np.float64], classes: Sequence[str], caption: str = ""
) -> Picture:
    """A confusion matrix in percent, (C, C), each number in its cell; NaN rows stay empty."""
    count = len(classes)
    side = 1.6 + CELL * count
    figure = Figure(figsize=(side + 0.4, side), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for (row, column), value in np.ndenumerate(shares):
        if np.isfinite(value) and value >= 0.05:
            colour = "white" if value > 50 else "black"
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", color=colour, fontsize="x-small")
    axes.set_xticks(range(count), classes, rotation=90 if max(map(len, classes)) > 2 else 0)
    axes.set_yticks(range(count), classes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title, loc="left", fontsize="medium", fontweight="bold", wrap=True)
    right = np.diag(shares)
    alt = (
        f"Matrix of true by predicted classes in percent: between {np.nanmin(right):.1f} and "
        f"{np.nanmax(right):.1f} percent of a class are recognised."
    )
    return Picture(name, title, alt, as_png(figure), caption)
