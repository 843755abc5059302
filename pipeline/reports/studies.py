"""A study of settings as a section of the page: what was tried, what mattered, and what it gained."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics.distributions import describe, probability_of_improvement
from pipeline.reports.charts import Axis, Bars, Chart, Dots, Line, Paths, Strips
from pipeline.reports.page import Section
from pipeline.reports.results import REAL, TEXT, WHOLE, YES_NO, columns, read_frame
from pipeline.reports.settings import Settings, policy_title
from pipeline.reports.table import Column, Table
from pipeline.tables import open_table, producer_of

TRIALS = columns(("value",), trial=WHOLE, end=TEXT, value=REAL, epochs=WHOLE)
REACHED = columns(trial=WHOLE, epoch=WHOLE, value=REAL)
IMPORTANCE = columns(setting=TEXT, importance=REAL)
COMPARISON = columns(
    ("mae", "val_mae", "test_mae"),
    policy=TEXT,
    member=WHOLE,
    seed=WHOLE,
    lr=REAL,
    diverged=YES_NO,
    mae=REAL,
    val_mae=REAL,
    test_mae=REAL,
)
STUDY = "study"
ENDS = {"complete": ("complete", 0), "pruned": ("pruned", 5), "diverged": ("diverged", 1)}
SPLITS = {"val_mae": ("validation", 4), "test_mae": ("test", 0)}
BEST_SHARE = 0.25


@dataclass(frozen=True)
class StudyResults:
    """A study's tables; `scales` says of each setting whether it is `log`, `linear` or a `category`."""

    trials: pd.DataFrame
    reached: pd.DataFrame
    importance: pd.DataFrame
    comparison: pd.DataFrame
    scales: dict[str, str]
    optimizer: str

    @property
    def complete(self) -> pd.DataFrame:
        """The trials that have a value, best first."""
        return self.trials[self.trials["value"].notna()].sort_values("value", kind="stable")


def read(folder: Path) -> StudyResults | None:
    """Read studies/, or None where no study has been made.

    Raises
    ------
    UserError
        A table is missing while others are there, is damaged or lacks a column.
    """
    path = folder / "trials.parquet"
    if not path.exists():
        return None
    recorded = producer_of(path)["settings"]
    names = [name for name in open_table(path).schema_arrow.names if name != "members"]
    return StudyResults(
        read_frame(path, TRIALS, extra=[name for name in names if name not in TRIALS.names]),
        read_frame(folder / "reached.parquet", REACHED),
        read_frame(folder / "importance.parquet", IMPORTANCE),
        read_frame(folder / "comparison.parquet", COMPARISON),
        recorded["scales"],
        recorded["optimizer"],
    )


def section(found: StudyResults, settings: Settings) -> Section:
    """The section of the page."""
    blocks: list[Table | Chart] = [comparison(found, settings), comparison_table(found, settings)]
    blocks += charts(found, settings)[1:]
    blocks.append(trial_table(found, settings))
    ends = found.trials["end"].value_counts()
    intro = (
        f"Optuna tried {len(found.trials)} settings ({ends.get('pruned', 0)} pruned, "
        f"{ends.get('diverged', 0)} diverged), each judged by the mean validation error of several models; "
        "test faces took no part. The best settings were then trained again from the seeds that the fixed "
        "and the found rate were given."
    )
    return Section("Study of settings", intro, tuple(blocks))


def charts(found: StudyResults, settings: Settings) -> list[Chart]:
    """Every figure of the section; the comparison first."""
    drawn = [comparison(found, settings), history(found, settings)]
    drawn += [slice_of(found, name, settings) for name in found.scales]
    if len(found.importance) > 1:
        drawn.append(importance(found))
    return [*drawn, parallel(found, settings)]


def label_of(row: Any, found: StudyResults, unit: str) -> str:
    """A trial in words."""
    values = "<br>".join(f"{name} {shown(getattr(row, name))}" for name in found.scales)
    value = "" if pd.isna(row.value) else f"<br>validation MAE {row.value:.3f} {unit}"
    return f"trial {row.trial}, {row.end} after {row.epochs} epochs<br>{values}{value}"


def shown(value: Any) -> str:
    """A setting as text."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def history(found: StudyResults, settings: Settings) -> Chart:
    """Every trial in the order of the study, and the best so far."""
    rows = found.trials[found.trials["value"].notna()].sort_values("trial")
    labels = [label_of(row, found, settings.unit) for row in rows.itertuples()]
    best = np.minimum.accumulate(rows["value"].to_numpy(dtype=np.float64))
    numbers = rows["trial"].tolist()
    marks: list[Line | Dots] = [
        Line("best so far", numbers, best.tolist(), 1),
        Dots("complete", numbers, rows["value"].tolist(), 0, labels),
    ]
    lost = found.trials[found.trials["value"].isna()]
    reached = found.reached.groupby("trial")["value"].last()
    ended = lost[lost["trial"].isin(reached.index)]
    if len(ended):
        words = [label_of(row, found, settings.unit) for row in ended.itertuples()]
        heights = reached.loc[ended["trial"]].tolist()
        marks.append(Dots("pruned, where it ended", ended["trial"].tolist(), heights, 5, words))
    return Chart(
        name="study_history",
        title="History of the study",
        alt="Scatter plot of each trial's mean validation error by the trial's number, with a line for the "
        "lowest error so far.",
        x=Axis("trial"),
        y=Axis(f"mean validation MAE ({settings.unit})"),
        marks=tuple(marks),
        caption="Trials that were pruned stand at the error they had reached.",
    )


def slice_of(found: StudyResults, name: str, settings: Settings) -> Chart:
    """The value of every complete trial by one setting."""
    rows = found.complete
    labels = [label_of(row, found, settings.unit) for row in rows.itertuples()]
    values = rows["value"].tolist()
    axis = Axis(name, log=found.scales[name] == "log")
    marks: tuple[Dots | Strips, ...] = (Dots("", rows[name].tolist(), values, 0, labels),)
    if found.scales[name] == "category":
        words = [shown(value) for value in rows[name]]
        axis = Axis(name, categories=tuple(sorted(set(words))))
        marks = (Strips("complete trials", words, values, 0, labels),)
    return Chart(
        name=f"study_slice_{name}",
        title=f"Validation error by {name}",
        alt=f"Scatter plot of every complete trial's mean validation error by its {name}.",
        x=axis,
        y=Axis(f"mean validation MAE ({settings.unit})"),
        marks=marks,
        caption="One point a trial; other settings vary too, where several are searched.",
    )


def importance(found: StudyResults) -> Chart:
    """The share of the error's variance that each setting explains."""
    rows = found.importance
    labels = [f"{row.setting}: {row.importance:.0%}" for row in rows.itertuples()]
    return Chart(
        name="study_importance",
        title="Which setting mattered",
        alt="Bar chart of the share of the variance among complete trials that each setting explains.",
        x=Axis("setting", categories=tuple(rows["setting"])),
        y=Axis("importance (fANOVA)", from_zero=True),
        marks=(Bars("importance", rows["setting"].tolist(), rows["importance"].tolist(), 0, labels),),
        caption="fANOVA over the complete trials; the shares add up to 1. Few trials give rough shares.",
    )


def parallel(found: StudyResults, settings: Settings) -> Chart:
    """Every complete trial as a path through its settings to its value: parallel coordinates."""
    rows = found.complete
    places = [place(rows[name], scale) for name, scale in found.scales.items()]
    heights = np.stack([*places, place(rows["value"], "linear")], axis=1).reshape(len(rows), -1)
    labels = [label_of(row, found, settings.unit) for row in rows.itertuples()]
    names = [*found.scales, "validation MAE"]
    first = max(1, round(BEST_SHARE * len(rows)))
    parts = (("other trials", 5, slice(first, None)), ("best quarter", 1, slice(0, first)))
    marks = tuple(
        Paths(title, names, heights[part].tolist(), colour, labels[part])
        for title, colour, part in parts
        if len(labels[part])
    )
    return Chart(
        name="study_parallel",
        title="Parallel coordinates",
        alt="Parallel coordinates: every complete trial is a line through its settings to its error.",
        x=Axis("", categories=tuple(names)),
        y=Axis("from the lowest to the highest value tried"),
        marks=marks,
        caption="Each axis runs from the lowest value tried to the highest, on the scale it was searched on.",
    )


def place(values: "pd.Series[Any]", scale: str) -> NDArray[np.float64]:
    """Where values stand between the lowest and the highest, from 0 to 1."""
    if scale == "category":
        numbers = pd.Categorical(values.map(shown)).codes.astype(np.float64)
    else:
        numbers = values.to_numpy(dtype=np.float64)
        numbers = np.log(numbers) if scale == "log" else numbers
    low, high = (numbers.min(), numbers.max()) if len(numbers) else (0.0, 0.0)
    return (numbers - low) / (high - low) if high > low else np.full(len(numbers), 0.5)


def titles(found: StudyResults) -> dict[str, str]:
    """The policies in words, in their order."""
    names = dict.fromkeys(found.comparison["policy"])
    return {name: "best of the study" if name == STUDY else policy_title(name) for name in names}


def comparison(found: StudyResults, settings: Settings) -> Chart:
    """The errors of the study's best settings beside those of the other policies, seed by seed."""
    rows = found.comparison
    words = titles(found)
    marks = []
    for measure, (split, colour) in SPLITS.items():
        scored = rows[rows[measure].notna()]
        labels = [
            f"{words[str(row.policy)]}<br>seed {row.seed}, rate {row.lr:.3g}<br>{split} MAE "
            f"{getattr(row, measure):.3f} {settings.unit}"
            for row in scored.itertuples()
        ]
        names = [words[policy] for policy in scored["policy"]]
        marks.append(Strips(split, names, scored[measure].tolist(), colour, labels))
    return Chart(
        name="study_comparison",
        title=f"The study's settings over the same seeds, {found.optimizer.upper()}",
        alt=f"Box and strip plot of validation and test error in {settings.unit} of models from the same "
        "seeds: with the fixed rate, with rates from the finder, and with the study's best settings.",
        x=Axis("settings", categories=tuple(words.values())),
        y=Axis(f"MAE ({settings.unit})"),
        marks=tuple(marks),
        caption="One point a model; all were trained for as many epochs as those of the other policies.",
    )


def comparison_table(found: StudyResults, settings: Settings) -> Table:
    """Each policy's errors, and how probably the study is better at the same seed."""
    rows = found.comparison
    by_policy = {policy: rows[rows["policy"] == policy].sort_values("member") for policy in titles(found)}
    ours = by_policy[STUDY]
    made = []
    for policy, title in titles(found).items():
        own = by_policy[policy]
        row: dict[str, Any] = {"policy": title, "lr": float(own["lr"].median())}
        for measure, (split, _) in SPLITS.items():
            described = describe(own[measure].to_numpy(dtype=np.float64), resamples=2)
            row |= {
                f"{split}_mean": described.mean,
                f"{split}_std": described.std,
                f"{split}_min": described.min,
            }
        row["diverged"] = int(own["diverged"].sum())
        better = None
        if policy != STUDY:
            better = probability_of_improvement(
                ours["test_mae"].to_numpy(dtype=np.float64),
                own["test_mae"].to_numpy(dtype=np.float64),
                seed=settings.seed,
                resamples=settings.resamples,
            )
        row["better"] = np.nan if better is None else better.point
        row["interval"] = "–" if better is None else f"{better.low:.2f} to {better.high:.2f}"
        made.append(row)
    listed = [Column("policy", "settings"), Column("lr", "learning rate (median)", ".3g")]
    for split, _ in SPLITS.values():
        listed += [
            Column(f"{split}_mean", "mean", ".3f", split, "lowest"),
            Column(f"{split}_std", "std", ".3f", split),
            Column(f"{split}_min", "min", ".3f", split),
        ]
    listed += [
        Column("diverged", "diverged", "d"),
        Column("better", "study better on test, same seed", ".2f"),
        Column("interval", "95% interval"),
    ]
    return Table(
        "study_comparison",
        "The study's settings against the fixed and the found rate",
        pd.DataFrame(made),
        tuple(listed),
        f"MAE in {settings.unit}, over {len(ours)} seeds that the study did not use; the last columns say "
        "how probably the study's model has the lower test error when both start from the same seed.",
    )


def trial_table(found: StudyResults, settings: Settings) -> Table:
    """Every trial, best first."""
    frame = pd.concat([found.complete, found.trials[found.trials["value"].isna()]])
    listed = [Column("trial", "trial", "d"), Column("end", "end"), Column("epochs", "epochs", "d")]
    listed += [Column(name, name, shown) for name in found.scales]
    listed.append(Column("value", f"mean validation MAE ({settings.unit})", ".4f", best="lowest"))
    return Table("study_trials", "All trials", frame.reset_index(drop=True), tuple(listed), long=True)
