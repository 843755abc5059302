"""How many peaks predicted distributions over ordered labels have."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

PROMINENCE = 0.05


def modes(probabilities: ArrayLike, prominence: float = PROMINENCE) -> NDArray[np.int64]:
    """The number of peaks of each distribution that stand out.

    A peak stands out by its prominence: how far one must descend from it to reach a higher one. A plateau
    is one peak, and a peak may be at either end.

    Parameters
    ----------
    probabilities
        (..., C): one distribution over C labels in order for each face.
    prominence
        A peak counts if its prominence is above this share of the distribution's highest probability, so
        that neither the number of labels nor the width matters. Hardly any distribution that a network
        predicts is free of ripples that nobody would see; with 0 they count too. The highest peak always
        counts: a flat distribution has one.

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
    if not 0 <= prominence < 1:
        raise ValueError(f"prominence is {prominence}: it must be a share from 0 to below 1")
    needed = prominence * p.max(axis=-1)
    # A distribution comes up from nothing, and goes down to nothing after its last label.
    rising = np.ones(p.shape[:-1], dtype=bool)
    extreme = p[..., 0]  # the highest since the last valley, or the lowest since the last peak
    count = np.zeros(p.shape[:-1], dtype=np.int64)
    for value in np.moveaxis(p, -1, 0):
        passed = np.where(rising, extreme - value, value - extreme) > needed
        count += passed & rising
        furthest = np.where(rising, np.maximum(extreme, value), np.minimum(extreme, value))
        extreme = np.where(passed, value, furthest)
        rising = rising ^ passed
    return count + rising


def unimodality_rate(probabilities: ArrayLike, prominence: float = PROMINENCE) -> float:
    """The share of distributions (N, C) that have a single peak, between 0 and 1; arguments as of `modes`.

    Source of the property: Li et al., Unimodal-Concentrated Loss, 2022, principle II.

    Examples
    --------
    >>> unimodality_rate([[0.1, 0.6, 0.3], [0.4, 0.1, 0.5]])
    0.5
    """
    counted = modes(probabilities, prominence)
    if counted.size == 0:
        raise ValueError("there is no distribution whose peaks could be counted")
    return float((counted == 1).mean())
