"""Five points of a face: the corners of the eyes and the base of the nose.

dlib's five-point model is free for any use; its 68-point model is not.
"""

import functools
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core.boxes import Box, Pixels
from pipeline.core.package_data import LANDMARK_MODEL, dlib_model

Points = npt.NDArray[np.float32]

# Row numbers in dlib's order. Left and right are the picture's.
EYE_RIGHT = (0, 1)
EYE_LEFT = (2, 3)
NOSE = 4


def landmarks5(image: Pixels, box: Box) -> Points:
    """Find five landmarks of the face in a box.

    Parameters
    ----------
    image
        (H, W, 3) uint8 RGB.
    box
        Left, top, right, bottom in pixels, as a detector gives it.

    Returns
    -------
    ndarray
        (5, 2) float32: x and y of the outer and inner corner of the eye on the picture's right, the same on
        its left, and the base of the nose.
    """
    import dlib

    left, top, right, bottom = (round(edge) for edge in box)
    found = _predictor()(image, dlib.rectangle(left, top, right - 1, bottom - 1))
    return np.array([(part.x, part.y) for part in found.parts()], dtype=np.float32)


@functools.cache
def _predictor() -> Any:
    import dlib

    return dlib.shape_predictor(os.fsencode(dlib_model(LANDMARK_MODEL)))
