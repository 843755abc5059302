"""What a run found: as numbers for `dvc metrics`, and in plain words for the top of the page."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from pipeline.evaluation.group_errors import largest_bias
from pipeline.evaluation.group_tables import best_title
from pipeline.evaluation.numbers import Evaluation
from pipeline.evaluation.ranking import TOLERATED, best_tested, competing, spread
from pipeline.evaluation.results import Results
from pipeline.evaluation.settings import policy_title

STATISTICS = ("mean", "std", "min")
MEASURES = ("val_mae", "test_mae")
DIGITS = 6
MATERIAL = (
    "Baselines learn from the original training faces alone, each weighing the same; networks also from "
    "augmented vectors and with weights, where params.yaml asks for them."
)


def metrics(evaluation: Evaluation) -> dict[str, Any]:
    """metrics.json, few enough to compare at a glance: {policy: {optimizer: ...}, contenders: {name: ...}}.

    `bias` holds the bias scores, by group column, of the contender that is best on validation. What is not a
    number is left out; all other statistics are in the tables.
    """
    tree: dict[str, Any] = {}
    for row in evaluation.summary.to_dict("records"):
        run = tree.setdefault(row["policy"], {}).setdefault(row["optimizer"], {"diverged": row["diverged"]})
        if row["measure"] in MEASURES:
            run[row["measure"]] = finite({name: row[name] for name in STATISTICS})
    tree["contenders"] = {
        key(row["title"]): finite({name: row[name] for name in ("val_mae", "mae")})
        for row in evaluation.contenders.to_dict("records")
    }
    scores = evaluation.biases[evaluation.biases["title"] == best_title(evaluation)]
    if len(scores):
        tree["bias"] = finite(dict(zip(scores["column"], scores["bias"], strict=True)))
    return tree


def key(title: str) -> str:
    """A title as a name without blanks: 'SVR (RBF)' is svr_rbf."""
    return "_".join("".join(c if c.isalnum() else " " for c in title.lower()).split())


def finite(values: dict[str, float]) -> dict[str, float]:
    """The values that are numbers, rounded so that a diff shows changes and no noise."""
    return {name: round(float(value), DIGITS) for name, value in values.items() if pd.notna(value)}


def headlines(evaluation: Evaluation) -> dict[str, str | int | float]:
    """A few lines for the terminal: how many models, and the test error of every way of predicting."""
    unit = evaluation.settings.unit
    return {
        "models": len(evaluation.members),
        "diverged": int(evaluation.members["diverged"].sum()),
        **{
            f"test MAE, {row['title']}": f"{row['mae']:.3f} {unit}"
            for row in evaluation.contenders.to_dict("records")
        },
    }


def sentences(results: Results, evaluation: Evaluation) -> list[str]:
    """The findings in plain words, the most important first."""
    return list(findings(results, evaluation))


def findings(results: Results, evaluation: Evaluation) -> Iterator[str]:
    """See `sentences`."""
    yield counted(results, evaluation)
    yield best_way(evaluation)
    yield from policies_compared(evaluation)
    yield from chosen(evaluation)
    yield from ensembles(evaluation)
    yield from baselines(evaluation)
    yield from groups(evaluation)


def counted(results: Results, evaluation: Evaluation) -> str:
    """How many models there are, and of what."""
    members = evaluation.members
    diverged = int(members["diverged"].sum())
    lost = f"{diverged} of them diverged and {'is' if diverged == 1 else 'are'} left out of every statistic"
    faces = {split: f"{int(results.rows(split).sum()):,}" for split in ("train", "validation", "test")}
    return (
        f"{len(members)} models were trained on {faces['train']} faces, chosen on {faces['validation']} and "
        f"tested on {faces['test']}; {lost if diverged else 'none diverged'}."
    )


def best_way(evaluation: Evaluation) -> str:
    """The best way to train, how many of its models diverged, and which runs were not ranked for that."""
    summary, unit = evaluation.summary, evaluation.settings.unit
    rows = summary[summary["measure"] == "val_mae"]
    best = best_tested(summary)
    lost, models = int(best["diverged"]), int(best["members"] + best["diverged"])
    over = (
        f"with one seed its test error is {spread(best)} {unit}"
        if best["members"] == 1
        else f"over {best['members']:.0f} seeds its test error is {spread(best)} {unit} (mean ± standard "
        f"deviation), from {best['min']:.2f} to {best['max']:.2f}"
    )
    seldom = f"; {lost} of its {models} models diverged" if lost else ""
    others = [
        f"{row['optimizer'].upper()} with the {policy_title(row['policy'])} "
        f"({row['diverged']:.0f} of {row['members'] + row['diverged']:.0f})"
        for row in rows[~competing(rows)].to_dict("records")
    ]
    why = (
        "more than a tenth of their models"
        if lost <= TOLERATED * models
        else "a larger share of their models"
    )
    left_out = f" Not ranked, because {why} diverged: {', '.join(others)}."
    return (
        f"By mean validation error the best way to train is {best['optimizer'].upper()} with the "
        f"{policy_title(best['policy'])}: {over}{seldom}.{left_out if others else ''}"
    )


def policies_compared(evaluation: Evaluation) -> Iterator[str]:
    """Which policy has the lower error over the same seeds of the same optimisers, if any is shown to."""
    if evaluation.policies.empty and evaluation.members["policy"].nunique() > 1:
        yield "The policies are not compared: no seed of any optimiser ended well under every one of them."
    unit = evaluation.settings.unit
    pooled = evaluation.pooled.set_index("policy")
    for row in evaluation.policies.to_dict("records"):
        first, second = (f"the {policy_title(row[name])}" for name in ("first", "second"))
        verdict = (
            f"{first} gives a lower error than {second}"
            if direction(row) == "lower"
            else f"no difference is shown between {first} and {second}"
        )
        better, worse = (pooled.loc[row[name]] for name in ("first", "second"))
        left_out = f" Left out, because they diverged under a policy: {better['left_out']}."
        yield (
            f"Over the same seeds of the same optimisers {verdict}: seed by seed "
            f"{row['difference']:+.2f} {unit}, 95% interval over seeds {row['low']:+.2f} to "
            f"{row['high']:+.2f}, with errors of {better['iqm']:.2f} and {worse['iqm']:.2f} "
            f"(interquartile means).{left_out if better['left_out'] else ''}"
        )


def chosen(evaluation: Evaluation) -> Iterator[str]:
    """The single model chosen on validation, and the paper's choice beside it."""
    choice = evaluation.choices.iloc[-1]
    optimism = choice["validation_choice"] - choice["test_choice"]
    verdict = f"{optimism:.2f} too good" if optimism > 0 else "here the same"
    yield (
        f"The one model chosen on validation is {choice['chosen_on_validation']}, with a test error of "
        f"{choice['validation_choice']:.2f} {evaluation.settings.unit}. Choosing on the test faces "
        f"instead, as the paper does, would have claimed {choice['test_choice']:.2f}: {verdict}."
    )


def ensembles(evaluation: Evaluation) -> Iterator[str]:
    """What averaging gains: the ensemble chosen on validation against the single model chosen there."""
    rows = evaluation.contenders
    single = rows[rows["kind"] == "model"].iloc[0]
    averaged = rows[rows["kind"] == "ensemble"]
    best = lowest(averaged, "val_mae")
    difference = differs(evaluation, best, single)
    verdict = {
        "lower": "better than the single model",
        "higher": "worse than the single model",
        "": "not told apart from the single model",
    }[direction(difference)]
    other = averaged[averaged["title"] != best["title"]].iloc[0]
    yield (
        f"Averaging predictions, validation faces choose the {best['title']}: its test error is "
        f"{best['mae']:.2f} {evaluation.settings.unit}, {verdict} ({face_by_face(difference)}). The "
        f"{other['title']} has {other['mae']:.2f}."
    )


def baselines(evaluation: Evaluation) -> Iterator[str]:
    """Whether the best baseline beats the networks: each side chosen on validation, compared on test."""
    rows = evaluation.contenders
    known = rows[rows["kind"] == "baseline"]
    if known.empty:
        return
    best = lowest(known, "val_mae")
    rival = lowest(rows[rows["kind"].isin(["model", "ensemble"])], "val_mae")
    unit = evaluation.settings.unit
    difference = differs(evaluation, best, rival)
    begin, than = {
        "lower": ("A baseline wins", "lower than that of"),
        "higher": ("The networks win", "higher than that of"),
        "": ("Baselines and networks are not told apart", "no different, as far as these faces show, from"),
    }[direction(difference)]
    yield (
        f"{begin}: {best['title']}, the best baseline on validation, has a test error of {best['mae']:.2f} "
        f"{unit}, {than} the {rival['title']}, {rival['mae']:.2f} ({face_by_face(difference)}). {MATERIAL}"
    )
    single = rows[rows["kind"] == "model"].iloc[0]
    if direction(difference) == "higher" and direction(differs(evaluation, best, single)) == "lower":
        yield f"That baseline still beats the single model, {single['mae']:.2f}: only averaging wins."


def differs(evaluation: Evaluation, first: "pd.Series[Any]", second: "pd.Series[Any]") -> "pd.Series[Any]":
    """The row of `Evaluation.differences` of two contenders."""
    rows = evaluation.differences
    found: pd.Series[Any] = rows[
        (rows["first"] == first["title"]) & (rows["second"] == second["title"])
    ].iloc[0]
    return found


def direction(difference: "Mapping[Any, Any] | pd.Series[Any]") -> str:
    """Whether the first error is lower or higher; empty where the interval holds 0, or there is none."""
    if difference["high"] < 0:
        return "lower"
    return "higher" if difference["low"] > 0 else ""


def face_by_face(difference: "pd.Series[Any]") -> str:
    """The difference with its interval."""
    bounds = f"{difference['low']:+.2f} to {difference['high']:+.2f}"
    return f"face by face {difference['difference']:+.2f}, 95% interval {bounds}"


def groups(evaluation: Evaluation) -> Iterator[str]:
    """By which group column the best contender's error differs most, and whether by more than chance."""
    title = best_title(evaluation)
    largest = largest_bias(evaluation.biases, title)
    if largest is None:
        return
    unit = evaluation.settings.unit
    begin = "The" if largest["bias"] > largest["joint"] else "Nothing shows that the"
    rows = evaluation.biases
    judged = int((rows["joint"].notna() & (rows["title"] == title)).sum())
    among = f", the largest of {judged} columns," if judged > 1 else ""
    yield (
        f"{begin} error of the {title} differs between groups, most by {largest['column']}: over all pairs "
        f"of {largest['groups']} groups by {largest['bias']:.2f} {unit} in the mean, where equal groups of "
        f"these sizes{among} would stay below {largest['joint']:.2f} in 95 of 100 samples."
    )


def lowest(rows: pd.DataFrame, column: str) -> "pd.Series[Any]":
    """The row with the lowest number in a column."""
    return rows.sort_values(column, kind="stable").iloc[0]
