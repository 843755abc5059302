"""The page's section on classifiers: scores, confusion, learning curves, and what networks cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.errors import UserError
from pipeline.metrics.classification import confusion, per_class
from pipeline.reports.charts import Axis, Chart, Line
from pipeline.reports.matrix import matrix_picture
from pipeline.reports.page import Block, Section
from pipeline.reports.table import Column, Table
from pipeline.tables import producer_of, read_table

TITLES = {
    "cross_entropy": "CE",
    "symmetric_cross_entropy": "SCE",
    "one_hot_mse": "MSE",
    "focal": "Focal",
    "class_balanced": "Class-balanced",
    "dwb": "DWB",
    "soft_margin_softmax": "SM-Softmax",
    "mam_softmax": "MAM-SoftMax",
    "l_softmax": "L-Softmax",
    "a_softmax": "A-Softmax",
    "am_softmax": "AM-Softmax",
    "aam_softmax": "AAM-Softmax",
    "lmcl": "LMCL",
    "dam_softmax": "DAM-Softmax",
    "double_margin_softmax": "Double-margin softmax",
}
SCORES = ("accuracy", "loss", "precision", "recall", "f1")
PERCENT = 100


@dataclass(frozen=True)
class LossRun:
    """The classifiers of one loss: their tables, and the settings they were trained with."""

    loss: str
    settings: Mapping[str, Any]
    scores: pd.DataFrame
    history: pd.DataFrame
    predictions: pd.DataFrame

    @property
    def title(self) -> str:
        """The loss, as papers call it."""
        return TITLES.get(self.loss, self.loss)

    @property
    def classes(self) -> list[str]:
        """The classes' names."""
        return list(self.settings["classes"])


def read_classifiers(folder: Path) -> list[LossRun]:
    """What was trained, one run a loss; nothing where there is no such folder."""
    runs = []
    for path in sorted(folder.glob("*/scores.parquet")):
        described = producer_of(path)["settings"]
        if not isinstance(described.get("classes"), list):
            raise UserError(f"{path} names no classes: train the classifiers again")
        tables = [
            read_table(path.parent / f"{name}.parquet").to_pandas()
            for name in ("scores", "history", "predictions")
        ]
        runs.append(LossRun(path.parent.name, described, *tables))
    return runs


def sections(runs: list[LossRun], costs: pd.DataFrame | None = None) -> list[Section]:
    """The page's section on classification; none where nothing was trained.

    Parameters
    ----------
    runs
        As `read_classifiers` gives them.
    costs
        The model table of `pipeline.cnn.model_table`, if it is to be shown.
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


def scores_table(runs: list[LossRun]) -> Table:
    """Accuracy, error, precision, recall, F1, means over seeds: the thesis's Tables 3.3, 3.4 and 4.1."""
    rows = []
    for run in runs:
        means = run.scores[list(SCORES)].mean()
        rows.append(
            {
                "method": run.settings["architecture"],
                "optimizer": str(run.settings["optimizer"]).upper(),
                "loss_name": run.title,
                "accuracy": PERCENT * means["accuracy"],
                "spread": PERCENT * run.scores["accuracy"].std(ddof=1),
                "error": means["loss"],
                "precision": PERCENT * means["precision"],
                "recall": PERCENT * means["recall"],
                "f1": means["f1"],
                "seeds": len(run.scores),
            }
        )
    columns = (
        Column("method", "method"),
        Column("optimizer", "optimiser"),
        Column("loss_name", "loss"),
        Column("accuracy", "accuracy (%)", ".2f", best="highest"),
        Column("spread", "± over seeds", ".2f"),
        Column("error", "error", ".3f"),
        Column("precision", "precision (%)", ".2f", best="highest"),
        Column("recall", "recall (%)", ".2f", best="highest"),
        Column("f1", "F1", ".3f", best="highest"),
        Column("seeds", "seeds", "d"),
    )
    note = (
        "Error is the training loss on test pictures, margins included: not comparable between losses. "
        "Precision, recall and F1 are means over classes. ± is the sample standard deviation over seeds."
    )
    return Table("classification_scores", "Test scores by loss", pd.DataFrame(rows), columns, note)


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


def class_table(run: LossRun) -> Table:
    """Precision, recall and F1 of every class."""
    frame = per_class(run.predictions["predicted"], run.predictions["target"], run.classes)
    columns = (
        Column("class", "class"),
        Column("pictures", "test pictures, all seeds", ",d"),
        *(Column(name, name, ".3f") for name in ("precision", "recall", "f1")),
    )
    return Table(f"classes_{run.loss}", f"Classes with {run.title}", frame, columns, long=True)


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
