"""Figures of whole networks: how uncertain they are, what they say of single faces, how they learnt."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from pipeline.evaluation.networks.measures import best_run, finished, mean_of
from pipeline.evaluation.networks.results import Run
from pipeline.evaluation.settings import Settings
from pipeline.report.charts import PALETTE, Axis, Chart, Line

ENOUGH = 10
"""Labels with fewer test faces are left out of UC Figure 6, as in the paper."""
CHOSEN = 4


def few(runs: Sequence[Run]) -> list[Run]:
    """As many runs as there are colours: those with the lowest validation error."""
    kept = sorted(runs, key=lambda run: mean_of(run, "val_mae"))[: len(PALETTE)]
    return [run for run in runs if run in kept]


def with_distributions(runs: Sequence[Run]) -> list[Run]:
    """Runs whose losses predict distributions."""
    return few([run for run in runs if run.distributions is not None])


def spread_per_label(runs: Sequence[Run], settings: Settings) -> Chart | None:
    """UC Figure 6: the average standard deviation of predicted distributions, at every label."""
    marks = []
    for colour, run in enumerate(with_distributions(runs)):
        test = run.test()
        first = test[test["column"] == test["column"].iloc[0]]
        counted = first.groupby(first["target"].round())
        means, counts = counted["spread"].mean(), counted["face_id"].nunique()
        kept = means[counts >= ENOUGH] if (counts >= ENOUGH).any() else means
        labels = [f"{run.title}<br>{at:g}: {value:.2f} ({counts[at]} faces)" for at, value in kept.items()]
        marks.append(Line(run.title, kept.index.tolist(), kept.tolist(), colour, labels=labels))
    if not marks:
        return None
    return Chart(
        name="networks_spread",
        title="Average standard deviation at every label (UC Figure 6)",
        alt=f"Line plot of the mean standard deviation of predicted distributions by {settings.target}, for "
        "each loss.",
        x=Axis(f"{settings.target} ({settings.unit})"),
        y=Axis(f"standard deviation ({settings.unit})", from_zero=True),
        marks=tuple(marks),
        caption=f"On test faces; labels with fewer than {ENOUGH} faces are left out where others have more.",
    )


def chosen_faces(runs: Sequence[Run], wanted: Sequence[str] = ()) -> list[str]:
    """Whose distributions are shown: those asked for, else from the most to the least certain prediction."""
    runs = with_distributions(runs)
    if not runs:
        return []
    run = best_run(runs)
    test = run.test(int(run.scores["member"].iloc[0]))
    test = test[test["column"] == test["column"].iloc[0]].sort_values(["spread", "face_id"])
    known = set(test["face_id"])
    if wanted:
        return [face for face in wanted if face in known]
    places = np.linspace(0, len(test) - 1, min(CHOSEN, len(test))).round().astype(int)
    return [str(test["face_id"].iloc[place]) for place in places]


def distributions(runs: Sequence[Run], face_id: str, settings: Settings) -> Chart:
    """UC Figures 4 and 5: what each loss's first network predicts for one face."""
    marks = []
    target = float("nan")
    for colour, run in enumerate(with_distributions(runs)):
        if run.distributions is None or run.labels is None:
            continue
        rows = (run.predictions["face_id"] == face_id) & (
            run.predictions["member"] == run.scores["member"].iloc[0]
        )
        if not rows.any():
            continue  # this run's labels leave the face out
        place = int(np.flatnonzero(rows.to_numpy())[0])
        row = run.predictions.iloc[place]
        target = float(row["target"])
        name = f"{run.title}: {row['prediction']:.1f} ± {row['spread']:.1f}"
        marks.append(Line(name, run.labels.tolist(), run.distributions[place].tolist(), colour))
    return Chart(
        name=f"networks_distribution_{face_id[:12]}",
        title=f"Predicted distributions for face {face_id[:12]} (UC Figures 4 and 5)",
        alt=f"Line plot of the probability of every label that each loss predicts for one face, whose "
        f"{settings.target} is {target:g}.",
        x=Axis(f"{settings.target} ({settings.unit})"),
        y=Axis("probability", from_zero=True),
        marks=tuple(marks),
        caption=f"The line marks the true {settings.target}, {target:g}; the legend has mean ± deviation.",
        reference=target,
    )


def learning_curves(runs: Sequence[Run], settings: Settings) -> Chart:
    """Validation error by epoch, the mean over a run's networks."""
    marks = []
    for colour, run in enumerate(few(runs)):
        means: pd.Series = run.history.groupby("epoch")["val_mae"].mean()
        marks.append(Line(run.title, means.index.tolist(), means.tolist(), colour))
    return Chart(
        name="networks_learning_curves",
        title="Validation error of whole networks by epoch",
        alt="Line plot of the mean absolute validation error after every epoch, for each loss and backbone.",
        x=Axis("epoch"),
        y=Axis(f"validation MAE ({settings.unit})"),
        marks=tuple(marks),
        caption="Means over the networks of a run.",
    )


def all_charts(runs: Sequence[Run], settings: Settings, wanted: Sequence[str] = ()) -> list[Chart]:
    """Every figure that the runs allow, in the report's order."""
    sound = finished(runs)
    return list(charts(sound, settings, wanted)) if sound else []


def charts(runs: Sequence[Run], settings: Settings, wanted: Sequence[str]) -> Iterator[Chart]:
    """See `all_charts`."""
    yield learning_curves(runs, settings)
    spread = spread_per_label(runs, settings)
    if spread is not None:
        yield spread
    for face_id in chosen_faces(runs, wanted):
        yield distributions(runs, face_id, settings)
