"""The page's section on classifiers: scores, confusion, learning curves, and what networks cost."""

import numpy as np
import pandas as pd

from pipeline.evaluation.table import Column, Table
from pipeline.metrics.class_scores import confusion
from pipeline.report.charts import Axis, Chart, Line
from pipeline.report.classification_tables import PERCENT, LossRun, class_table, scores_table
from pipeline.report.matrix import matrix_picture
from pipeline.report.page import Block, Section


def sections(runs: list[LossRun], costs: pd.DataFrame | None = None) -> list[Section]:
    """The page's section on classification; none where nothing was trained.

    Parameters
    ----------
    runs
        As `read_classifiers` gives them.
    costs
        The model table of `pipeline.training.networks.costs`, if it is to be shown.
    """
    if not runs:
        return []
    blocks: list[Block] = [scores_table(runs), learning_curves(runs)]
    for run in runs:
        blocks += [confusion_picture(run), class_table(run)]
    if costs is not None:
        blocks.append(cost_table(costs))
    pictures = len(runs[0].predictions) // max(1, len(runs[0].scores))
    intro = (
        f"Classifiers of {len(runs[0].classes)} classes, {len(runs[0].scores)} for each loss, judged on "
        f"{pictures:,} test pictures by the epoch with the lowest validation loss."
    )
    return [Section("Classification", intro, tuple(blocks))]


def learning_curves(runs: list[LossRun]) -> Chart:
    """Accuracy by epoch, the mean over seeds; training thin."""
    marks = []
    for colour, run in enumerate(runs):
        means = run.history.groupby("epoch")[["train_accuracy", "val_accuracy"]].mean()
        epochs = [float(epoch) for epoch in means.index]
        for column, split in (("val_accuracy", "validation"), ("train_accuracy", "training")):
            values = (PERCENT * means[column]).tolist()
            labels = [
                f"{run.title}, {split}<br>epoch {epoch:g}: {value:.1f} %"
                for epoch, value in zip(epochs, values, strict=True)
            ]
            shade = colour % 6
            marks.append(Line(run.title, epochs, values, shade, split == "training", labels=labels))
    return Chart(
        name="classification_curves",
        title="Accuracy by epoch",
        alt="Line plot of the accuracy on training and validation pictures by epoch, the mean over seeds of "
        "each loss.",
        x=Axis("epoch"),
        y=Axis("accuracy (%)"),
        marks=tuple(marks),
        caption="Means over seeds; thin: training, on distorted pictures.",
    )


def confusion_picture(run: LossRun) -> Block:
    """The normalised confusion matrix over all seeds."""
    shares = PERCENT * confusion(run.predictions["predicted"], run.predictions["target"], len(run.classes))
    worst = np.where(np.eye(len(shares), dtype=bool) | np.isnan(shares), -1.0, shares)
    row, column = np.unravel_index(worst.argmax(), shares.shape)
    return matrix_picture(
        f"confusion_{run.loss}",
        f"Confusion with {run.title}, in percent of each class",
        shares,
        run.classes,
        caption=f"Most often, {shares[row, column]:.1f} % of {run.classes[row]} is taken for "
        f"{run.classes[column]}.",
    )


def cost_table(costs: pd.DataFrame) -> Table:
    """The thesis's Table 3.2."""
    columns = (
        Column("method", "method"),
        Column("parameters", "parameters (millions)", ".1f"),
        Column("flops", "FLOPs (billions)", ".3f"),
        Column("size_mb", "size (MB)", ".0f"),
        Column("depth", "layers with weights", "d"),
    )
    note = (
        "For one picture, as torch counts: a multiplication and an addition are two. Depth counts "
        "convolutions and dense layers."
    )
    return Table("model_costs", "What the networks cost", costs, columns, note)
