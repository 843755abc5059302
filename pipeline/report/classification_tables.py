"""Classifiers' scores as tables and metrics: what stage evaluate writes, and the page shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.core.errors import UserError
from pipeline.core.tables import producer_of, read_table
from pipeline.evaluation.table import Column, Table
from pipeline.metrics.class_scores import per_class

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


def read_classifiers(folder: Path, losses: Sequence[str]) -> list[LossRun]:
    """What was trained with these losses, one run each; those that were not trained yet are left out."""
    runs = []
    for path in (folder / loss / "scores.parquet" for loss in losses):
        if not path.exists():
            continue
        described = producer_of(path)["settings"]
        if not isinstance(described.get("classes"), list):
            raise UserError(f"{path} names no classes: train the classifiers again")
        tables = [
            read_table(path.parent / f"{name}.parquet").to_pandas()
            for name in ("scores", "history", "predictions")
        ]
        runs.append(LossRun(path.parent.name, described, *tables))
    return runs


def all_tables(runs: list[LossRun]) -> list[Table]:
    """What is also written for spreadsheets: the losses' scores, and the classes' of each loss."""
    return [scores_table(runs), *map(class_table, runs)] if runs else []


def metrics(runs: list[LossRun]) -> dict[str, dict[str, float]]:
    """The means over seeds, for reports/metrics.json."""
    return {run.loss: {name: float(run.scores[name].mean()) for name in SCORES} for run in runs}


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


def class_table(run: LossRun) -> Table:
    """Precision, recall and F1 of every class."""
    frame = per_class(run.predictions["predicted"], run.predictions["target"], run.classes)
    columns = (
        Column("class", "class"),
        Column("pictures", "test pictures, all seeds", ",d"),
        *(Column(name, name, ".3f") for name in ("precision", "recall", "f1")),
    )
    return Table(f"classes_{run.loss}", f"Classes with {run.title}", frame, columns, long=True)
