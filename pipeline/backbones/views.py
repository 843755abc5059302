"""What a network is given of a face: crops, their landmarks, and how each is looked at."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import UserError

Images = npt.NDArray[np.uint8]
"""(N, height, width, 3), RGB."""
Landmarks = npt.NDArray[np.float32]
"""(N, 5, 2), in pixels of the crops."""


@dataclass(frozen=True)
class View:
    """One look at a face.

    Parameters
    ----------
    mirror
        Flip the crop from left to right.
    padding
        How much to show around the detected box, as a fraction of its side, on each side; for dlib,
        around its aligned face. None is the encoder's own framing: the whole crop, for dlib 0.25.

    Examples
    --------
    >>> View(mirror=True, padding=0.1)
    View(mirror=True, padding=0.1)
    """

    mirror: bool = False
    padding: float | None = None

    def __post_init__(self) -> None:
        if self.padding is not None and not (math.isfinite(self.padding) and self.padding >= 0):
            raise UserError(f"a view's padding is {self.padding}: it must be a number of 0 or more, or null")
