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
from pipeline.uncertainty.raw import Difficulty, Predicted, own, row_interp

FloatArray = NDArray[np.float64]
Bounds = tuple[FloatArray, FloatArray]

TINY = 1e-9  # quantiles that coincide still have a tail


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

    def moved(self, said: Predicted) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Ascending quantiles (N, Q), and the scales (N,) of the exponential tails below and above them.

        Tails that ended somewhere would give many faces the very same probability of 0 or 1.
        """
        p = said.probabilities
        q = np.sort(own(said) + self.shifts, axis=1)
        below = (q[:, 1] - q[:, 0]) / np.log(p[1] / p[0])
        above = (q[:, -1] - q[:, -2]) / np.log((1 - p[-2]) / (1 - p[-1]))
        return q, np.maximum(below, TINY), np.maximum(above, TINY)

    def cdf(self, said: Predicted, at: FloatArray) -> FloatArray:
        """Linear between the quantiles, exponential beyond them."""
        p = said.probabilities
        q, below, above = self.moved(said)
        inner = [np.interp(value, row, p) for value, row in zip(at, q, strict=True)]
        found = np.array(inner, dtype=np.float64)
        found = np.where(at < q[:, 0], p[0] * np.exp(np.minimum(0, (at - q[:, 0]) / below)), found)
        rest = (1 - p[-1]) * np.exp(np.minimum(0, (q[:, -1] - at) / above))
        return np.where(at > q[:, -1], 1 - rest, found)

    def quantiles(self, said: Predicted, probabilities: FloatArray) -> FloatArray:
        """Quantiles (N, K) at probabilities strictly between 0 and 1: what `cdf` inverts."""
        p = said.probabilities
        q, below, above = self.moved(said)
        found = row_interp(q, p, probabilities)
        low = np.minimum(0, np.log(probabilities / p[0]))
        high = np.maximum(0, np.log((1 - p[-1]) / (1 - probabilities)))
        found += np.outer(below, low) + np.outer(above, high)
        return found
