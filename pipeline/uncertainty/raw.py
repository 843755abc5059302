"""What a method says of faces before it is calibrated, and how hard training faces say such faces are."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from threadpoolctl import threadpool_limits

FloatArray = NDArray[np.float64]

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
        error = np.abs(target - said.mean)
        parts = np.array_split(np.argsort(said.mean, kind="stable"), min(SEGMENTS, len(said)))
        knots = np.array([said.mean[part].mean() for part in parts])
        heights = np.array([error[part].mean() for part in parts])
        # BLAS sums in another order on other numbers of threads, which would show in the last bits.
        with threadpool_limits(1, user_api="blas"):
            weights, _ = nnls(cls._features(said, knots, heights), error)
        return cls(knots, heights, weights, max(LEAST * float(error.mean()), 1e-9))

    @staticmethod
    def _features(said: Predicted, knots: FloatArray, heights: FloatArray) -> FloatArray:
        return np.stack([np.ones(len(said)), said.spread, np.interp(said.mean, knots, heights)], axis=1)

    def __call__(self, said: Predicted) -> FloatArray:
        """The expected error (N,), never below the floor."""
        expected = self._features(said, self.knots, self.heights) @ self.weights
        return np.maximum(expected, self.floor)


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
