"""What stands for an image and for a place in it, wherever one is handed on."""

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""(height, width, 3), RGB."""
Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels."""
