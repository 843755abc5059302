"""Intervals of equal width that targets fall into, counted from 0: the same for splits and for balance."""

import numpy as np
import numpy.typing as npt


def bin_of(targets: npt.NDArray[np.float64], width: float | None) -> npt.NDArray[np.float64]:
    """Whole numbers of the bins that targets lie in; without a width the targets are their own bins.

    Examples
    --------
    >>> bin_of(np.array([0.29, 0.3, 3.0]), 0.1).tolist()
    [2.0, 3.0, 30.0]
    """
    if width is None:
        return targets
    # The little extra puts 0.3 / 0.1 = 2.9999999999999996 where it belongs.
    bins: npt.NDArray[np.float64] = np.floor(targets / width + 1e-9)
    return bins


def bin_name(index: float, width: float | None) -> str:
    """A bin by its limits, or by its only target where there is no width.

    Examples
    --------
    >>> bin_name(3, 0.5), bin_name(18, None)
    ('[1.5, 2)', '18')
    """
    return f"{index:g}" if width is None else f"[{index * width:g}, {(index + 1) * width:g})"
