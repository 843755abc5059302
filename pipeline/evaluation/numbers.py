"""All numbers of a report, computed from the results and nothing else: frames, one row a fact."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from pipeline.core.errors import UserError
from pipeline.core.seeds import derive_seed
from pipeline.evaluation.candidates import (
    DIFFERENCES,
    choice_rows,
    contender_rows,
    difference_rows,
    member_id,
    quality,
)
from pipeline.evaluation.curves import learning_curves
from pipeline.evaluation.group_errors import group_tables
from pipeline.evaluation.policies import POLICIES, POOLED, policy_rows, pooled_rows
from pipeline.evaluation.ranking import best_run
from pipeline.evaluation.results import FloatArray, Results, Run
from pipeline.evaluation.settings import Settings
from pipeline.metrics import error_per_target
from pipeline.metrics.distributions import best_members, describe, probability_of_improvement

MEASURES = ("mae", "val_mae", "test_mae")
TOP = 3


@dataclass(frozen=True)
class Evaluation:
    """The numbers.

    Attributes
    ----------
    members
        One row a model: policy, optimizer, id, member, seed, lr, epochs, best_epoch, diverged, mae,
        val_mae, test_mae, the other test metrics, seconds and the stage's stage_seconds (NaN where unknown),
        rank_val and rank_test (1 is best, within the optimiser and policy).
    summary
        One row for each policy, optimiser and measure: members, diverged, min, mean, std (ddof 1),
        median, max, iqm with iqm_low and iqm_high.
    pooled
        One row a policy: the interquartile mean test error over optimisers, of the seeds that ended well
        with each of them under every policy, and its interval over seeds; `left_out` names the others.
    policies
        One row for every two policies, on the same seeds as `pooled`: the interquartile mean of `first` minus
        `second`, seed by seed, and its paired interval. `first` has the lower error.
    improvement
        One row a comparison: the probability that `first` has the lower test error than `second`.
    choices
        One row for each policy and optimiser, and one for all models: the test error of the model chosen
        on validation, of the model chosen on test (optimistic), of the ensembles, and of a mean member.
    contenders
        One row for each way of predicting, on the same test faces: baselines, the chosen models, the
        ensembles; see `contender_rows`.
    differences
        One row for every two of them, face by face; see `difference_rows`.
    per_target
        One row for each of a policy's top three models and each target value.
    best
        Of each policy: the optimiser with the lowest mean validation error of those that seldom diverge;
        see `ranking.competing`.
    curves
        One row for each run and epoch; see `learning_curves`.
    groups
        One row for each contender, group column and group: faces, mae, low, high on test faces.
    biases
        One row for each contender and group column: groups, faces, bias, low, high, chance (of this
        column alone), joint (where it is the largest of all columns; NaN for the binned target).
    """

    settings: Settings
    members: pd.DataFrame
    summary: pd.DataFrame
    pooled: pd.DataFrame
    policies: pd.DataFrame
    improvement: pd.DataFrame
    choices: pd.DataFrame
    contenders: pd.DataFrame
    differences: pd.DataFrame
    per_target: pd.DataFrame
    best: dict[str, str]
    curves: pd.DataFrame
    groups: pd.DataFrame
    biases: pd.DataFrame


def evaluate(results: Results, settings: Settings | None = None) -> Evaluation:
    """Compute everything a report shows.

    Raises
    ------
    UserError
        Every member of every run diverged.
    """
    settings = settings or Settings()
    if all(run.scores["diverged"].all() for run in results.runs):
        raise UserError("every model diverged, so that there is no error to report: lower the learning rates")
    members = pd.concat([member_rows(results, run, settings) for run in results.runs], ignore_index=True)
    summary = pd.DataFrame(summary_rows(results, settings))
    best = best_optimizers(results, summary)
    groups, biases = group_tables(results, settings)
    return Evaluation(
        settings=settings,
        members=members,
        summary=summary,
        pooled=pd.DataFrame(pooled_rows(results, settings), columns=POOLED),
        policies=pd.DataFrame(policy_rows(results, settings), columns=POLICIES),
        improvement=pd.DataFrame(improvement_rows(results, settings), columns=IMPROVEMENT),
        choices=pd.DataFrame(choice_rows(results)),
        contenders=pd.DataFrame(contender_rows(results, settings)),
        differences=pd.DataFrame(difference_rows(results), columns=DIFFERENCES),
        per_target=pd.DataFrame(per_target_rows(results, best, settings)),
        best=best,
        curves=learning_curves(results),
        groups=groups,
        biases=biases,
    )


def scores_of(run: Run, measure: str) -> FloatArray:
    """One measure of a run's members, NaN where a member diverged."""
    return run.scores[measure].to_numpy(dtype=np.float64)


def member_rows(results: Results, run: Run, settings: Settings) -> pd.DataFrame:
    """The rows of `Evaluation.members` for one run."""
    test = quality(run.predictions[:, results.rows("test")], results.target("test"), settings)
    diverged = run.scores["diverged"].to_numpy(dtype=bool)
    rows = run.scores[["member", "seed", "lr", "epochs", "best_epoch", "diverged", *MEASURES]].copy()
    for name, values in test.items():
        if name != "mae":
            rows[f"test_{name}"] = np.where(diverged, np.nan, values)
    rows["seconds"] = np.nan if run.seconds is None else run.seconds
    rows["stage_seconds"] = np.nan if run.stage_seconds is None else run.stage_seconds
    rows["rank_val"] = rows["val_mae"].rank(method="first")
    rows["rank_test"] = rows["test_mae"].rank(method="first")
    rows.insert(0, "id", [member_id(run, member) for member in rows["member"]])
    rows.insert(0, "optimizer", run.optimizer)
    rows.insert(0, "policy", run.policy)
    return rows


def summary_rows(results: Results, settings: Settings) -> Iterator[dict[str, Any]]:
    """The rows of `Evaluation.summary`."""
    for run in results.runs:
        for measure in MEASURES:
            seed = derive_seed(settings.seed, "summary", run.policy, run.optimizer, measure)
            row = asdict(describe(scores_of(run, measure), seed=seed, resamples=settings.resamples))
            iqm, low, high = row.pop("iqm")
            names = {"policy": run.policy, "optimizer": run.optimizer, "measure": measure}
            yield {**names, **row, "iqm": iqm, "iqm_low": low, "iqm_high": high}


def best_optimizers(results: Results, summary: pd.DataFrame) -> dict[str, str]:
    """Of each policy, the optimiser of its best run; none if all diverged. See `ranking.best_run`."""
    found = {policy: best_run(summary[summary["policy"] == policy]) for policy in results.policies}
    return {policy: str(row["optimizer"]) for policy, row in found.items() if row is not None}


IMPROVEMENT = ["title", "policy", "optimizer", "first", "second", "seeds", "probability", "low", "high"]


def improvement_rows(results: Results, settings: Settings) -> Iterator[dict[str, Any]]:
    """The rows of `Evaluation.improvement`: optimisers within a policy, then policies within an optimiser.

    Pairs are ordered so that the probability is at least one half. Runs that share no seed are left out.
    """
    pairs = list(combinations(results.runs, 2))
    # Policies last; the sort is stable.
    for one, other in sorted(pairs, key=lambda pair: pair[0].policy != pair[1].policy):
        same_policy, same_optimizer = one.policy == other.policy, one.optimizer == other.optimizer
        if not (same_policy or same_optimizer):
            continue
        both = one.scores.merge(other.scores, on="seed", suffixes=("_one", "_other"))
        pair = both[["test_mae_one", "test_mae_other"]].dropna()
        if pair.empty:
            continue
        kind = "optimizer" if same_policy else "policy"
        first, second = getattr(one, kind), getattr(other, kind)
        names = (one.policy, one.optimizer, other.policy, other.optimizer)
        probability, low, high = probability_of_improvement(
            pair["test_mae_one"],
            pair["test_mae_other"],
            seed=derive_seed(settings.seed, "improvement", *names),
            resamples=settings.resamples,
        )
        if probability < 0.5:
            first, second = second, first
            probability, low, high = 1 - probability, 1 - high, 1 - low
        yield {
            "title": f"{first} beats {second} ({one.optimizer.upper()})"
            if kind == "policy"
            else f"{first.upper()} beats {second.upper()} ({one.policy})",
            "policy": one.policy if same_policy else "",
            "optimizer": one.optimizer if same_optimizer else "",
            "first": first,
            "second": second,
            "seeds": len(pair),
            "probability": probability,
            "low": low,
            "high": high,
        }


def per_target_rows(results: Results, best: dict[str, str], settings: Settings) -> Iterator[dict[str, Any]]:
    """The rows of `Evaluation.per_target`: the three best on validation of each policy's best optimiser."""
    test = results.rows("test")
    for run in results.runs:
        if best.get(run.policy) != run.optimizer:
            continue
        chosen = best_members(scores_of(run, "val_mae"), TOP)
        found = error_per_target(
            run.predictions[np.ix_(chosen, test)], results.target("test"), settings.bin_width
        )
        for rank, (position, errors) in enumerate(zip(chosen, found.errors, strict=True), start=1):
            name = member_id(run, int(run.scores["member"][position]))
            for value, count, error in zip(found.values, found.counts, errors, strict=True):
                yield {
                    "policy": run.policy,
                    "optimizer": run.optimizer,
                    "id": name,
                    "rank": rank,
                    "target": float(value),
                    "faces": int(count),
                    "error": float(error),
                }
