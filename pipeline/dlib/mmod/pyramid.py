"""Where dlib's convolutional detector looks: a picture in many sizes, tiled into one, and the way back.

Source: dlib/image_transforms/image_pyramid.h (compute_tiled_image_pyramid_details, tiled_pyramid_to_image,
pyramid_down<6>), dlib/image_processing/box_overlap_testing.h and dlib/dnn/loss.h (loss_mmod_). Everything is
as there, as what the network sees around a face, the neighbouring sizes among it, touches its score.
"""

import math
from typing import NamedTuple

from pipeline.core.boxes import Box
from pipeline.dlib.mmod.parameters import OVERLAP, WINDOW

SMALLER, LARGER = 5 / 6, 6 / 5
"""From the side of a level to that of the next, and back."""
LEAST_HEIGHT = 5
BETWEEN = 10
AROUND = 11
"""Pixels between the levels and around all of them."""


class Level(NamedTuple):
    """One size of the picture, and where it lies among the others."""

    left: int
    top: int
    width: int
    height: int


def layout(height: int, width: int) -> tuple[list[Level], tuple[int, int]]:
    """Where the levels of a picture go: down the left side, then up the right side.

    Parameters
    ----------
    height, width
        The picture's, in pixels; at least 24.

    Returns
    -------
    tuple
        The levels, largest first; the height and width of the tile they lie in.

    Examples
    --------
    >>> levels, tile = layout(200, 200)
    >>> tile, levels[1], levels[-1]
    ((776, 222), Level(left=11, top=221, width=166, height=166), Level(left=206, top=222, width=5, height=5))
    """
    sizes = _sizes(height, width)
    tall = _column(sizes)
    levels: list[Level] = []
    below = AROUND
    for rows, columns in sizes:
        if below >= tall + AROUND:
            break
        levels.append(Level(AROUND, below, columns, rows))
        below += rows + BETWEEN
    above = below - BETWEEN
    for rows, columns in sizes[len(levels) :]:
        level = Level(AROUND + width - columns, above - rows, columns, rows)
        if level.top < AROUND + height:  # all columns touch those of the first level
            break
        levels.append(level)
        above -= rows + BETWEEN
    return levels, (tall + 2 * AROUND, width + 2 * AROUND)


def _sizes(height: int, width: int) -> list[tuple[int, int]]:
    sizes = []
    while height >= LEAST_HEIGHT and width > 0:
        sizes.append((height, width))
        height, width = math.floor(SMALLER * height), math.floor(SMALLER * width)
    return sizes


def _column(sizes: list[tuple[int, int]]) -> int:
    """The height of the left column: on until half of what follows the first level fits beside it."""
    largest, width = sizes[0]
    total = sum(rows + BETWEEN for rows, _ in sizes) - 2 * BETWEEN
    height = before = 0
    for rows, columns in sizes:
        fits = columns <= width - before - BETWEEN
        if fits and 2 * (height - largest) >= total - largest:
            break
        height += rows + BETWEEN
        before = columns
    return height - BETWEEN


def to_picture(levels: list[Level], x: int, y: int) -> Box:
    """The box of a face found around a place in the tile, in whole pixels of the picture.

    Left, top, right and bottom are edges: dlib's own rectangles end one pixel earlier.
    """
    index = _nearest(levels, x, y)
    level = levels[index]
    half = (WINDOW - 1) / 2
    across, down = x - level.left, y - level.top
    corners = [across - half, down - half, across + half, down + half]
    for _ in range(index):
        corners = [corner * LARGER + 0.3 for corner in corners]
    left, top, right, bottom = (_rounded(corner) for corner in corners)
    return left, top, right + 1, bottom + 1


def _rounded(value: float) -> int:
    """To the nearest whole number, halves away from zero, as dlib does; Python takes the even one."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def _nearest(levels: list[Level], x: int, y: int) -> int:
    """The level that holds a place in the tile, else the closest."""

    def distance(index: int) -> int:
        level = levels[index]
        aside = max(level.left - x, 0, x - (level.left + level.width - 1))
        away = max(level.top - y, 0, y - (level.top + level.height - 1))
        return aside**2 + away**2

    return min(range(len(levels)), key=distance)


def without_overlaps(found: list[tuple[Box, float]]) -> list[tuple[Box, float]]:
    """Of faces, best first, those that overlap no better one (non-maximum suppression)."""
    kept: list[tuple[Box, float]] = []
    for box, score in found:
        if all(overlap(better, box) <= OVERLAP for better, _ in kept):
            kept.append((box, score))
    return kept


def overlap(one: Box, other: Box) -> float:
    """The share that two boxes have in common of the smallest box around both.

    Examples
    --------
    >>> overlap((0, 0, 2, 2), (1, 1, 3, 3))
    0.1111111111111111
    """
    common = _area(*map(max, one[:2], other[:2]), *map(min, one[2:], other[2:]))
    around = _area(*map(min, one[:2], other[:2]), *map(max, one[2:], other[2:]))
    return common / around


def _area(left: float, top: float, right: float, bottom: float) -> float:
    return max(right - left, 0) * max(bottom - top, 0)
