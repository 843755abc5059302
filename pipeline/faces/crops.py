"""From a picture and a box to a squared crop, with landmarks in the crop's pixels.

The square has the side max(w, h) * (1 + 2 * margin) and the box's centre, so the box always lies centred
in the crop, 1 / (1 + 2 * margin) of its side long. Where the square leaves the picture, the picture's
border is repeated: black bars would be edges that no face has.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.core.boxes import Box, Pixels
from pipeline.faces.detectors import Detection
from pipeline.faces.images import ImageRejected
from pipeline.faces.landmarks import Points

# Pillow widens the filter's window with the factor: an area-like mean when a face shrinks, so that
# nothing aliases. Bicubic sums four values a direction where Lanczos sums six.
FILTER = Image.Resampling.BICUBIC
# Far larger faces are first averaged over whole pixels, which bounds the memory whatever the picture.
GAP = 3
# The filter looks this many (shrunk) pixels beyond the square.
SUPPORT = 4


def choose(found: Sequence[Detection], faces: str) -> Detection:
    """The face to crop: the largest, unless several are a reason to leave the picture out.

    Parameters
    ----------
    found
        What the detectors found.
    faces
        `largest`, or `reject` for pictures with more than one face.

    Raises
    ------
    ImageRejected
        With reason `no_face` or `several_faces`.

    Examples
    --------
    >>> small, large = Detection((0, 0, 9, 9), 2.0, "x"), Detection((20, 0, 60, 40), 0.5, "x")
    >>> choose([small, large], "largest") == large
    True
    """
    if not found:
        raise ImageRejected("no_face", "no detector finds a face")
    if faces == "reject" and len(found) > 1:
        raise ImageRejected("several_faces", f"{found[0].detector} finds {len(found)} faces")
    return max(found, key=rank)


def rank(one: Detection) -> tuple[float, float, Box]:
    """What the face to crop has most of: area, then score; the box settles ties."""
    return _area(one.box), one.score, one.box


def side_of(box: Box, margin: float) -> float:
    """The side of the square around a box, in the picture's pixels."""
    return max(box[2] - box[0], box[3] - box[1]) * (1 + 2 * margin)


def square(image: Pixels, box: Box, *, size: int, margin: float, turn: float = 0.0) -> Pixels:
    """Cut the square around a box out of a picture and bring it to a size.

    Parameters
    ----------
    image
        (H, W, 3) uint8 RGB.
    box
        Left, top, right, bottom in pixels.
    size
        Side of the crop in pixels.
    margin
        Added on each side, as a fraction of the box's longer side.
    turn
        Degrees by which the square is turned clockwise around its centre: a face's roll makes its eyes level.

    Returns
    -------
    ndarray
        (size, size, 3) uint8.
    """
    side = side_of(box, margin)
    centre_x, centre_y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    step = max(1, int(side / (GAP * size)))
    side, centre_x, centre_y = side / step, centre_x / step, centre_y / step
    cosine, sine = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    # Half the side of the upright square that holds the turned one and what the filter sees around it.
    reach = (abs(cosine) + abs(sine)) * side / 2 + SUPPORT * max(1.0, side / size)
    left, top = math.floor(centre_x - reach), math.floor(centre_y - reach)
    right, bottom = math.ceil(centre_x + reach), math.ceil(centre_y + reach)
    region = _replicated(image, step, left, top, right, bottom)
    x, y = centre_x - left, centre_y - top
    if turn:
        region = region.transform(
            region.size,
            Image.Transform.AFFINE,
            (cosine, -sine, x - cosine * x + sine * y, sine, cosine, y - sine * x - cosine * y),
            resample=Image.Resampling.BICUBIC,
        )
    edges = (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
    return np.asarray(region.resize((size, size), FILTER, box=edges))


def to_crop(points: Points, box: Box, *, size: int, margin: float, turn: float = 0.0) -> Points:
    """Points of the picture, (N, 2), in the pixels of the crop that `square` cuts with the same arguments."""
    centre = np.array([box[0] + box[2], box[1] + box[3]], dtype=np.float64) / 2
    cosine, sine = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    # Whole numbers are the centres of pixels to the landmark model and edges to the box: hence the halves.
    offset = points.astype(np.float64) + 0.5 - centre
    turned = offset @ np.array([[cosine, -sine], [sine, cosine]])
    mapped: npt.NDArray[np.float64] = turned * (size / side_of(box, margin)) + size / 2 - 0.5
    return mapped.astype(np.float32)


def _replicated(image: Pixels, step: int, left: int, top: int, right: int, bottom: int) -> Image.Image:
    """A region of a picture averaged over `step` pixels; where it reaches beyond, the border is repeated.

    No more of the picture is copied than that: there may be two hundred faces in 50 million pixels.
    """
    height, width = (-(-side // step) for side in image.shape[:2])
    inner = (
        min(max(left, 0), width - 1),
        min(max(top, 0), height - 1),
        max(min(right, width), 1),
        max(min(bottom, height), 1),
    )
    part = image[inner[1] * step : inner[3] * step, inner[0] * step : inner[2] * step]
    pixels = np.asarray(Image.fromarray(np.ascontiguousarray(part)).reduce(step)) if step > 1 else part
    around = ((inner[1] - top, bottom - inner[3]), (inner[0] - left, right - inner[2]), (0, 0))
    return Image.fromarray(np.pad(pixels, around, mode="edge"))


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
