"""How well classes are predicted, by scikit-learn: accuracy, precision, recall, F1, confusion."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn import metrics

FloatArray = NDArray[np.float64]


def checked(prediction: ArrayLike, target: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Predicted and true class numbers (N,), or a `ValueError` that says what does not fit."""
    predicted, wanted = np.asarray(prediction), np.asarray(target)
    if wanted.ndim != 1 or wanted.size == 0 or predicted.shape != wanted.shape:
        raise ValueError(
            f"predicted classes of shape {predicted.shape} do not fit true ones of shape {wanted.shape}: "
            "one number each is needed, for one picture at least"
        )
    return predicted.astype(np.int64), wanted.astype(np.int64)


@dataclass(frozen=True)
class ClassificationScores:
    """The four numbers of the thesis's Tables 3.3 and 3.4, as shares of 1.

    `precision`, `recall` and `f1` are means over the classes that occur, each class counting the same.
    """

    accuracy: float
    precision: float
    recall: float
    f1: float


def classification_scores(prediction: ArrayLike, target: ArrayLike) -> ClassificationScores:
    """Accuracy, and the class means of precision, recall and F1.

    Source: EmoSynthNet thesis, section 3.3.3.2. A class that is never predicted has a precision of 0.

    Parameters
    ----------
    prediction, target
        Class numbers, (N,).

    Examples
    --------
    >>> scores = classification_scores([0, 1, 1, 1], [0, 0, 1, 1])
    >>> scores.accuracy, round(scores.precision, 4), scores.recall, round(scores.f1, 4)
    (0.75, 0.8333, 0.75, 0.7333)
    """
    predicted, wanted = checked(prediction, target)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        wanted, predicted, labels=np.unique(wanted), average="macro", zero_division=0.0
    )
    return ClassificationScores(
        float(metrics.accuracy_score(wanted, predicted)), float(precision), float(recall), float(f1)
    )


def confusion(prediction: ArrayLike, target: ArrayLike, classes: int) -> FloatArray:
    """The normalised confusion matrix (C, C): of class i, the share that was called j.

    Source: EmoSynthNet thesis, Figures 3.6, 5.3 and 5.5. A row is NaN for a class that does not occur.

    Examples
    --------
    >>> confusion([0, 1, 1, 1], [0, 0, 1, 1], classes=2)
    array([[0.5, 0.5],
           [0. , 1. ]])
    """
    predicted, wanted = checked(prediction, target)
    counts = metrics.confusion_matrix(wanted, predicted, labels=np.arange(classes)).astype(np.float64)
    totals = counts.sum(axis=1, keepdims=True)
    shares: FloatArray = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    return shares


def per_class(prediction: ArrayLike, target: ArrayLike, classes: Sequence[str]) -> pd.DataFrame:
    """Precision, recall and F1 of every class, with the number of its pictures; NaN where there are none.

    Examples
    --------
    >>> per_class([0, 1, 1], [0, 0, 1], ["cat", "dog"])["recall"].tolist()
    [0.5, 1.0]
    """
    predicted, wanted = checked(prediction, target)
    precision, recall, f1, pictures = metrics.precision_recall_fscore_support(
        wanted, predicted, labels=np.arange(len(classes)), zero_division=0.0
    )
    absent = pictures == 0
    columns = {"precision": precision, "recall": recall, "f1": f1}
    found = {name: np.where(absent, np.nan, values) for name, values in columns.items()}
    return pd.DataFrame({"class": list(classes), "pictures": pictures, **found})
