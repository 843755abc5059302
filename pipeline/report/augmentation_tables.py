"""What augmentation did, as tables: similarities beside the paper's, and how the ages were filled."""

import pandas as pd

from pipeline.evaluation.table import Column, Table


def calibration(frame: pd.DataFrame) -> Table:
    """Every operation's cosine similarity to the original, beside the paper's Table 1."""
    columns = (
        Column("operation", "operation"),
        Column("count", "pictures", ",d"),
        Column("mean", "mean", ".4f", "cosine similarity to the original"),
        Column("std", "std", ".4f", "cosine similarity to the original"),
        Column("p5", "5%", ".4f", "cosine similarity to the original"),
        Column("median", "median", ".4f", "cosine similarity to the original"),
        Column("p95", "95%", ".4f", "cosine similarity to the original"),
        Column("kept", "within the limits", ".0%"),
        Column("table_1", "Table 1", ".4f", "the paper, one picture, FaceNet"),
    )
    return Table(
        "augmentation",
        "How much each operation changes a face",
        frame,
        columns,
        "Measured without a filter on a sample of training faces, with this run's encoder. 'Within the "
        "limits' is the share that the filter would keep.",
    )


def balance(frame: pd.DataFrame, target: str) -> Table:
    """How many training faces every age has, and how many could not be made."""
    columns = (
        Column("limits", target),
        Column("originals", "originals", ",d"),
        Column("augmented", "augmented", ",d"),
        Column("unfilled", "not filled", ",d"),
        Column("total", "total", ",d"),
    )
    title = f"Training faces of every {target}"
    note = "Not filled: every try was rejected. Originals are never thrown away."
    return Table("augmentation_balance", title, frame, columns, note, long=True)


def tables(measured: pd.DataFrame, ages: pd.DataFrame, target: str) -> list[Table]:
    """What was measured, where anything was; and how the ages were filled, where any was to be."""
    found = [calibration(measured)] if len(measured) else []
    owed = len(ages) > 0 and ages[["augmented", "unfilled"]].to_numpy().any()
    return [*found, balance(ages, target)] if owed else found
