"""Tables of whole networks that differ in one thing, and of their biases: UC Table 5, Bias Tables 1 to 11."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import pandas as pd

from pipeline.metrics import fairness_table
from pipeline.reports.networks.measures import lost, mean_of, minutes
from pipeline.reports.networks.results import BINS, PREDICTIONS, Run
from pipeline.reports.settings import Settings
from pipeline.reports.table import Column, Table

DIVERGED = Column("diverged", "diverged")


def with_diverged(frame: pd.DataFrame, columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """The columns, and the one that says how many networks diverged where any did."""
    return (*columns, DIVERGED) if frame["diverged"].any() else columns


def strategy(run: Run) -> str:
    """The training strategy in the words of the bias report's Table 3."""
    start = run.settings["start"]
    embedded = run.backbone in ("dlib", "efficientnet_lite0") and start.get("pretrained") is not False
    if not (start.get("weights") or start.get("pretrained") or embedded):
        return "1) No Pretraining"
    frozen = run.settings["recipe"]["frozen_epochs"]
    return "2) Pretraining with Freeze" if frozen else "3) Pretraining without Freeze"


def head(run: Run) -> str:
    """The head in the words of the bias report's Table 1."""
    layers, last = len(run.settings["head"]["hidden"]), run.settings["head"]["activation"]
    if not layers and last == "none":
        return "as it is"
    hidden = [f"{layers} FC with ReLU"] if layers else []
    return " + ".join([*hidden, "1 FC" if last == "none" else f"1 FC with {last.capitalize()}"])


def weighting(run: Run) -> str:
    """What the training faces are weighted by."""
    faces = run.settings["faces"]
    return "+".join(filter(None, (faces["balance"], faces["weight"]))) or "none"


def loss_weight(run: Run) -> float | None:
    """Lambda, where the loss is Unimodal-Concentrated."""
    if run.settings["loss"] != "unimodal_concentrated":
        return None
    return float(run.settings["loss_settings"].get("unimodal_weight", 1000.0))


ASPECTS: dict[str, tuple[str, str, Callable[[Run], Any]]] = {
    "lambda": ("UC Table 5: the weight of the unimodal loss", "Lambda", loss_weight),
    "head": ("Bias Table 1: what stands on the backbone", "Model", head),
    "backbone": ("Bias Table 2: backbones", "Model", lambda run: run.backbone),
    "strategy": ("Bias Table 3: training strategy", "Training Strategy", strategy),
    "lr": ("Bias Table 4: learning rate", "LR", lambda run: run.settings["recipe"]["lr"]),
    "batch_size": ("Bias Table 5: batch size", "Batch", lambda run: run.settings["recipe"]["batch_size"]),
    "optimizer": (
        "Bias Table 6: optimizer",
        "Optimizer",
        lambda run: run.settings["recipe"]["optimizer"].upper(),
    ),
    "loss": ("", "", lambda run: run.settings["loss"]),
    "weighting": ("", "", weighting),
}
"""By name: the title of the table that compares its values, the heading, and how a run's value is found."""


def compared(runs: Sequence[Run]) -> Iterator[Table]:
    """UC Table 5 and Bias Tables 1 to 6: runs that differ in one thing, their validation loss and time."""
    for aspect, (title, heading, value) in ASPECTS.items():
        if not title:
            continue

        def others(run: Run, aspect: str = aspect) -> tuple[str, ...]:
            return tuple(str(of(run)) for name, (_, _, of) in ASPECTS.items() if name != aspect)

        rows = []
        for _, some in groupby(sorted(runs, key=others), key=others):
            alike = list(some)
            if len({str(value(run)) for run in alike}) < 2:
                continue
            for run in alike:
                found = {"value": value(run), "loss": run.name, "backbone": run.backbone}
                errors = {"val_loss": mean_of(run, "val_loss"), "mae": mean_of(run, "test_mae")}
                rows.append({**found, **errors, "minutes": minutes(run), "diverged": lost(run)})
        if rows:
            frame = pd.DataFrame(rows)
            columns: tuple[Column, ...] = (
                Column("value", heading, "g" if aspect in ("lambda", "lr") else ""),
                Column("loss", "Loss"),
                Column("backbone", "Backbone"),
                Column("val_loss", "Validation Loss", ".4g"),
                Column("mae", "MAE", ".3f", "", "lowest"),
                Column("minutes", "Time (in mins)", ".1f"),
            )
            yield Table(f"networks_by_{aspect}", title, frame, with_diverged(frame, columns))


def groups_of(runs: Sequence[Run]) -> list[str]:
    """Group columns that all runs' test faces have."""
    known = {*PREDICTIONS.names, "spread"}
    names = [name for name in runs[0].predictions.columns if name not in known]
    return [name for name in names if all(name in run.predictions.columns for run in runs)]


def fairness(runs: Sequence[Run], settings: Settings) -> Table:
    """Bias Tables 7 to 11: loss, weighting, and settings; MAE and the bias of every group column."""
    groups = groups_of(runs)
    rows = []
    for run in runs:
        test = run.test()
        first = test["column"].iloc[0]
        test = test[test["column"] == first]
        wide = [part for _, part in test.groupby("member")]
        columns = {name: wide[0][name].to_numpy(dtype=object) for name in groups}
        measured = fairness_table(
            {(run.name, weighting(run)): [part["prediction"].to_numpy() for part in wide]},
            wide[0]["target"].to_numpy(),
            columns,
        ).iloc[0]
        recipe = run.settings["recipe"]
        rows.append(
            {
                "model": run.backbone,
                **measured.to_dict(),
                "batch_size": recipe["batch_size"],
                "lr": recipe["lr"],
                "strategy": strategy(run),
            }
        )
    shown: list[Column] = [
        Column("model", "Model"),
        Column("loss", "Loss"),
        Column("weighting", "Weights"),
        Column("batch_size", "Batch size", "d"),
        Column("lr", "Learning rate", "g"),
        Column("strategy", "Training strategy"),
        Column("mae", "MAE", ".4f", "", "lowest"),
        Column("mae_std", "std", ".4f"),
    ]
    for name in groups:
        called = settings.target if name == BINS else name.replace("_", " ")
        shown.append(Column(f"{name}_bias", f"{called.capitalize()} bias", ".4f", "", "lowest"))
        shown.append(Column(f"{name}_bias_std", "std", ".4f"))
    note = (
        "Bias: the mean over all pairs of groups of the difference of their MAEs on test faces; 0 where all "
        "groups have the same error. Small groups alone make it large. std: over the networks of a run."
    )
    return Table(
        "networks_fairness", "Bias Tables 7 to 11: errors and biases", pd.DataFrame(rows), tuple(shown), note
    )
