"""How much the error of a model differs between groups, and how much of that is chance."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from pipeline.metrics.clusters import drawn_means
from pipeline.metrics.distributions import CONFIDENCE, RESAMPLES
from pipeline.metrics.error_metrics import FloatArray, checked
from pipeline.metrics.groups import GroupErrors, coded, group_errors


class Bias(NamedTuple):
    """A bias score with its interval, of how many groups, and what equal groups would score by chance.

    `chance` is the score that groups of these sizes and spreads, but all of the same error, stay below in 95
    of 100 samples of faces: a score below it shows no difference. `draws` (resamples,) are the scores of such
    groups that it was read from.
    """

    groups: int
    score: float
    low: float
    high: float
    chance: float
    draws: FloatArray


def mean_difference(errors: FloatArray) -> FloatArray:
    """The mean over all pairs of the absolute difference, along the last axis; NaN for fewer than two."""
    pairs = list(combinations(range(errors.shape[-1]), 2))
    if not pairs:
        return np.full(errors.shape[:-1], np.nan)[()]
    differences = [np.abs(errors[..., i] - errors[..., j]) for i, j in pairs]
    mean: FloatArray = np.mean(differences, axis=0)
    return mean


def bias_score(prediction: ArrayLike, target: ArrayLike, groups: Any) -> FloatArray:
    """The mean over all pairs of groups of the absolute difference of their mean absolute errors.

    Source: the age-bias report, Tables 7 to 11. 0 where all groups have the same error; in the unit of the
    target. Faces of unknown group do not take part.

    Parameters
    ----------
    prediction
        (N,) or (members, N).
    target, groups
        (N,).

    Returns
    -------
    ndarray
        A scalar, or (members,); NaN with fewer than two groups, or where a prediction is not finite.

    Examples
    --------
    >>> float(bias_score([20.0, 33.0, 41.0], [21.0, 30.0, 40.0], ["f", "m", "f"]))
    2.0
    """
    predicted, wanted = checked(prediction, target)
    if predicted.ndim == 1:
        return mean_difference(known_errors(predicted, wanted, groups).mae)
    return np.array([bias_score(member, wanted, groups) for member in predicted])


def known_errors(prediction: FloatArray, target: FloatArray, groups: Any) -> GroupErrors:
    """The errors of the known groups."""
    found = group_errors(prediction, target, groups)
    count = len(coded(groups, target.size)[1])
    return GroupErrors(
        found.groups[:count], found.faces[:count], found.mae[:count], found.low[:count], found.high[:count]
    )


def bias(
    prediction: ArrayLike,
    target: ArrayLike,
    groups: Any,
    *,
    subjects: ArrayLike | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Bias:
    """The bias score of one model with its interval, and the score that chance would give.

    Both are found by drawing each group's mean error anew from Student's distribution around it (for
    `chance`, around the same number), `resamples` times. A score is a mean of absolute values, so that noise
    only ever raises it, and its interval too: read it beside `chance`. NaN where a group has a single face.
    Where `subjects` (N,) are known, means are drawn as other subjects would move them: see `drawn_means`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> noise = rng.normal(0, 1, 400) * np.repeat([1.0, 3.0], 200)
    >>> found = bias(30 + noise, np.full(400, 30.0), ["f"] * 200 + ["m"] * 200)
    >>> found.low > found.chance
    True
    """
    predicted, wanted = checked(prediction, target)
    found = known_errors(predicted, wanted, groups)
    score = float(mean_difference(found.mae))
    if len(found.groups) < 2 or (found.faces < 2).any() or np.isnan(score):
        return Bias(len(found.groups), score, np.nan, np.nan, np.nan, np.full(resamples, np.nan))
    codes, _ = coded(groups, wanted.size)
    errors = np.abs(predicted - wanted)
    rng = np.random.default_rng(seed)
    if subjects is None:
        deviations = [errors[codes == code].std(ddof=1) for code in range(len(found.groups))]
        spread = np.array(deviations) / np.sqrt(found.faces)
        draws = rng.standard_t(found.faces - 1, (resamples, len(found.groups))) * spread
    else:
        draws = drawn_means(errors, codes, subjects, resamples, rng)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(mean_difference(found.mae + draws), [tail, 100 - tail])
    equal = mean_difference(draws)
    chance = np.percentile(equal, 100 * CONFIDENCE)
    return Bias(len(found.groups), score, float(low), float(high), float(chance), equal)


def joint_factor(found: Sequence[Bias]) -> float:
    """How many times its `chance` a score must reach when it is the largest of several columns.

    The largest of many scores exceeds its own `chance` more often than once in twenty. Where all groups of
    all columns are equal, no score exceeds this many times its `chance` in 95 of 100 samples. 1 for a single
    column; NaN where no column has a `chance`. Columns are drawn independently of each other: where they
    say much the same of a face, the factor is a little too high, never too low.

    Parameters
    ----------
    found
        The scores of one model by column, of as many draws each.

    Examples
    --------
    >>> errors = np.random.default_rng(0).normal(0, 1, 400)
    >>> columns = [["f", "m"] * 200, ["a"] * 200 + ["b"] * 200]
    >>> found = [bias(errors, np.zeros(400), column, seed=seed) for seed, column in enumerate(columns)]
    >>> joint_factor(found[:1]), 1.1 < joint_factor(found) < 1.2
    (1.0, True)
    """
    ratios = [one.draws / one.chance for one in found if one.chance > 0]
    if not ratios:
        return float("nan")
    return float(np.percentile(np.max(ratios, axis=0), 100 * CONFIDENCE))


def fairness_table(
    predictions: Mapping[tuple[str, str], ArrayLike], target: ArrayLike, groups: Mapping[str, Any]
) -> pd.DataFrame:
    """Tables 8 to 11 of the age-bias report as one: a loss and a weighting, then MAE and each bias score.

    Parameters
    ----------
    predictions
        By loss and weighting: (N,), or (members, N) for a mean and a spread over seeds.
    target
        (N,).
    groups
        Group columns by name, such as age, gender, ethnicity; (N,) each.

    Returns
    -------
    pandas.DataFrame
        One row each: loss, weighting, models, mae, mae_std, and for every column `{name}_bias` and
        `{name}_bias_std`. Diverged members are left out; a spread of one member is NaN.

    Examples
    --------
    >>> stack = [[20.0, 33.0, 41.0], [20.0, 31.0, 41.0]]
    >>> table = fairness_table({("mse", "none"): stack}, [21.0, 30.0, 40.0], {"gender": ["f", "m", "f"]})
    >>> table[["loss", "weighting", "models", "mae", "gender_bias"]].values.tolist()
    [['mse', 'none', 2, 1.3333333333333335, 1.0]]
    """
    rows = []
    for (loss, weighting), made in predictions.items():
        predicted, wanted = checked(made, target)
        members = predicted.reshape(-1, wanted.size)
        members = members[np.isfinite(members).all(axis=1)]
        row: dict[str, Any] = {"loss": loss, "weighting": weighting, "models": len(members)}
        row["mae"], row["mae_std"] = mean_and_spread(np.abs(members - wanted).mean(axis=1))
        for name, column in groups.items():
            scores = bias_score(members, wanted, column)
            row[f"{name}_bias"], row[f"{name}_bias_std"] = mean_and_spread(scores)
        rows.append(row)
    return pd.DataFrame(rows)


def mean_and_spread(values: FloatArray) -> tuple[float, float]:
    """Mean and sample standard deviation, NaN where there are too few values."""
    mean = float(values.mean()) if values.size else np.nan
    return mean, float(values.std(ddof=1)) if values.size > 1 else np.nan
