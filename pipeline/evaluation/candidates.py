"""Ways of predicting, side by side on the same test faces: baselines, chosen models, ensembles."""

from collections.abc import Iterator
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.results import FloatArray, Results, Run
from pipeline.evaluation.settings import Settings
from pipeline.metrics import cumulative_score, mae, pearson, precision_recall_under, rmse
from pipeline.metrics.distributions import best_members, ensemble, mean_interval

FIVE = 5


class Pool(NamedTuple):
    """Members to choose among: of one run, or of all. Only those that did not diverge are in it."""

    policy: str
    optimizer: str
    ids: list[str]
    val_mae: FloatArray
    test_mae: FloatArray
    predictions: FloatArray


class Contender(NamedTuple):
    """One way of predicting: `prediction` is (faces,); `optimistic` if test faces took part in the choice."""

    kind: str
    title: str
    detail: str
    optimistic: bool
    prediction: FloatArray


def member_id(run: Run, member: int) -> str:
    """A model's name in the report, which is also where its files lie: fixed/adam/07."""
    return f"{run.policy}/{run.optimizer}/{member:02d}"


def quality(prediction: FloatArray, target: FloatArray, settings: Settings) -> dict[str, Any]:
    """Every metric of `Settings.metrics`, of one model (N,) or of a stack (members, N)."""
    values: dict[str, Any] = {
        "mae": mae(prediction, target),
        "rmse": rmse(prediction, target),
        "pearson": pearson(prediction, target),
        "cs": cumulative_score(prediction, target, settings.within),
    }
    if settings.threshold is not None:
        values["precision"], values["recall"] = precision_recall_under(prediction, target, settings.threshold)
    return values


def pool_of(run: Run) -> Pool:
    """The sound members of one run."""
    sound = ~run.scores["diverged"].to_numpy(dtype=bool)
    scores = run.scores[sound]
    return Pool(
        run.policy,
        run.optimizer,
        [member_id(run, member) for member in scores["member"]],
        scores["val_mae"].to_numpy(dtype=np.float64),
        scores["test_mae"].to_numpy(dtype=np.float64),
        run.predictions[sound],
    )


def pool_of_all(results: Results) -> Pool:
    """The sound members of all runs."""
    pools = [pool_of(run) for run in results.runs]
    return Pool(
        "all",
        "all",
        [name for pool in pools for name in pool.ids],
        np.concatenate([pool.val_mae for pool in pools]),
        np.concatenate([pool.test_mae for pool in pools]),
        np.concatenate([pool.predictions for pool in pools]),
    )


def averaged(pool: Pool, members: NDArray[np.intp]) -> FloatArray:
    """The mean prediction (faces,) of some members; NaN for faces that not all predict, as in training."""
    known = np.isfinite(pool.predictions).all(axis=0)
    prediction = np.full(known.size, np.nan)
    prediction[known] = ensemble(pool.predictions[:, known], members)
    return prediction


def from_pool(pool: Pool) -> Iterator[Contender]:
    """The choices and ensembles of one pool; none if every member diverged."""
    if not pool.ids:
        return
    valid = int(best_members(pool.val_mae)[0])
    test = int(best_members(pool.test_mae)[0])
    five = best_members(pool.val_mae, FIVE)
    yield Contender(
        "model", "single model, chosen on validation", pool.ids[valid], False, pool.predictions[valid]
    )
    yield Contender(
        "optimistic", "single model, chosen on test", pool.ids[test], True, pool.predictions[test]
    )
    yield Contender(
        "ensemble",
        "ensemble of all models",
        f"mean of {len(pool.ids)} models",
        False,
        averaged(pool, np.arange(len(pool.ids))),
    )
    yield Contender(
        "ensemble",
        f"ensemble of the {len(five)} best on validation",
        f"mean of {len(five)} models",
        False,
        averaged(pool, five),
    )


def contenders(results: Results) -> Iterator[Contender]:
    """Every baseline, and the choices and ensembles among all models."""
    if results.baselines is not None:
        table = results.baselines.table
        for title, note, settings, prediction in zip(
            table["title"], table["note"], table["settings"], results.baselines.predictions, strict=True
        ):
            yield Contender("baseline", title, "; ".join(filter(None, [settings, note])), False, prediction)
    yield from from_pool(pool_of_all(results))


def contender_rows(results: Results, settings: Settings) -> list[dict[str, Any]]:
    """One row a contender: validation error, test metrics, and the intervals of its test error.

    Intervals are over subjects where they are known, and over faces where not. `behind` is by how much its
    test error exceeds that of the contender which is best on validation, face by face on the same faces,
    between `behind_low` and `behind_high`; test-chosen models are never best.
    """
    validation, test = results.rows("validation"), results.rows("test")
    known = list(contenders(results))
    val_mae = mae(
        np.stack([contender.prediction[validation] for contender in known]), results.target("validation")
    )
    predictions = np.stack([contender.prediction[test] for contender in known])
    errors = np.abs(predictions - results.target("test"))
    found = quality(predictions, results.target("test"), settings)
    best = int(np.argmin(val_mae))  # never one chosen on test: that chosen on validation is before it
    rows, subjects = [], results.subjects("test")
    for position, contender in enumerate(known):
        _, low, high = mean_interval(errors[position], subjects)
        behind, behind_low, behind_high = mean_interval(errors[position] - errors[best], subjects)
        rows.append(
            {
                "kind": contender.kind,
                "title": contender.title,
                "detail": contender.detail,
                "optimistic": contender.optimistic,
                "best": position == best,
                "val_mae": float(val_mae[position]),
                **{name: float(values[position]) for name, values in found.items()},
                "low": low,
                "high": high,
                "behind": behind,
                "behind_low": behind_low,
                "behind_high": behind_high,
            }
        )
    return rows


DIFFERENCES = ["first", "second", "difference", "low", "high"]


def difference_rows(results: Results) -> Iterator[dict[str, Any]]:
    """One row for every two contenders, in both orders: by how much the first's test error is the higher.

    Face by face on the same test faces, so that the interval is that of the difference itself: two errors
    whose own intervals overlap may well differ.
    """
    test, target, subjects = results.rows("test"), results.target("test"), results.subjects("test")
    errors = {one.title: np.abs(one.prediction[test] - target) for one in contenders(results)}
    for first, second in permutations(errors, 2):
        difference, low, high = mean_interval(errors[first] - errors[second], subjects)
        yield {"first": first, "second": second, "difference": difference, "low": low, "high": high}


def choice_rows(results: Results) -> Iterator[dict[str, Any]]:
    """One row for each policy and optimiser, and one for all: what choosing and averaging give on test."""
    test, target = results.rows("test"), results.target("test")
    for pool in (*(pool_of(run) for run in results.runs), pool_of_all(results)):
        found = list(from_pool(pool))
        if not found:
            continue
        chosen, optimistic, *_ = found
        errors = [float(mae(contender.prediction[test], target)) for contender in found]
        yield {
            "policy": pool.policy,
            "optimizer": pool.optimizer,
            "members": len(pool.ids),
            "mean": float(pool.test_mae.mean()),
            "chosen_on_validation": chosen.detail,
            "validation_choice": errors[0],
            "chosen_on_test": optimistic.detail,
            "test_choice": errors[1],
            "ensemble_all": errors[2],
            "ensemble_five": errors[3],
        }
