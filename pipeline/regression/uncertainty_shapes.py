"""Predicted distributions: the shape around a prediction, as learnt on validation faces or assumed.

Three shapes, each with intervals, a distribution function and quantiles: a normal one (uncalibrated), the
scores of validation faces (conformal), and a network's own quantiles, shifted (conformalised) or not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pipeline.metrics.calibration import conformal_quantile

FloatArray = NDArray[np.float64]
Bounds = tuple[FloatArray, FloatArray]

SEGMENTS = 20  # parts of the range of predictions for which the typical training error is known
LEAST = 0.05  # of the mean training error: no face is said to be easier than that


@dataclass(frozen=True)
class Predicted:
    """What a method says of N faces.

    Attributes
    ----------
    mean
        (N,) the prediction.
    spread
        (N,) how far members, samples or views are apart; 0 where there is only one.
    quantiles, probabilities
        (N, Q) and (Q,), ascending, where the method predicts a distribution; otherwise None and empty.
    """

    mean: FloatArray
    spread: FloatArray
    quantiles: FloatArray | None = None
    probabilities: tuple[float, ...] = ()

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp] | slice) -> "Predicted":
        """Some of the faces."""
        quantiles = None if self.quantiles is None else self.quantiles[rows]
        return Predicted(self.mean[rows], self.spread[rows], quantiles, self.probabilities)

    def __len__(self) -> int:
        return len(self.mean)


class Shape(Protocol):
    """A distribution around predictions; levels (L,), probabilities (K,)."""

    def bounds(self, said: Predicted, levels: Sequence[float]) -> Bounds:
        """Lower and upper bounds, (N, L) each."""

    def cdf(self, said: Predicted, at: FloatArray) -> FloatArray:
        """The probability (N,) that each target lies below `at` (N,)."""

    def quantiles(self, said: Predicted, probabilities: FloatArray) -> FloatArray:
        """Quantiles (N, K)."""


@dataclass(frozen=True)
class Normal:
    """A normal distribution whose variance is that of members plus the mean squared error in training.

    What mean squared error as a likelihood supposes: the same noise for every face, to which the
    disagreement of members is added. Nothing here was checked on faces that were not trained on.
    """

    noise: float

    def deviation(self, said: Predicted) -> FloatArray:
        """Standard deviations (N,)."""
        return np.sqrt(said.spread**2 + self.noise**2)

    def bounds(self, said: Predicted, levels: Sequence[float]) -> Bounds:
        """Central intervals."""
        half = np.outer(self.deviation(said), stats.norm.ppf((1 + np.asarray(levels)) / 2))
        return said.mean[:, None] - half, said.mean[:, None] + half

    def cdf(self, said: Predicted, at: FloatArray) -> FloatArray:
        """The normal distribution function."""
        return stats.norm.cdf((at - said.mean) / self.deviation(said))  # type: ignore[no-any-return]

    def quantiles(self, said: Predicted, probabilities: FloatArray) -> FloatArray:
        """The normal quantiles."""
        return said.mean[:, None] + np.outer(self.deviation(said), stats.norm.ppf(probabilities))


@dataclass(frozen=True)
class Difficulty:
    """How large an error is to be expected of a face, learnt from training faces alone.

    A sum, with weights that are not negative, of a constant, the members' spread, and the typical training
    error at that prediction. Any function that no validation face took part in leaves conformal coverage
    intact; this one makes intervals narrow where faces are easy.

    Source: Lei et al., Distribution-free predictive inference for regression, JASA 2018, section 5.2
    (locally-weighted conformal inference).

    Attributes
    ----------
    knots, heights
        (K,): predictions, and the mean absolute training error around each; linear in between.
    weights
        (3,): of the constant, the spread, and the typical error.
    floor
        The least difficulty.

    Examples
    --------
    >>> said = Predicted(np.arange(200.0), np.zeros(200))
    >>> found = Difficulty.learn(said, said.mean + 0.1 * said.mean)
    >>> found(Predicted(np.array([50.0, 150.0]), np.zeros(2))).round(1)
    array([ 5., 15.])
    """

    knots: FloatArray
    heights: FloatArray
    weights: FloatArray
    floor: float

    @classmethod
    def learn(cls, said: Predicted, target: FloatArray) -> "Difficulty":
        """Learn from training faces: what is said of them, and their targets (N,)."""
        from scipy.optimize import nnls

        error = np.abs(target - said.mean)
        parts = np.array_split(np.argsort(said.mean, kind="stable"), min(SEGMENTS, len(said)))
        knots = np.array([said.mean[part].mean() for part in parts])
        heights = np.array([error[part].mean() for part in parts])
        weights, _ = nnls(cls._features(said, knots, heights), error)
        return cls(knots, heights, weights, max(LEAST * float(error.mean()), 1e-9))

    @staticmethod
    def _features(said: Predicted, knots: FloatArray, heights: FloatArray) -> FloatArray:
        return np.stack([np.ones(len(said)), said.spread, np.interp(said.mean, knots, heights)], axis=1)

    def __call__(self, said: Predicted) -> FloatArray:
        """The expected error (N,), never below the floor."""
        expected = self._features(said, self.knots, self.heights) @ self.weights
        return np.maximum(expected, self.floor)


@dataclass(frozen=True)
class Scored:
    """The signed errors of validation faces, each divided by its face's difficulty, around a prediction.

    Intervals are split conformal: symmetric, from absolute scores. The distribution is the conformal
    predictive one, from signed scores.

    Source: Vovk et al., Nonparametric predictive distributions based on conformal prediction, Machine
    Learning 2019; Boström, Johansson and Löfström, Mondrian conformal predictive distributions, COPA 2021.

    Attributes
    ----------
    scores
        (n,), ascending.
    difficulty
        None: errors as they are, and intervals of one width.
    """

    scores: FloatArray
    difficulty: Difficulty | None = None

    @classmethod
    def learn(cls, said: Predicted, target: FloatArray, difficulty: Difficulty | None = None) -> "Scored":
        """Learn from validation faces."""
        scale = 1.0 if difficulty is None else difficulty(said)
        return cls(np.sort((target - said.mean) / scale), difficulty)

    def scale(self, said: Predicted) -> FloatArray:
        """What a score of 1 is worth for each face."""
        return np.ones(len(said)) if self.difficulty is None else self.difficulty(said)

    def bounds(self, said: Predicted, levels: Sequence[float]) -> Bounds:
        """Split-conformal intervals, locally weighted where there is a difficulty."""
        halves = np.array([conformal_quantile(np.abs(self.scores), level) for level in levels])
        half = np.outer(self.scale(said), halves)
        return said.mean[:, None] - half, said.mean[:, None] + half

    @property
    def ranks(self) -> FloatArray:
        """The probability that each score stands for: its rank of n + 1 places."""
        return np.arange(1, self.scores.size + 1) / (self.scores.size + 1)

    def cdf(self, said: Predicted, at: FloatArray) -> FloatArray:
        """The share of scores below; beyond all of them half a place is left."""
        z = (at - said.mean) / self.scale(said)
        least = 0.5 / (self.scores.size + 1)
        return np.interp(z, self.scores, self.ranks, left=least, right=1 - least)

    def quantiles(self, said: Predicted, probabilities: FloatArray) -> FloatArray:
        """Scaled quantiles of the scores."""
        standard = np.interp(probabilities, self.ranks, self.scores)
        return said.mean[:, None] + np.outer(self.scale(said), standard)


@dataclass(frozen=True)
class Shifted:
    """A method's own quantiles, conformalised or as they are.

    Intervals are widened (or narrowed) by one margin for each level; the distribution's quantiles are each
    shifted by what they lie off on validation faces.

    Source: Romano, Patterson and Candès, Conformalized quantile regression, NeurIPS 2019, equations 6, 7.

    Attributes
    ----------
    levels, margins
        (L,) each; no margins at other levels than these.
    shifts
        (Q,), one for each of the method's quantiles.
    """

    levels: tuple[float, ...]
    margins: FloatArray
    shifts: FloatArray

    @classmethod
    def learn(cls, said: Predicted, target: FloatArray, levels: Sequence[float]) -> "Shifted":
        """Learn from validation faces."""
        unshifted = cls.none(said, levels)
        lower, upper = unshifted.bounds(said, levels)
        beyond = np.maximum(lower - target[:, None], target[:, None] - upper)
        margins = np.array(
            [conformal_quantile(column, level) for column, level in zip(beyond.T, levels, strict=True)]
        )
        quantiles = own(said)
        shifts = [
            # rank p (n + 1), as the conformal distribution has it
            np.quantile(target - quantiles[:, k], p, method="weibull")
            for k, p in enumerate(said.probabilities)
        ]
        return cls(tuple(levels), margins, np.array(shifts))

    @classmethod
    def none(cls, said: Predicted, levels: Sequence[float]) -> "Shifted":
        """The quantiles as they are."""
        return cls(tuple(levels), np.zeros(len(levels)), np.zeros(len(said.probabilities)))

    def bounds(self, said: Predicted, levels: Sequence[float]) -> Bounds:
        """Intervals between quantiles, moved out by the margins."""
        margins = np.array([self.margins[self.levels.index(level)] for level in levels])
        ends = [
            row_interp(own(said), said.probabilities, (1 + sign * np.asarray(levels)) / 2) for sign in (-1, 1)
        ]
        lower, upper = ends[0] - margins, ends[1] + margins
        middle = (lower + upper) / 2  # a margin far below 0 would let the bounds cross
        return np.minimum(lower, middle), np.maximum(upper, middle)

    def table(self, said: Predicted) -> tuple[FloatArray, FloatArray]:
        """Probabilities (Q + 2,) and ascending quantiles (N, Q + 2), drawn out straight to 0 and 1."""
        p = np.asarray(said.probabilities)
        q = np.sort(own(said) + self.shifts, axis=1)
        first = q[:, 0] - (q[:, 1] - q[:, 0]) * p[0] / (p[1] - p[0])
        last = q[:, -1] + (q[:, -1] - q[:, -2]) * (1 - p[-1]) / (p[-1] - p[-2])
        return np.concatenate([[0.0], p, [1.0]]), np.column_stack([first, q, last])

    def cdf(self, said: Predicted, at: FloatArray) -> FloatArray:
        """Linear between the quantiles."""
        p, q = self.table(said)
        found = [np.interp(value, row, p) for value, row in zip(at, q, strict=True)]
        return np.array(found, dtype=np.float64)

    def quantiles(self, said: Predicted, probabilities: FloatArray) -> FloatArray:
        """Linear between the quantiles."""
        p, q = self.table(said)
        return row_interp(q, p, probabilities)


def own(said: Predicted) -> FloatArray:
    """A method's quantiles, which it must have."""
    if said.quantiles is None:
        raise ValueError("this method predicts no quantiles")
    return said.quantiles


def row_interp(
    quantiles: FloatArray, probabilities: Sequence[float] | FloatArray, at: FloatArray
) -> FloatArray:
    """Each row's quantiles at other probabilities, (N, K), linear between neighbours, held at the ends.

    Examples
    --------
    >>> row_interp(np.array([[0.0, 10.0, 30.0]]), [0.1, 0.5, 0.9], np.array([0.3, 0.9, 1.0]))
    array([[ 5., 30., 30.]])
    """
    p = np.asarray(probabilities, dtype=np.float64)
    right = np.clip(np.searchsorted(p, at), 1, p.size - 1)
    share = np.clip((at - p[right - 1]) / (p[right] - p[right - 1]), 0.0, 1.0)
    found: FloatArray = quantiles[:, right - 1] * (1 - share) + quantiles[:, right] * share
    return found
