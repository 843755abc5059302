"""The page's section on whole networks, and its pictures."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.evaluation.networks.measures import best_run
from pipeline.evaluation.networks.results import Run
from pipeline.evaluation.settings import Settings
from pipeline.evaluation.table import Table
from pipeline.report.charts import Chart
from pipeline.report.networks.tables import all_tables, extremes
from pipeline.report.page import Picture, Section
from pipeline.report.png import names_as_they_are

INTRO = (
    "Networks trained from pixels to the target, without vectors in between: each loss with each backbone, "
    "on the same split. Numbers are means over a run's networks, on test faces unless it says otherwise."
)
SIDE, DPI = 1.3, 100


def section(
    runs: Sequence[Run],
    settings: Settings,
    charts: Sequence[Chart],
    pictures: Mapping[str, NDArray[np.uint8]] | None = None,
) -> list[Section]:
    """Tables, figures, and where pictures may be shown those of the best and worst predictions.

    Parameters
    ----------
    runs
        What was trained; nothing gives no section.
    charts
        From `figures.all_charts`, which are also written as files.
    pictures
        By face_id; None where no face may be shown.
    """
    if not runs:
        return []
    tables = all_tables(runs, settings)
    blocks: list[Table | Chart | Picture] = [tables[0], *charts, *tables[1:]]
    if pictures:
        blocks.append(gallery(extremes(best_run(runs), settings).frame, pictures))
    return [Section("Whole networks", INTRO, tuple(blocks))]


@names_as_they_are
def gallery(chosen: pd.DataFrame, pictures: Mapping[str, NDArray[np.uint8]]) -> Picture:
    """The faces of the best and worst predictions, with truth and prediction below."""
    shown = chosen[chosen["face_id"].isin(list(pictures))]
    columns = max(int((shown["which"] == "best").sum()), 1)
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(columns * SIDE, rows * (SIDE + 0.35)), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    for position, row in enumerate(shown.to_dict("records"), start=1):
        axes = figure.add_subplot(rows, columns, position)
        axes.imshow(pictures[row["face_id"]])
        axes.set_axis_off()
        axes.set_title(f"{row['target']:.3g} → {row['prediction']:.3g}", fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return Picture(
        "networks_extremes",
        "Best (above) and worst predictions: truth → prediction (Combo Figure 2)",
        "Rendered faces, the best predicted in the first row and the worst predicted in the second.",
        buffer.getvalue(),
        "Drawn by a program; faces of real people are never shown.",
    )
