"""Which part of a crop a network sees, and at what size: integer arithmetic only, on whole batches."""

import numpy as np
import torch
import torch.nn.functional as F

from pipeline.backbones.views import Images, View

VERSION = 1


def frame(images: Images, view: View, margin: float, size: int) -> Images:
    """Cut every crop to a view and resize it (bilinear, antialiased) to a network's input.

    Parameters
    ----------
    images
        (N, H, W, 3) square crops in which the detected box has 1 / (1 + 2 margin) of the side.
    view
        Its padding p shows the box enlarged by p on each side, (1 + 2 p) / (1 + 2 margin) of the crop's
        side; where that is more than the crop, its edges are repeated. None is the whole crop.
    margin
        The margin that the crops were cut with.
    size
        The side of the result in pixels.

    Returns
    -------
    ndarray
        (N, size, size, 3) uint8.

    Examples
    --------
    >>> crop = np.zeros((1, 6, 6, 3), dtype=np.uint8)
    >>> crop[:, 2:4, 2:4] = 255
    >>> frame(crop, View(padding=0.0), margin=1.0, size=2).min()
    np.uint8(255)
    """
    if view.mirror:
        images = images[:, :, ::-1]
    if view.padding is not None:
        side = images.shape[1]
        # The same number of pixels on every side keeps the face in the middle.
        border = round(side * ((1 + 2 * view.padding) / (1 + 2 * margin) - 1) / 2)
        if border >= 0:
            images = np.pad(images, ((0, 0), (border, border), (border, border), (0, 0)), mode="edge")
        else:
            images = images[:, -border:border, -border:border]
    if images.shape[1:3] != (size, size) and len(images):
        pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
        resized = F.interpolate(pixels, size=(size, size), mode="bilinear", antialias=True)
        images = resized.permute(0, 2, 3, 1).numpy()
    return np.ascontiguousarray(images)
