"""Heat and gradients as pictures to look at."""

from typing import cast

import numpy as np
import numpy.typing as npt
from pytorch_grad_cam.utils.image import show_cam_on_image

from pipeline.explain.gradcam import Heat

Pictures = npt.NDArray[np.uint8]


def in_colour(pictures: Pictures) -> Pictures:
    """Pictures (N, H, W) or (N, H, W, 1 or 3) as (N, H, W, 3)."""
    if pictures.ndim == 3:
        pictures = pictures[..., None]
    return np.broadcast_to(pictures, (*pictures.shape[:3], 3))


def overlaid(pictures: Pictures, heat: Heat) -> Pictures:
    """Pictures with their heat over them, from blue (cold) to red (hot): (N, H, W, 3) uint8.

    Examples
    --------
    >>> overlaid(np.zeros((2, 4, 4), np.uint8), np.ones((2, 4, 4), np.float32)).shape
    (2, 4, 4, 3)
    """
    shown = [
        show_cam_on_image(picture.astype(np.float32) / 255, one, use_rgb=True)
        for picture, one in zip(in_colour(pictures), heat, strict=True)
    ]
    return cast(Pictures, np.stack(shown))


def of_gradients(gradients: Heat) -> Pictures:
    """Gradients (N, C, H, W) as pictures (N, H, W, 3): grey where there is none, each at full contrast."""
    moved = gradients.transpose(0, 2, 3, 1)
    largest = np.abs(moved).max(axis=(1, 2, 3), keepdims=True)
    share = np.divide(moved, largest, out=np.zeros_like(moved), where=largest > 0)
    return in_colour(np.round(127.5 * (1 + share)).astype(np.uint8))
