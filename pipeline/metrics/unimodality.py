"""How many peaks predicted distributions over ordered labels have."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

RIPPLE = 1e-3


def modes(probabilities: ArrayLike, ripple: float = RIPPLE) -> NDArray[np.int64]:
    """The number of peaks of each distribution: where it stops rising and starts to fall.

    A plateau is one peak, and a peak may be at either end.

    Parameters
    ----------
    probabilities
        (..., C): one distribution over C labels in order for each face.
    ripple
        Neighbours whose probabilities differ by no more than this count as equal: hardly any distribution
        that a network predicts is free of ripples that nobody would see. A flat distribution has one peak.

    Returns
    -------
    ndarray
        (...,), at least 1.

    Examples
    --------
    >>> modes([[0.1, 0.6, 0.3], [0.4, 0.1, 0.5], [0.25, 0.5, 0.25]]).tolist()
    [1, 2, 1]
    """
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim == 0 or p.shape[-1] == 0:
        raise ValueError(f"distributions have shape {p.shape}: their last dimension must be the labels")
    if not np.isfinite(p).all():
        raise ValueError("a distribution holds a number that is not finite: its peaks cannot be counted")
    steps = np.diff(p)
    directions = np.where(np.abs(steps) <= ripple, 0, np.sign(steps)).astype(np.int64)
    # A distribution comes up from nothing and goes down to nothing.
    rising, falling = np.ones_like(directions, shape=(*p.shape[:-1], 1)), -1
    directions = np.concatenate([rising, directions, falling * rising], axis=-1)
    # Where it is level it keeps the direction it had.
    last = np.maximum.accumulate(np.where(directions != 0, np.arange(directions.shape[-1]), 0), axis=-1)
    directions = np.take_along_axis(directions, last, axis=-1)
    return ((directions[..., :-1] > 0) & (directions[..., 1:] < 0)).sum(axis=-1)  # type: ignore[no-any-return]


def unimodality_rate(probabilities: ArrayLike, ripple: float = RIPPLE) -> float:
    """The share of distributions (N, C) that have a single peak, between 0 and 1; arguments as of `modes`.

    Source of the property: Li et al., Unimodal-Concentrated Loss, 2022, principle II.

    Examples
    --------
    >>> unimodality_rate([[0.1, 0.6, 0.3], [0.4, 0.1, 0.5]])
    0.5
    """
    counted = modes(probabilities, ripple)
    if counted.size == 0:
        raise ValueError("there is no distribution whose peaks could be counted")
    return float((counted == 1).mean())
