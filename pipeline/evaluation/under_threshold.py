"""How well a probability of being under the threshold answers, as rows and points of curves."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.core.seeds import derive_seed
from pipeline.evaluation.method_names import names
from pipeline.evaluation.settings import Settings
from pipeline.metrics.calibration import FloatArray, Judged
from pipeline.metrics.screening import (
    at_cut,
    brier,
    cut_at,
    false_negative_rate,
    precision_recall,
    ranking,
    reliability,
    roc,
    split_by_truth,
)

DRAWS, FEWEST = 20_000_000, 500  # faces drawn in a bootstrap at most; resamples at least
CURVE_POINTS = 200  # that a drawn curve keeps, at most


def under_row(test: Judged, validation: Judged, settings: Settings, rate: float) -> dict[str, Any]:
    """Answers to 'under the threshold?'; nothing where it is not asked."""
    threshold = settings.threshold
    if threshold is None or test.under is None or validation.under is None:
        return {}
    truth = test.target < threshold
    seed = derive_seed(settings.seed, "false negatives", test.method, test.kind)
    areas = ranking(test.under, truth)
    resamples = min(settings.resamples, max(FEWEST, DRAWS // len(truth)))
    missed = false_negative_rate(
        test.under, truth, rate, subjects=test.subjects, seed=seed, resamples=resamples
    )
    row = {
        "under": int(truth.sum()),
        "brier": brier(test.under, truth),
        "roc_auc": areas.roc_auc,
        "average_precision": areas.average_precision,
        "fnr": missed.point,
        "fnr_low": missed.low,
        "fnr_high": missed.high,
    }
    _, over = split_by_truth(validation.under, validation.target < threshold)
    if not over.size:
        return row
    found = at_cut(test.under, truth, float(cut_at(over, rate)), test.subjects)
    return row | {
        "cut": found.cut,
        "cut_fnr": found.false_negatives.point,
        "cut_fnr_low": found.false_negatives.low,
        "cut_fnr_high": found.false_negatives.high,
        "cut_fpr": found.false_positives.point,
        "cut_fpr_low": found.false_positives.low,
        "cut_fpr_high": found.false_positives.high,
    }


def answers(one: Judged, settings: Settings) -> tuple[FloatArray, NDArray[np.bool_]]:
    """The stated probabilities of being under the threshold, and which faces are."""
    if one.under is None or settings.threshold is None:
        raise ValueError(f"{one.method} was asked for no probability of being under a threshold")
    return one.under, one.target < settings.threshold


def points(asked: Sequence[Judged], settings: Settings, curve: str) -> pd.DataFrame:
    """The points of one curve of every method and kind, thinned to what can be seen."""
    columns = ["method", "kind", "title", "x", "y"]
    frames = []
    for one in asked:
        probability, truth = answers(one, settings)
        if truth.all() or not truth.any():
            continue
        x, y = (roc if curve == "roc" else precision_recall)(probability, truth)
        kept = np.unique(np.linspace(0, len(x) - 1, min(CURVE_POINTS, len(x))).astype(int))
        frames.append(pd.DataFrame({**names(one), "x": x[kept], "y": y[kept]}))
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


RELIABILITY = ["method", "kind", "title", "stated", "observed", "low", "high", "faces"]


def reliability_rows(asked: Sequence[Judged], settings: Settings) -> Iterator[dict[str, Any]]:
    """The rows of `Uncertainty.reliability`."""
    for one in asked:
        probability, truth = answers(one, settings)
        for found in reliability(probability, truth, subjects=one.subjects):
            yield {
                **names(one),
                "stated": found.stated,
                "observed": found.observed.point,
                "low": found.observed.low,
                "high": found.observed.high,
                "faces": found.faces,
            }
