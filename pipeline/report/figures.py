"""The report's figures, as charts made of the evaluation's numbers."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pipeline.core.tables import atomic_file
from pipeline.evaluation.curves import quartiles
from pipeline.evaluation.group_tables import best_title, titled
from pipeline.evaluation.numbers import Evaluation
from pipeline.evaluation.results import Results
from pipeline.evaluation.settings import OVER, policy_title
from pipeline.report.charts import PALETTE, Axis, Bars, Chart, Dots, Intervals, Line, Strips
from pipeline.report.interactive import plotly_json
from pipeline.report.page import Picture
from pipeline.report.png import png

MEASURES = {"mae": ("training", 5), "val_mae": ("validation", 4), "test_mae": ("test", 0)}
PAPER = {
    ("distribution", "fixed"): " (the paper's Figure 7)",
    ("distribution", "found"): " (the paper's Figure 8)",
    ("error", "fixed"): " (the paper's Figure 9a)",
    ("error", "found"): " (the paper's Figure 9b)",
}


def write(shown: Sequence[Chart | Picture], folder: Path) -> None:
    """Write each as {name}.png, and each chart as {name}.json (Plotly) too."""
    for one in shown:
        with atomic_file(folder / f"{one.name}.png") as file:
            file.write(one.png if isinstance(one, Picture) else png(one))
        if isinstance(one, Chart):
            with atomic_file(folder / f"{one.name}.json") as file:
                file.write(plotly_json(one).encode() + b"\n")


def distributions(evaluation: Evaluation, policy: str) -> Chart:
    """The error of every model, by optimiser and split: Figure 7 (policy fixed) and Figure 8 (found)."""
    rows = evaluation.members[evaluation.members["policy"] == policy]
    unit = evaluation.settings.unit
    marks = []
    for measure, (split, colour) in MEASURES.items():
        scored = rows[rows[measure].notna()]
        labels = [
            f"{name}<br>seed {seed}<br>{split} MAE {value:.3f} {unit}"
            for name, seed, value in zip(scored["id"], scored["seed"], scored[measure], strict=True)
        ]
        names = [name.upper() for name in scored["optimizer"]]
        marks.append(Strips(split, names, scored[measure].tolist(), colour, labels))
    return Chart(
        name=f"distribution_{policy}",
        title=f"Error of every model, {policy_title(policy)}{PAPER.get(('distribution', policy), '')}",
        alt=f"Box and strip plot of the mean absolute error in {unit} of every model, for each optimiser on "
        f"training, validation and test faces, with the {policy_title(policy)}.",
        x=Axis("optimiser", categories=tuple(name.upper() for name in rows["optimizer"].unique())),
        y=Axis(f"MAE ({unit})"),
        marks=tuple(marks),
        caption="One point a model; the boxes hold the middle half, with the median.",
    )


def error_per_target(evaluation: Evaluation, policy: str) -> Chart:
    """The test error at every age, of a policy's three best models: Figure 9."""
    settings = evaluation.settings
    rows = evaluation.per_target[evaluation.per_target["policy"] == policy]
    marks = [
        Line(
            str(name),
            model["target"].tolist(),
            model["error"].tolist(),
            colour,
            labels=[
                f"{name}<br>{settings.target} {target:g}: {error:.2f} {settings.unit} ({faces} faces)"
                for target, error, faces in zip(model["target"], model["error"], model["faces"], strict=True)
            ],
        )
        for colour, (name, model) in enumerate(rows.groupby("id", sort=False))
    ]
    optimizer = evaluation.best[policy].upper()
    return Chart(
        name=f"error_per_target_{policy}",
        title=f"Error at every {settings.target}, {policy_title(policy)}{PAPER.get(('error', policy), '')}",
        alt=f"Line plot of the mean absolute test error at every {settings.target}, for the three "
        f"{optimizer} models with the lowest validation error.",
        x=Axis(f"{settings.target} ({settings.unit})"),
        y=Axis(f"MAE ({settings.unit})", from_zero=True),
        marks=tuple(marks),
        caption=f"The three {optimizer} models that are best on validation, on test faces.",
    )


def running_times(evaluation: Evaluation) -> Chart:
    """The mean time to train one model, by optimiser and policy: Figure 10."""
    timed = evaluation.members[evaluation.members["seconds"].notna()]
    marks = []
    for colour, (policy, rows) in enumerate(timed.groupby("policy", sort=False)):
        means = rows.groupby("optimizer", sort=False)["seconds"].mean()
        names = [str(name).upper() for name in means.index]
        labels = [
            f"{name}, {policy_title(str(policy))}: {seconds:.2f} s a model"
            for name, seconds in zip(names, means, strict=True)
        ]
        marks.append(Bars(policy_title(str(policy)), names, means.tolist(), colour, labels))
    return Chart(
        name="running_time",
        title="Running time of one model (the paper's Figure 10)",
        alt="Bar chart of the mean seconds it took to train one model, for each optimiser and policy.",
        x=Axis("optimiser", categories=tuple(name.upper() for name in timed["optimizer"].unique())),
        y=Axis("seconds a model", from_zero=True),
        marks=tuple(marks),
        caption="The time that one core spent on a model. Several train side by side, one on each core, so "
        "that all together take less than the sum.",
    )


def learning_curves(evaluation: Evaluation, policy: str) -> Chart:
    """Training and validation loss by epoch, the median over members."""
    rows = evaluation.curves[evaluation.curves["policy"] == policy]
    marks = []
    for colour, (optimizer, curve) in enumerate(rows.groupby("optimizer", sort=False)):
        name = str(optimizer).upper()
        epochs = curve["epoch"].tolist()
        for column, split in (("val_loss", "validation"), ("train_loss", "training")):
            faint = split == "training"
            low, high = ([], []) if faint else (curve["val_low"].tolist(), curve["val_high"].tolist())
            labels = [
                f"{name}, {split}<br>epoch {epoch}: {loss:.4g}"
                for epoch, loss in zip(epochs, curve[column], strict=True)
            ]
            marks.append(Line(name, epochs, curve[column].tolist(), colour, faint, low, high, labels))
    return Chart(
        name=f"learning_curves_{policy}",
        title=f"Learning curves, {policy_title(policy)}",
        alt="Line plot of the training and the validation loss by epoch, the median over all models of each "
        f"optimiser, with the {policy_title(policy)}.",
        x=Axis("epoch"),
        y=loss_axis("loss", marks),
        marks=tuple(marks),
        caption="Medians over the models still training, with the middle half of the validation losses "
        "shaded; thin: training. A curve ends where fewer than half of the models still train.",
    )


def loss_axis(label: str, marks: Sequence[Line | Dots]) -> Axis:
    """By powers of ten, unless a loss reaches 0 or below, as one that takes logarithms of variances may.

    Examples
    --------
    >>> loss_axis("loss", [Line("ADAM", [1, 2], [0.5, -0.1], 0)]).log
    False
    """
    drawn = [mark.y if isinstance(mark, Dots) else [*mark.y, *mark.low] for mark in marks]
    return Axis(label, log=all(value > 0 for values in drawn for value in values))


def lr_finder(results: Results) -> Chart:
    """The learning-rate finder's curves, the median over members, with the rates that members took."""
    marks: list[Line | Dots] = []
    found = [(run, run.lr_curves) for run in results.runs if run.lr_curves is not None]
    for colour, (run, curves) in enumerate(found):
        curve = quartiles(curves, "lr", "loss", len(run.scores))
        if curve.empty:
            continue
        name = run.optimizer.upper()
        low, middle, high = (curve[column] for column in ("low", "median", "high"))
        rates = middle.index.to_numpy(dtype=np.float64)
        labels = [f"{name}<br>rate {rate:.2g}: loss {loss:.4g}" for rate, loss in middle.items()]
        marks.append(
            Line(name, rates.tolist(), middle.tolist(), colour, False, low.tolist(), high.tolist(), labels)
        )
        taken, counts = np.unique(run.scores["lr"].to_numpy(dtype=np.float64), return_counts=True)
        height = np.interp(np.log(taken), np.log(rates), middle.to_numpy(dtype=np.float64))
        chosen = [
            f"{name}: {count} members take rate {rate:.3g}" for rate, count in zip(taken, counts, strict=True)
        ]
        marks.append(Dots("", taken.tolist(), height.tolist(), colour, chosen))
    return Chart(
        name="lr_finder",
        title="Learning-rate finder",
        alt="Line plot of the smoothed training loss against the learning rate of the range test, the median "
        "over all members of each optimiser, with points at the rates that were taken.",
        x=Axis("learning rate", log=True),
        y=loss_axis("smoothed loss", marks),
        marks=tuple(marks),
        caption="Medians over members, the middle half shaded; points mark the rates that members took.",
    )


def improvement(evaluation: Evaluation) -> Chart:
    """The probability that one method beats another at the same seed, with its interval."""
    rows = evaluation.improvement
    names = rows["title"].tolist()
    labels = [
        f"{name}: {row.probability:.2f} (95%: {row.low:.2f} to {row.high:.2f}), {row.seeds} seeds"
        for name, row in zip(names, rows.itertuples(), strict=True)
    ]
    values, low, high = (rows[name].tolist() for name in ("probability", "low", "high"))
    return Chart(
        name="improvement",
        title="Probability of improvement on test faces",
        alt="Points with 95% intervals: how probably one optimiser or policy has the lower test error than "
        "another when both start from the same seed.",
        x=Axis("probability at the same seed"),
        y=Axis("", categories=tuple(names)),
        marks=(Intervals("", names, values, low, high, 0, labels),),
        caption="Paired by seed, a tie counts half; the line at one half means no difference.",
        reference=0.5,
    )


def contenders(evaluation: Evaluation) -> Chart:
    """The test error of every way of predicting, with its interval."""
    rows = evaluation.contenders
    unit = evaluation.settings.unit
    kinds = {"baseline": ("baseline", 5), "model": ("network", 0), "ensemble": ("ensemble", 2)}
    kinds["optimistic"] = ("chosen on test: optimistic", 1)
    marks = []
    for kind, (name, colour) in kinds.items():
        some = rows[rows["kind"] == kind]
        labels = [
            f"{row.title}: {row.mae:.3f} {unit} (95%: {row.low:.3f} to {row.high:.3f})"
            for row in some.itertuples()
        ]
        values, low, high = (some[column].tolist() for column in ("mae", "low", "high"))
        if len(some):
            marks.append(Intervals(name, some["title"].tolist(), values, low, high, colour, labels))
    return Chart(
        name="contenders",
        title="Every way of predicting, on the same test faces",
        alt=f"Points with 95% intervals: the mean absolute error on test faces, in {unit}, of the "
        "baselines, of the networks chosen on validation and on test, and of the ensembles.",
        x=Axis(f"test MAE ({unit})", from_zero=True),
        y=Axis("", categories=tuple(rows["title"])),
        marks=tuple(marks),
        caption=f"Intervals say how far the error would move with other test faces of the same kind, {OVER}.",
    )


def group_errors(evaluation: Evaluation) -> Chart:
    """The test error of every group, of the contender that is best on validation."""
    title, settings = best_title(evaluation), evaluation.settings
    rows = evaluation.groups[evaluation.groups["title"] == title]
    marks, names = [], []
    for position, (column, some) in enumerate(rows.groupby("column", sort=False)):
        said = titled(settings)(str(column))
        categories = [f"{said}: {group}" for group in some["group"]]
        labels = [
            f"{name}: {row.mae:.3f} {settings.unit} (95%: {row.low:.3f} to {row.high:.3f}), {row.faces} faces"
            for name, row in zip(categories, some.itertuples(), strict=True)
        ]
        values, low, high = (some[key].tolist() for key in ("mae", "low", "high"))
        marks.append(Intervals(said, categories, values, low, high, position % len(PALETTE), labels))
        names += categories
    return Chart(
        name="group_errors",
        title="Test error by group of faces",
        alt=f"Points with 95% intervals: the mean absolute error on test faces, in {settings.unit}, of every "
        f"group, predicted by the {title}.",
        x=Axis(f"test MAE ({settings.unit})", from_zero=True),
        y=Axis("", categories=tuple(names)),
        marks=tuple(marks),
        caption=f"Predicted by the {title}, the best on validation. A single face or subject has none.",
    )


def all_charts(results: Results, evaluation: Evaluation) -> list[Chart]:
    """Every figure that these results allow, in the report's order."""
    return list(charts(results, evaluation))


def charts(results: Results, evaluation: Evaluation) -> Iterator[Chart]:
    """See `all_charts`."""
    yield contenders(evaluation)
    for policy in results.policies:
        yield distributions(evaluation, policy)
    if len(evaluation.improvement):
        yield improvement(evaluation)
    for policy in evaluation.best:
        yield error_per_target(evaluation, policy)
    if len(evaluation.groups):
        yield group_errors(evaluation)
    if any(run.lr_curves is not None for run in results.runs):
        yield lr_finder(results)
    for policy in evaluation.curves["policy"].unique():
        yield learning_curves(evaluation, policy)
    if evaluation.members["seconds"].notna().any():
        yield running_times(evaluation)
