"""Where an augmentation takes the points of a picture."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.dlib.file_format import MIRRORED_LANDMARKS

Points = npt.NDArray[np.float64]
# Newton's steps to find a point in a bent cell, and how far outside of it rounding may put one.
STEPS = 6
TOLERANCE = 1e-3


class Places:
    """Landmarks that go through an operation as if they were its picture.

    It answers the calls that Augmentor's moving operations make of a picture (rotate, crop, resize,
    transpose, transform by a mesh), and does to points what Pillow would do to pixels. Looking for the
    landmarks anew would ask for a face where a zoom may have left none to be found.

    Parameters
    ----------
    points
        (5, 2) x and y, in dlib's order; pixel centres are whole numbers.
    size
        Width and height of the picture.

    Examples
    --------
    >>> eyes = np.array([(20, 9), (18, 9), (6, 9), (8, 9), (13, 15)], np.float32)
    >>> Places(eyes, (32, 32)).transpose(Image.Transpose.FLIP_LEFT_RIGHT).points[0].tolist()
    [25.0, 9.0]
    """

    def __init__(self, points: npt.ArrayLike, size: tuple[int, int]) -> None:
        self.points: Points = np.asarray(points, dtype=np.float64)
        self.size = size

    def rotate(self, angle: float, *, expand: bool, resample: Any) -> "Places":
        """Turn counter-clockwise about the middle; the new size is Pillow's."""
        size = Image.new("1", self.size).rotate(angle, expand=expand).size
        cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        turned = (self.points + 0.5 - np.array(self.size) / 2) @ np.array([[cosine, -sine], [sine, cosine]])
        return Places(turned + np.array(size) / 2 - 0.5, size)

    def crop(self, box: Sequence[int]) -> "Places":
        """Cut out left, top, right, bottom."""
        left, top, right, bottom = box
        return Places(self.points - (left, top), (right - left, bottom - top))

    def resize(self, size: tuple[int, int], *, resample: Any) -> "Places":
        """Scale to a width and height."""
        return Places((self.points + 0.5) * np.array(size) / np.array(self.size) - 0.5, size)

    def transpose(self, method: Any) -> "Places":
        """Swap left and right: the eyes change places, too."""
        if method != Image.Transpose.FLIP_LEFT_RIGHT:
            raise NotImplementedError(f"landmarks cannot follow {method}")
        mirrored = self.points * (-1, 1) + (self.size[0] - 1, 0)
        return Places(mirrored[list(MIRRORED_LANDMARKS)], self.size)

    def transform(
        self, size: tuple[int, int], method: Any, mesh: Sequence[Any], *, resample: Any
    ) -> "Places":
        """Bend by a mesh: the cells of the result, each with the four corners that it is taken from."""
        if method != Image.Transform.MESH:
            raise NotImplementedError(f"landmarks cannot follow {method}")
        boxes = np.array([box for box, _ in mesh], dtype=np.float64)
        # corners as Pillow has them: upper left, lower left, lower right, upper right
        corners = np.array([corners for _, corners in mesh], dtype=np.float64).reshape(-1, 4, 2)
        return Places(bent(self.points + 0.5, boxes, corners) - 0.5, size)


def bent(points: Points, boxes: Points, corners: Points) -> Points:
    """Where points of a picture are once cells with such corners were bent into boxes.

    Parameters
    ----------
    points
        (P, 2).
    boxes
        (M, 4) left, top, right, bottom of the cells in the result.
    corners
        (M, 4, 2) of the same cells in the picture.

    Returns
    -------
    ndarray
        (P, 2); a point that is in no cell stays where it is.
    """
    first, down, across, right = (corners[:, k, :] for k in range(4))
    by_right, by_down, by_both = right - first, down - first, across - right - down + first
    # (P, M): every point is looked for in every cell, as shares of its width and height
    u = np.full((len(points), len(boxes)), 0.5)
    v = u.copy()
    error = np.zeros((*u.shape, 2))
    for step in range(STEPS + 1):
        there = first + u[..., None] * by_right + v[..., None] * by_down + (u * v)[..., None] * by_both
        error = points[:, None, :] - there
        if step == STEPS:
            break
        along_u, along_v = by_right + v[..., None] * by_both, by_down + u[..., None] * by_both
        size = along_u[..., 0] * along_v[..., 1] - along_u[..., 1] * along_v[..., 0]
        size = np.where(size == 0, np.inf, size)
        u = u + (error[..., 0] * along_v[..., 1] - error[..., 1] * along_v[..., 0]) / size
        v = v + (error[..., 1] * along_u[..., 0] - error[..., 0] * along_u[..., 1]) / size
    outside = np.maximum(np.abs(u - 0.5), np.abs(v - 0.5)) - 0.5
    outside[np.abs(error).max(axis=2) > TOLERANCE] = np.inf  # steps that led nowhere
    cell = outside.argmin(axis=1)
    row = np.arange(len(points))
    left, top, right_edge, bottom = boxes[cell].T
    moved = np.stack([left + u[row, cell] * (right_edge - left), top + v[row, cell] * (bottom - top)], axis=1)
    return np.where((outside[row, cell] <= TOLERANCE)[:, None], moved, points)
