"""Groups of faces and the error of each: by gender, ethnicity, expression, age.

Groups are one name a face, None where unknown; a `pandas.Categorical` fixes their order. Errors by group are
fairlearn's MetricFrame, balancing weights are scikit-learn's.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import mean_absolute_error
from sklearn.utils.class_weight import compute_sample_weight

from pipeline.metrics.distributions import mean_interval
from pipeline.metrics.error_metrics import FloatArray, checked

AGES = (20.0, 40.0, 60.0)
UNKNOWN = "unknown"


class GroupErrors(NamedTuple):
    """The error of each group: names, numbers of faces, mean absolute errors with their intervals, (K,) each.

    Intervals are Student's over subjects where they are known, else over faces; NaN for a single one. Faces
    of unknown group come last, as `unknown`, or `(unknown)` where a group has that name.
    """

    groups: tuple[str, ...]
    faces: NDArray[np.int64]
    mae: FloatArray
    low: FloatArray
    high: FloatArray


def age_bins(target: ArrayLike, edges: Sequence[float] = AGES) -> pd.Categorical:
    """Targets as groups between ascending edges; an edge belongs to the group above it.

    Source: the age-bias report, section 2e (under 20, 20 to 40, 40 to 60, older).

    Examples
    --------
    >>> list(age_bins([3, 20, 59.5, 60]))
    ['<20', '20-40', '40-60', '60+']
    """
    borders = np.asarray(edges, dtype=np.float64)
    if borders.ndim != 1 or borders.size == 0 or not (np.diff(borders) > 0).all():
        raise ValueError(f"edges {list(edges)} of groups: give one or more in ascending order")
    names = [f"<{borders[0]:g}", *(f"{a:g}-{b:g}" for a, b in pairwise(borders))]
    names.append(f"{borders[-1]:g}+")
    codes = np.searchsorted(borders, np.asarray(target, dtype=np.float64), side="right")
    return pd.Categorical(np.array(names)[codes], categories=names, ordered=True)


def coded(groups: Any, count: int) -> tuple[NDArray[np.int64], list[str]]:
    """Each face's position among the known groups that occur, -1 where unknown; their names in order."""
    column = pd.Series(groups)
    if len(column) != count:
        raise ValueError(f"{len(column)} groups for {count} faces: one name a face is needed")
    known = column.notna()
    order = (
        column.cat.categories
        if isinstance(column.dtype, pd.CategoricalDtype)
        else sorted(column[known].unique())
    )
    texts = column[known].astype(object).astype(str)
    present = set(texts)
    names = [name for name in dict.fromkeys(map(str, order)) if name in present]
    codes = np.full(count, -1, dtype=np.int64)
    codes[known.to_numpy()] = pd.Categorical(texts, categories=names).codes
    return codes, names


def name_of_unknown(known: Sequence[str]) -> str:
    """What faces of unknown group are called: no name that a known group has."""
    name = UNKNOWN
    while name in known:
        name = f"({name})"
    return name


def named(groups: Sequence[Any]) -> NDArray[np.str_]:
    """Each face's group by its name, (N,); faces of unknown group have the name of no other.

    Examples
    --------
    >>> named(["f", None, "None"]).tolist()
    ['f', 'unknown', 'None']
    """
    codes, names = coded(groups, len(groups))
    return np.array([*names, name_of_unknown(names)])[codes]


def group_errors(
    prediction: ArrayLike, target: ArrayLike, groups: Any, subjects: ArrayLike | None = None
) -> GroupErrors:
    """The mean absolute error of one model in each group.

    Parameters
    ----------
    prediction, target
        (N,), in one unit, finite.
    groups
        (N,) names, None where unknown.
    subjects
        (N,), for the intervals: see `mean_interval`.

    Examples
    --------
    >>> found = group_errors([20.0, 33.0, 41.0], [21.0, 30.0, 40.0], ["f", "m", "f"])
    >>> found.groups, found.faces, found.mae
    (('f', 'm'), array([2, 1]), array([1., 3.]))
    """
    # Imported where it is used: it takes more than a second, and most of the program does without.
    from fairlearn.metrics import MetricFrame, count

    predicted, wanted = checked(prediction, target)
    if predicted.ndim != 1:
        raise ValueError(
            f"predictions of shape {predicted.shape}: errors by group are those of one model (N,)"
        )
    codes, known = coded(groups, wanted.size)
    order, names = list(range(len(known))), known
    if (codes < 0).any():
        order, names = [*order, -1], [*known, name_of_unknown(known)]
    if np.isnan(predicted).any():
        faces = np.array([(codes == code).sum() for code in order], dtype=np.int64)
        nothing = np.full(len(order), np.nan)
        return GroupErrors(tuple(names), faces, nothing, nothing, nothing)
    measures = {"mae": mean_absolute_error, "faces": count}
    column = pd.Series(codes)  # an array of one face would be squeezed to a scalar
    frame = MetricFrame(metrics=measures, y_true=wanted, y_pred=predicted, sensitive_features=column).by_group
    errors = np.abs(predicted - wanted)
    owners = None if subjects is None else np.asarray(subjects)
    intervals = [
        mean_interval(errors[here], None if owners is None else owners[here])
        for here in (codes == code for code in order)
    ]
    return GroupErrors(
        tuple(names),
        frame["faces"].loc[order].to_numpy(dtype=np.int64),
        frame["mae"].loc[order].to_numpy(dtype=np.float64),
        np.array([interval.low for interval in intervals]),
        np.array([interval.high for interval in intervals]),
    )


def balancing_weights(groups: Any) -> FloatArray:
    """One weight a face, so that every group weighs the same in all; their mean is 1.

    Source: the age-bias report, section 2e. Faces of unknown group weigh 1.

    Examples
    --------
    >>> balancing_weights(["f", "m", "m", "m", None]).round(3)
    array([2.   , 0.667, 0.667, 0.667, 1.   ])
    """
    codes, _ = coded(groups, len(groups))
    weights = np.ones(len(codes))
    belongs = codes >= 0
    if belongs.any():
        weights[belongs] = compute_sample_weight("balanced", codes[belongs])
    return weights
