"""What augmentation did, on the page: one example of each operation beside the tables."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.evaluation.table import Table
from pipeline.report.page import Picture, Section
from pipeline.report.png import names_as_they_are

COLUMNS = 3
SIDE = 2.3  # inches
DPI = 100


@names_as_they_are
def examples(original: NDArray[np.uint8], changed: Mapping[str, NDArray[np.uint8]]) -> Picture:
    """One picture of each operation, beside the original.

    Parameters
    ----------
    original
        (H, W, 3) uint8, a picture that may be shown to anybody.
    changed
        By the operation's label, what it made of the original.
    """
    shown = {"original": original, **changed}
    rows = -(-len(shown) // COLUMNS)
    figure = Figure(figsize=(COLUMNS * SIDE, rows * (SIDE + 0.3)), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    for position, (label, pixels) in enumerate(shown.items(), start=1):
        axes = figure.add_subplot(rows, COLUMNS, position)
        axes.imshow(pixels)
        axes.set_axis_off()
        name, _, settings = label.partition("(")
        axes.set_title(name, fontsize="medium", fontweight="bold", loc="left")
        below = settings.rstrip(")").replace(",", ", ")
        axes.text(0, -0.03, below, transform=axes.transAxes, fontsize="x-small", va="top")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return Picture(
        "augmentation",
        "One example of each operation",
        f"A portrait, and what each of {len(changed)} augmentation operations makes of it.",
        buffer.getvalue(),
        "The astronaut Eileen Collins, NASA, public domain; never a face of the data set.",
    )


def section(found: Sequence[Table], picture: Picture) -> Section:
    """The page's section on augmentation."""
    intro = (
        "The training split grows by pictures that changed enough to teach something and not so much that "
        "the face is lost: those whose vectors' cosine similarity to the original lies within the limits."
    )
    return Section("Augmentation", intro, (picture, *found))
