"""Figures of a study: how it went on, what mattered, and what it gained."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.evaluation.settings import Settings
from pipeline.evaluation.study_results import SPLITS, StudyResults, shown, titles
from pipeline.report.charts import Axis, Bars, Chart, Dots, Line, Paths, Strips

BEST_SHARE = 0.25


def label_of(row: Any, found: StudyResults, unit: str) -> str:
    """A trial in words."""
    values = "<br>".join(f"{name} {shown(getattr(row, name))}" for name in found.scales)
    value = "" if pd.isna(row.value) else f"<br>validation MAE {row.value:.3f} {unit}"
    return f"trial {row.trial}, {row.end} after {row.epochs} epochs<br>{values}{value}"


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
    spans = [f"{name} {span(rows[name])}" for name, scale in found.scales.items() if scale != "category"]
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
        caption="Each axis runs from the lowest value tried to the highest, on the scale it was searched on: "
        + "; ".join([*spans, f"validation MAE {span(rows['value'])} {settings.unit}"])
        + ".",
    )


def span(values: "pd.Series[Any]") -> str:
    """The lowest and the highest of some numbers.

    Examples
    --------
    >>> span(pd.Series([0.003, 2e-5, 0.01]))
    '2e-05 to 0.01'
    """
    return f"{values.min():.3g} to {values.max():.3g}"


def place(values: "pd.Series[Any]", scale: str) -> NDArray[np.float64]:
    """Where values stand between the lowest and the highest, from 0 to 1."""
    if scale == "category":
        numbers = pd.Categorical(values.map(shown)).codes.astype(np.float64)
    else:
        numbers = values.to_numpy(dtype=np.float64)
        numbers = np.log(numbers) if scale == "log" else numbers
    low, high = (numbers.min(), numbers.max()) if len(numbers) else (0.0, 0.0)
    return (numbers - low) / (high - low) if high > low else np.full(len(numbers), 0.5)


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
