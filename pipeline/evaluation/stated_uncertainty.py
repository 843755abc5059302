"""How far stated uncertainty holds on test faces: all numbers, as frames, one row a fact."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.evaluation.method_names import names, percent
from pipeline.evaluation.settings import Settings
from pipeline.evaluation.summary import finite
from pipeline.evaluation.under_threshold import RELIABILITY, points, reliability_rows, under_row
from pipeline.metrics import mae
from pipeline.metrics.calibration import Judged, coverage, pit_histogram, winkler
from pipeline.metrics.distributions import mean_interval

MOST_GROUPS = 20  # a column with more values is no group column
PIT_BINS = 10


@dataclass(frozen=True)
class Uncertainty:
    """The numbers.

    Attributes
    ----------
    levels
        Of the intervals.
    rate
        The false-positive rate asked for.
    methods
        One row for each method and kind: mae with its interval, crps, coverage, width and Winkler's score at
        every level, the group that is covered worst at every level, and of 'under the threshold' Brier
        score, areas, false-negative rates.
    groups
        One row for each method, kind, level, grouping and group of enough test faces: coverage, width.
    pit
        One row for each method, kind and bin.
    roc, precision_recall, reliability
        Points of curves by method and kind; empty where no threshold is asked for.
    """

    settings: Settings
    levels: tuple[float, ...]
    rate: float
    methods: pd.DataFrame
    groups: pd.DataFrame
    pit: pd.DataFrame
    roc: pd.DataFrame
    precision_recall: pd.DataFrame
    reliability: pd.DataFrame


def measure(
    judged: Mapping[str, Sequence[Judged]],
    groups: Mapping[str, NDArray[np.str_]],
    settings: Settings,
    *,
    rate: float = 0.05,
    min_faces: int = 30,
) -> Uncertainty:
    """Measure every method in every kind.

    Parameters
    ----------
    judged
        By split: `test`, which everything is measured on, and `validation`, where the cut of a
        false-positive rate is chosen that test faces are then held against.
    groups
        By grouping (bands of the target, gender, ...) the group of each test face.
    settings
        Threshold, words, seed and resamples.
    rate
        The false-positive rate at which false negatives are reported.
    min_faces
        Smaller groups are left out: their coverage is chance.
    """
    test = judged["test"]
    found = pd.DataFrame(group_rows(test, groups, min_faces), columns=GROUPS)
    rows = [
        {**method_row(one, settings), **worst(one, found), **under_row(one, other, settings, rate)}
        for one, other in zip(test, judged["validation"], strict=True)
    ]
    asked = [one for one in test if one.under is not None]
    return Uncertainty(
        settings=settings,
        levels=test[0].levels,
        rate=rate,
        methods=pd.DataFrame(rows),
        groups=found,
        pit=pd.DataFrame([row for one in test for row in pit_rows(one)]),
        roc=points(asked, settings, "roc"),
        precision_recall=points(asked, settings, "precision_recall"),
        reliability=pd.DataFrame(reliability_rows(asked, settings), columns=RELIABILITY),
    )


def middle_level(found: Uncertainty) -> float:
    """The level that groups are compared at: 0.9 where it is asked for, else the highest."""
    return 0.9 if 0.9 in found.levels else found.levels[-1]


def method_row(one: Judged, settings: Settings) -> dict[str, Any]:
    """Errors, distribution and intervals."""
    _, low, high = mean_interval(np.abs(one.prediction - one.target), one.subjects)
    row: dict[str, Any] = {
        **names(one),
        "faces": len(one.target),
        "mae": float(mae(one.prediction, one.target)),
        "mae_low": low,
        "mae_high": high,
        "crps": float(one.crps.mean()),
    }
    for place, level in enumerate(one.levels):
        found = coverage(one.lower[:, place], one.upper[:, place], one.target, one.subjects)
        key = percent(level)
        row[f"coverage_{key}"], row[f"low_{key}"], row[f"high_{key}"] = found.share
        row[f"width_{key}"] = found.width
        row[f"winkler_{key}"] = winkler(one.lower[:, place], one.upper[:, place], one.target, level)
    return row


GROUPS = [
    "method",
    "kind",
    "title",
    "level",
    "grouping",
    "group",
    "faces",
    "coverage",
    "low",
    "high",
    "width",
]


def group_rows(
    test: Sequence[Judged], groups: Mapping[str, NDArray[np.str_]], min_faces: int
) -> Iterator[dict[str, Any]]:
    """The rows of `Uncertainty.groups`."""
    for grouping, labels in groups.items():
        present, counts = np.unique(labels, return_counts=True)
        if len(present) > MOST_GROUPS:
            continue
        enough = present[counts >= min_faces]
        # the youngest first, which puts bands in their order
        shown = sorted(enough, key=lambda name: float(test[0].target[labels == name].mean()))
        for one in test:
            for place, level in enumerate(one.levels):
                for name in shown:
                    here = labels == name
                    who = None if one.subjects is None else one.subjects[here]
                    found = coverage(one.lower[here, place], one.upper[here, place], one.target[here], who)
                    yield {
                        **names(one),
                        "level": level,
                        "grouping": grouping,
                        "group": str(name),
                        "faces": found.faces,
                        "coverage": found.share.point,
                        "low": found.share.low,
                        "high": found.share.high,
                        "width": found.width,
                    }


def worst(one: Judged, groups: pd.DataFrame) -> dict[str, Any]:
    """The group that is covered worst at every level; nothing where no group is large enough."""
    row: dict[str, Any] = {}
    for level in one.levels:
        some = groups[
            (groups["method"] == one.method) & (groups["kind"] == one.kind) & (groups["level"] == level)
        ]
        lowest = None if some.empty else some.iloc[int(some["coverage"].argmin())]
        row[f"worst_{percent(level)}"] = np.nan if lowest is None else lowest["coverage"]
        row[f"worst_group_{percent(level)}"] = (
            "" if lowest is None else f"{lowest['grouping']}: {lowest['group']}"
        )
    return row


def pit_rows(one: Judged) -> Iterator[dict[str, Any]]:
    """The rows of `Uncertainty.pit`."""
    for number, share in enumerate(pit_histogram(one.pit, PIT_BINS)):
        yield {**names(one), "from": number / PIT_BINS, "to": (number + 1) / PIT_BINS, "share": share}


def metrics(found: Uncertainty) -> dict[str, Any]:
    """The part of metrics.json: {method: {kind: numbers}}, few enough to compare at a glance."""
    top = percent(middle_level(found))
    wanted = ["mae", "crps", *(f"coverage_{percent(level)}" for level in found.levels)]
    wanted += [f"width_{top}", f"worst_{top}", "brier", "roc_auc", "fnr"]
    tree: dict[str, Any] = {}
    for row in found.methods.to_dict("records"):
        tree.setdefault(row["method"], {})[row["kind"]] = finite(
            {name.replace(".", "_"): row[name] for name in wanted if name in row}
        )
    return tree
