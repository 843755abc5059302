"""The report's tables: the paper's Tables 2 to 5 with more statistics, and those beyond it."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import pandas as pd

from pipeline.evaluation import group_tables
from pipeline.evaluation.numbers import MEASURES, TOP, Evaluation
from pipeline.evaluation.settings import OVER, policy_title
from pipeline.evaluation.table import Column, Table

SPLITS = {"mae": "training MAE", "val_mae": "validation MAE", "test_mae": "test MAE"}
NUMBERS = {"fixed": (2, 4), "found": (3, 5)}


def named(policy: str, position: int, otherwise: str) -> tuple[str, str]:
    """A table's file name and the start of its title: the paper's number where it has one."""
    if policy not in NUMBERS:
        return f"{otherwise}_{policy}", "Table"
    number = NUMBERS[policy][position]
    return f"table{number}_{policy}", f"Table {number}"


def statistics(evaluation: Evaluation, policy: str) -> Table:
    """Tables 2 and 3: min, mean and std of each optimiser's errors on each split; then what is beyond."""
    name, title = named(policy, 0, "statistics")
    rows = evaluation.summary[evaluation.summary["policy"] == policy]
    wide = rows.pivot(index="optimizer", columns="measure").loc[rows["optimizer"].unique()]
    frame = pd.DataFrame({"optimiser": [str(name).upper() for name in wide.index]})
    columns = [Column("optimiser", "optimiser")]
    for measure in MEASURES:
        for statistic in ("min", "mean", "std"):
            frame[f"{measure}_{statistic}"] = wide[(statistic, measure)].to_numpy(dtype=np.float64)
            columns.append(Column(f"{measure}_{statistic}", statistic, ".2f", SPLITS[measure], "lowest"))
    # The paper's criterion for the best optimiser, section 4.2.
    smallest = frame[[column.key for column in columns[1:]]]
    frame["wins"] = (smallest == smallest.min()).sum(axis=1)
    columns.append(Column("wins", "lowest, of nine", "d", "", "highest"))
    for statistic, label in (("median", "median"), ("iqm", "IQM"), ("iqm_low", "from"), ("iqm_high", "to")):
        frame[f"test_mae_{statistic}"] = wide[(statistic, "test_mae")].to_numpy(dtype=np.float64)
        best: Literal["", "lowest"] = "" if "_" in statistic else "lowest"
        columns.append(Column(f"test_mae_{statistic}", label, ".3f", "test MAE, IQM with 95% interval", best))
    for count in ("members", "diverged"):
        frame[count] = wide[(count, "test_mae")].to_numpy(dtype=np.int64)
        columns.append(Column(count, count, "d", "models"))
    unit = evaluation.settings.unit
    return Table(
        name,
        f"{title}: MAE of all models in {unit}, {policy_title(policy)}",
        frame,
        tuple(columns),
        "std is the sample standard deviation (n − 1). IQM is the mean of the middle half of the models; its "
        "interval is a bootstrap over seeds. 'Lowest, of nine' is the paper's criterion: in how many of the "
        "nine columns before it an optimiser has the lowest number. Diverged models are left out: where "
        "many did, those numbers are of the few that are left.",
    )


def winners(evaluation: Evaluation, policy: str) -> Table:
    """Tables 4 and 5: every seed of a policy's best optimiser, the top three marked."""
    name, title = named(policy, 1, "models")
    best = evaluation.best[policy]
    rows = evaluation.members
    frame = rows[(rows["policy"] == policy) & (rows["optimizer"] == best)].reset_index(drop=True)
    frame = frame.drop(columns=["policy", "optimizer"])
    frame["top"] = [top(one, other) for one, other in zip(frame["rank_val"], frame["rank_test"], strict=True)]
    columns = [
        Column("id", "id"),
        Column("seed", "seed", "d"),
        Column("lr", "learning rate", ".3g"),
        Column("val_mae", "validation MAE", ".3f", best="lowest"),
        Column("test_mae", "test MAE", ".3f", best="lowest"),
        Column("epochs", "epochs", "d"),
    ]
    if frame["seconds"].notna().any():
        columns.append(Column("seconds", "seconds", ".1f"))
    columns.append(Column("top", "top three on"))
    return Table(
        name,
        f"{title}: every {best.upper()} model, {policy_title(policy)}",
        frame,
        tuple(columns),
        f"{best.upper()} has the lowest mean validation error of this policy, among the optimisers of which "
        "at most a tenth of the models diverged (or, where there are none, the smallest share). Shaded: the "
        "three best on validation, which is how a model may be chosen. The paper takes the three best on "
        "test.",
        frozenset(np.flatnonzero(frame["rank_val"] <= TOP).tolist()),
    )


def top(rank_val: float, rank_test: float) -> str:
    """In words, whether a model is among the first three."""
    places = [("validation", rank_val), ("test", rank_test)]
    return ", ".join(f"{where} ({rank:.0f})" for where, rank in places if rank <= TOP)


def all_members(evaluation: Evaluation) -> Table:
    """Every model of every run."""
    frame = evaluation.members
    names = evaluation.settings.metrics
    columns = [
        Column("id", "id"),
        Column("policy", "policy"),
        Column("optimizer", "optimiser", str.upper),
        Column("seed", "seed", "d"),
        Column("lr", "learning rate", ".3g"),
        Column("epochs", "epochs", "d"),
        Column("best_epoch", "best epoch", "d"),
        Column("diverged", "diverged"),
        *(Column(measure, label, ".3f", best="lowest") for measure, label in SPLITS.items()),
        *(
            Column(f"test_{key}", f"test {label}", format_of(key))
            for key, label in names.items()
            if key != "mae"
        ),
    ]
    return Table("members", "Every model", frame, tuple(columns), long=True)


def improvement(evaluation: Evaluation) -> Table:
    """Probabilities of improvement between any two optimisers, and between the policies."""
    columns = (
        Column("title", "comparison"),
        Column("seeds", "seeds", "d"),
        Column("probability", "probability", ".2f"),
        Column("low", "from", ".2f"),
        Column("high", "to", ".2f"),
    )
    return Table(
        "improvement",
        "Probability that the first has the lower test error at the same seed",
        evaluation.improvement,
        columns,
        "With 95% bootstrap intervals over seeds; an interval that holds 0.50 shows no difference.",
        long=True,
    )


def pooled(evaluation: Evaluation) -> Table:
    """The policies as a whole."""
    columns = (
        Column("policy", "policy"),
        Column("members", "models", "d"),
        Column("iqm", "test MAE, IQM", ".3f", best="lowest"),
        Column("iqm_low", "from", ".3f"),
        Column("iqm_high", "to", ".3f"),
        Column("left_out", "left out"),
    )
    note = (
        "Over the same optimisers and the same seeds, all of which ended well under every policy: those that "
        "keep the most models. The 95% interval is a bootstrap over seeds, each with all its optimisers: a "
        "hard seed is hard for all. Whether policies differ is in the next table: they share their seeds "
        "too, so that these intervals may overlap all the same."
    )
    return Table("policies", "The two policies", evaluation.pooled, columns, note)


def policies_compared(evaluation: Evaluation) -> Table:
    """The policies against each other, seed by seed."""
    columns = (
        Column("first", "first"),
        Column("second", "second"),
        Column("models", "pairs of models", "d"),
        Column("difference", "first minus second", "+.3f"),
        Column("low", "from", "+.3f"),
        Column("high", "to", "+.3f"),
    )
    note = (
        "The interquartile mean of the differences in test MAE at the same seed of the same optimiser, with "
        "a 95% bootstrap interval over seeds, each with all its optimisers; an interval that holds 0 shows "
        "no difference."
    )
    return Table("policy_difference", "The policies seed by seed", evaluation.policies, columns, note)


def choices(evaluation: Evaluation) -> Table:
    """What choosing a model, or averaging models, gives on the test faces."""
    columns = (
        Column("policy", "policy"),
        Column("optimizer", "optimiser", str.upper),
        Column("mean", "mean model", ".3f", "test MAE", "lowest"),
        Column("validation_choice", "chosen on validation", ".3f", "test MAE", "lowest"),
        Column("test_choice", "chosen on test (optimistic)", ".3f", "test MAE"),
        Column("ensemble_all", "ensemble of all", ".3f", "test MAE", "lowest"),
        Column("ensemble_five", "ensemble of five best", ".3f", "test MAE", "lowest"),
        Column("chosen_on_validation", "on validation", "", "the model chosen"),
        Column("chosen_on_test", "on test", "", "the model chosen"),
    )
    return Table(
        "choices",
        "Choosing one model, or averaging many",
        evaluation.choices,
        columns,
        "Choosing on the test faces, as the paper does, lets them take part in the choice: its number is "
        "optimistic and shown for comparison only. The five best are those on validation.",
    )


def format_of(metric: str) -> str:
    """How one of `Settings.metrics` reads: a share of faces in percent, all else as numbers."""
    return ".1%" if metric == "cs" else ".3f"


def contenders(evaluation: Evaluation) -> Table:
    """Every way of predicting with all its metrics."""
    lower = ("mae", "rmse")
    columns = [
        Column("title", "prediction by"),
        Column("val_mae", "validation MAE", ".3f", best="lowest"),
    ]
    for key, label in evaluation.settings.metrics.items():
        best: Literal["lowest", "highest"] = "lowest" if key in lower else "highest"
        columns.append(Column(key, label, format_of(key), "test", best))
        if key == "mae":
            columns += [Column("low", "from", ".3f", "test"), Column("high", "to", ".3f", "test")]
    columns += [
        Column("behind", "MAE", "+.3f", "behind the best on validation"),
        Column("behind_low", "from", "+.3f", "behind the best on validation"),
        Column("behind_high", "to", "+.3f", "behind the best on validation"),
        Column("optimistic", "optimistic"),
        Column("detail", "details"),
    ]
    return Table(
        "contenders",
        "Baselines, single models and ensembles on the same test faces",
        evaluation.contenders,
        tuple(columns),
        f"from, to: 95% intervals {OVER}; those of the difference compare face by face. Shaded: the "
        "best on validation. Optimistic: the test faces took part in the choice.",
        frozenset(np.flatnonzero(evaluation.contenders["best"]).tolist()),
    )


def error_per_target(evaluation: Evaluation) -> Table:
    """Figure 9's numbers."""
    settings = evaluation.settings
    columns = (
        Column("policy", "policy"),
        Column("id", "id"),
        Column("rank", "rank on validation", "d"),
        Column("target", settings.target, "g"),
        Column("faces", "test faces", "d"),
        Column("error", f"MAE ({settings.unit})", ".3f"),
    )
    title = f"Test error at every {settings.target}, three best models"
    return Table("error_per_target", title, evaluation.per_target, columns, long=True)


def curves(evaluation: Evaluation) -> Table:
    """The learning curves' numbers."""
    columns = (
        Column("run", "run"),
        Column("epoch", "epoch", "d"),
        Column("train_loss", "training loss", ".4g"),
        Column("val_loss", "validation loss", ".4g"),
        Column("val_low", "lower quartile", ".4g"),
        Column("val_high", "upper quartile", ".4g"),
    )
    return Table("learning_curves", "Learning curves, medians", evaluation.curves, columns, long=True)


def times(evaluation: Evaluation) -> Table:
    """Figure 10's numbers: how long training took; not part of the reproducible tables."""
    timed = evaluation.members[evaluation.members["seconds"].notna()]
    grouped = timed.groupby(["policy", "optimizer"], sort=False)
    frame = grouped.agg(
        models=("seconds", "size"),
        mean=("seconds", "mean"),
        total=("stage_seconds", "first"),
        epochs=("epochs", "mean"),
    ).reset_index()
    columns = (
        Column("policy", "policy"),
        Column("optimizer", "optimiser", str.upper),
        Column("models", "models", "d"),
        Column("mean", "seconds a model", ".2f", best="lowest"),
        Column("total", "seconds of the stage", ".1f"),
        Column("epochs", "mean epochs", ".1f"),
    )
    note = (
        "Models train side by side, one on each core: a model's seconds are those of its core, the stage's "
        "run from its start to its end, reading and writing included."
    )
    return Table("times", "Running time", frame, columns, note)


def all_tables(evaluation: Evaluation) -> list[Table]:
    """Every reproducible table these results allow; running times are apart (`times`)."""
    return list(build(evaluation))


def build(evaluation: Evaluation) -> Iterator[Table]:
    """See `all_tables`."""
    for policy in evaluation.best:
        yield statistics(evaluation, policy)
        yield winners(evaluation, policy)
    yield contenders(evaluation)
    yield choices(evaluation)
    yield pooled(evaluation)
    yield policies_compared(evaluation)
    yield improvement(evaluation)
    yield error_per_target(evaluation)
    if len(evaluation.groups):
        yield group_tables.biases(evaluation)
        yield group_tables.all_groups(evaluation)
    yield all_members(evaluation)
    yield curves(evaluation)
