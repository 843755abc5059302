"""Tables of whole networks, in the columns of three papers, as far as the runs allow.

UC: Li et al., Unimodal-Concentrated Loss, 2022. Combo: Xu and Xiang, ComboLoss, 2020. Bias: the report on age
regression with bias control, 2022. Every number is a mean over a run's networks.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from pipeline.evaluation.networks.measures import (
    best_run,
    column_errors,
    finished,
    judged_faces,
    lost,
    mean_of,
    minutes,
)
from pipeline.evaluation.networks.results import Run
from pipeline.evaluation.settings import Settings
from pipeline.evaluation.table import Column, Table
from pipeline.metrics.unimodality import PROMINENCE
from pipeline.report.networks.comparisons import compared, fairness, with_diverged

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
            "diverged": [lost(run) for run in runs],
        }
    )
    shown: tuple[Column, ...] = (
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
        "the share of predicted distributions with a single peak; another counts if the way down from it to "
        f"a higher one is more than {PROMINENCE:.0%} of the highest probability."
    )
    told = [f"{run.title}: {why}" for run in runs for why in run.diverged[:1]]
    note = " ".join([note, *(["Diverged:", "; ".join(told) + "."] if told else [])])
    title = "Whole networks: every loss with every backbone"
    return Table("networks", title, frame, with_diverged(frame, shown), note)


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
        {
            "auxiliary": pair[0],
            "primary": pair[1],
            "backbone": run.backbone,
            "mae": mean_of(run, "test_mae"),
            "diverged": lost(run),
        }
        for run in runs
        if (pair := COMBINATIONS.get(run.settings["loss"]))
    ]
    if len(rows) < 2:
        return None
    frame = pd.DataFrame(rows)
    columns: tuple[Column, ...] = (
        Column("auxiliary", "Auxiliary"),
        Column("primary", "Primary"),
        Column("backbone", "Backbone"),
        Column("mae", "MAE", ".2f", "", "lowest"),
    )
    columns = with_diverged(frame, columns)
    return Table("networks_uc_combinations", "UC Tables 4 and 6: combinations", frame, columns)


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


def all_tables(runs: Sequence[Run], settings: Settings) -> list[Table]:
    """Every table that the runs allow, in the report's order; runs that diverged are in some of them."""
    sound = finished(runs)
    if not sound:
        return [overview(runs, settings)] if runs else []
    across = [overview(runs, settings), forms(sound), combinations(runs), combo(sound)]
    biased = fairness(sound, settings)
    counts = sorted({faces: len(faces) for faces in map(judged_faces, sound)}.values())
    if len(counts) > 1:
        across = [unranked(table, counts) for table in across if table is not None]
        biased = unranked(biased, counts)
    found = [*across, *compared(runs), biased, extremes(best_run(sound), settings)]
    return [table for table in found if table is not None]


def unranked(table: Table, counts: Sequence[int]) -> Table:
    """A table of runs that were judged on different faces: no number is marked as the best, and why."""
    columns = tuple(replace(column, best="") for column in table.columns)
    told = (
        f"Not every run was judged on the same test faces ({counts[0]} to {counts[-1]} predictions each), as "
        "where labels leave faces out: errors of different rows do not compare, and none is marked as best."
    )
    return replace(table, columns=columns, note=f"{table.note} {told}".strip())
