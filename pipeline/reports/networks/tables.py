"""Tables of whole networks, in the columns of three papers, as far as the runs allow.

UC: Li et al., Unimodal-Concentrated Loss, 2022. Combo: Xu and Xiang, ComboLoss, 2020. Bias: the report on age
regression with bias control, 2022. Every number is a mean over a run's networks.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any, Literal

import numpy as np
import pandas as pd

from pipeline.metrics import fairness_table
from pipeline.reports.networks.results import BINS, PREDICTIONS, Run
from pipeline.reports.settings import Settings
from pipeline.reports.table import Column, Table

FORMS = {
    **dict.fromkeys(("dldl", "dldl_v2"), "FLDL"),
    **dict.fromkeys(
        (
            *("mean_variance", "unimodal", "concentrated", "unimodal_concentrated"),
            *("softmax_concentrated", "unimodal_mean_variance", "label_distribution"),
        ),
        "ALDL",
    ),
}
COMBINATIONS = {
    "softmax_concentrated": ("Softmax", "Concentrated"),
    "unimodal_concentrated": ("Unimodal", "Concentrated"),
    "mean_variance": ("Softmax", "Mean & Variance"),
    "unimodal_mean_variance": ("Unimodal", "Mean & Variance"),
    "unimodal": ("Unimodal", "-"),
    "concentrated": ("-", "Concentrated"),
}
ANGLES = ("yaw", "pitch", "roll")
EXTREMES = 6
"""How many of the best and worst predictions are listed, as in ComboLoss's Figure 2."""


def mean_of(run: Run, column: str) -> float:
    """A score's mean over a run's networks, NaN where none has it."""
    return float(run.scores[column].astype(np.float64).mean())


def column_errors(run: Run) -> dict[str, float]:
    """The test error of each predicted column."""
    test = run.test()
    errors = (test["prediction"] - test["target"]).abs()
    return {str(column): float(error) for column, error in errors.groupby(test["column"]).mean().items()}


def minutes(run: Run) -> float:
    """Minutes to train one network."""
    return np.nan if run.seconds is None else float(run.seconds.mean()) / 60


def overview(runs: Sequence[Run], settings: Settings) -> Table:
    """Every run: what UC Table 3 and Combo Tables 3 to 5 compare, side by side."""
    frame = pd.DataFrame(
        {
            "loss": [run.name for run in runs],
            "backbone": [run.backbone for run in runs],
            "networks": [len(run.scores) for run in runs],
            "mae": [mean_of(run, "test_mae") for run in runs],
            "mae_std": [float(run.scores["test_mae"].std()) for run in runs],
            "rmse": [mean_of(run, "test_rmse") for run in runs],
            "pc": [mean_of(run, "test_pearson") for run in runs],
            "within": [mean_of(run, "test_within") for run in runs],
            "unimodal": [mean_of(run, "test_unimodal") for run in runs],
            "modes": [mean_of(run, "test_modes") for run in runs],
            "val_mae": [mean_of(run, "val_mae") for run in runs],
            "train_mae": [mean_of(run, "mae") for run in runs],
            "minutes": [minutes(run) for run in runs],
        }
    )
    shown = (
        Column("loss", "loss"),
        Column("backbone", "backbone"),
        Column("networks", "networks", "d"),
        Column("mae", "MAE", ".3f", "test", "lowest"),
        Column("mae_std", "std over seeds", ".3f", "test"),
        Column("rmse", "RMSE", ".3f", "test", "lowest"),
        Column("pc", "PC", ".4f", "test", "highest"),
        Column("within", f"CS@{settings.within:g}", ".1%", "test", "highest"),
        Column("unimodal", "one mode", ".1%", "distributions", "highest"),
        Column("modes", "modes", ".2f", "distributions"),
        Column("val_mae", "validation MAE", ".3f", "other splits"),
        Column("train_mae", "training MAE", ".3f", "other splits"),
        Column("minutes", "minutes a network", ".1f", "time"),
    )
    note = (
        f"Means over the networks of a run; errors in {settings.unit}. PC: Pearson's correlation. One mode: "
        "the share of predicted distributions with a single peak."
    )
    return Table("networks", "Whole networks: every loss with every backbone", frame, shown, note)


def forms(runs: Sequence[Run]) -> Table | None:
    """UC Tables 1 and 3: loss, form of the label distribution, MAE; UC Table 2 for three angles."""
    angles = all(set(ANGLES) <= set(column_errors(run)) for run in runs)
    rows = []
    for run in runs:
        form = FORMS.get(run.settings["loss"], "Non-LDL")
        row: dict[str, Any] = {"loss": run.name, "form": form, "backbone": run.backbone}
        errors = column_errors(run)
        row |= {name: errors[name] for name in ANGLES} if angles else {}
        rows.append(row | {"mean": mean_of(run, "test_mae")})
    keys = [*ANGLES, "mean"] if angles else ["mean"]
    labels = {"mean": "Mean" if angles else "MAE"}
    columns = (
        Column("loss", "Loss"),
        Column("form", "Form"),
        Column("backbone", "Backbone"),
        *(Column(key, labels.get(key, key.capitalize()), ".2f", "", "lowest") for key in keys),
    )
    title = (
        "UC Table 2: MAE of each angle" if angles else "UC Tables 1 and 3: MAE by form of the distribution"
    )
    return Table("networks_uc_forms", title, pd.DataFrame(rows), columns)


def combinations(runs: Sequence[Run]) -> Table | None:
    """UC Tables 4 and 6: auxiliary and primary loss, MAE."""
    rows = [
        {"auxiliary": pair[0], "primary": pair[1], "backbone": run.backbone, "mae": mean_of(run, "test_mae")}
        for run in runs
        if (pair := COMBINATIONS.get(run.settings["loss"]))
    ]
    if len(rows) < 2:
        return None
    columns = (
        Column("auxiliary", "Auxiliary"),
        Column("primary", "Primary"),
        Column("backbone", "Backbone"),
        Column("mae", "MAE", ".2f", "", "lowest"),
    )
    return Table("networks_uc_combinations", "UC Tables 4 and 6: combinations", pd.DataFrame(rows), columns)


def combo(runs: Sequence[Run]) -> Table:
    """Combo Tables 3, 4 and 5: model, loss function, MAE, RMSE, PC."""
    frame = pd.DataFrame(
        {
            "model": [run.backbone for run in runs],
            "loss": [run.name for run in runs],
            "mae": [mean_of(run, "test_mae") for run in runs],
            "rmse": [mean_of(run, "test_rmse") for run in runs],
            "pc": [mean_of(run, "test_pearson") for run in runs],
        }
    )
    columns = (
        Column("model", "Model"),
        Column("loss", "Loss Function"),
        Column("mae", "MAE", ".4f", "", "lowest"),
        Column("rmse", "RMSE", ".4f", "", "lowest"),
        Column("pc", "PC", ".4f", "", "highest"),
    )
    title = "Combo Tables 3 to 5: losses and backbones"
    return Table("networks_combo", title, frame.sort_values("model", kind="stable"), columns)


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
                rows.append({**found, **errors, "minutes": minutes(run)})
        if rows:
            columns = (
                Column("value", heading, "g" if aspect in ("lambda", "lr") else ""),
                Column("loss", "Loss"),
                Column("backbone", "Backbone"),
                Column("val_loss", "Validation Loss", ".4g"),
                Column("mae", "MAE", ".3f", "", "lowest"),
                Column("minutes", "Time (in mins)", ".1f"),
            )
            yield Table(f"networks_by_{aspect}", title, pd.DataFrame(rows), columns)


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
    ]
    for name in groups:
        best: Literal["lowest"] = "lowest"
        called = settings.target if name == BINS else name.replace("_", " ")
        shown.append(Column(f"{name}_bias", f"{called.capitalize()} bias", ".4f", "", best))
    note = (
        "Bias: the mean over all pairs of groups of the difference of their MAEs on test faces; 0 where all "
        "groups have the same error. Small groups alone make it large."
    )
    return Table(
        "networks_fairness", "Bias Tables 7 to 11: errors and biases", pd.DataFrame(rows), tuple(shown), note
    )


def extremes(run: Run, settings: Settings) -> Table:
    """The best and worst predictions of a run's first network, as in Combo Figure 2."""
    test = run.test(int(run.scores["member"].iloc[0])).copy()
    test["error"] = (test["prediction"] - test["target"]).abs()
    test = test.sort_values(["error", "face_id"])
    count = min(EXTREMES, len(test) // 2)
    chosen = pd.concat([test.head(count).assign(which="best"), test.tail(count)[::-1].assign(which="worst")])
    columns = [
        Column("which", "which"),
        Column("face_id", "face"),
        Column("column", "predicted"),
        Column("target", settings.target, ".2f"),
        Column("prediction", "prediction", ".2f"),
        Column("error", f"error ({settings.unit})", ".2f"),
    ]
    if "spread" in chosen:
        columns.append(Column("spread", "its own standard deviation", ".2f"))
    frame = chosen[[column.key for column in columns]].reset_index(drop=True)
    return Table("networks_extremes", f"Best and worst predictions of {run.title}", frame, tuple(columns))


def best_run(runs: Sequence[Run]) -> Run:
    """The run with the lowest validation error."""
    return min(runs, key=lambda run: mean_of(run, "val_mae"))


def all_tables(runs: Sequence[Run], settings: Settings) -> list[Table]:
    """Every table that the runs allow, in the report's order."""
    if not runs:
        return []
    found = [overview(runs, settings), forms(runs), combinations(runs), combo(runs), *compared(runs)]
    found += [fairness(runs, settings), extremes(best_run(runs), settings)]
    return [table for table in found if table is not None]
