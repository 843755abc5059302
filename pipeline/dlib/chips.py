"""dlib's aligned face chips: 150 x 150 pictures, eyes level, from a crop and its five landmarks."""

import functools
import os

import dlib
import numpy as np
import numpy.typing as npt

from pipeline.core.package_data import LANDMARK_MODEL, dlib_model
from pipeline.dlib.file_format import MIRRORED_LANDMARKS

SIZE = 150
DEFAULT_PADDING = 0.25

# The mean face that dlib::get_face_chip_details aligns five landmarks to, as fractions of the unpadded chip:
# outer and inner corner of the eye on the picture's right, the same on its left, base of the nose.
MEAN_FACE = np.array(
    [
        (0.8595674595992, 0.2134981538014),
        (0.6460604764104, 0.2289674387677),
        (0.1205750620789, 0.2137274526848),
        (0.3340850613712, 0.2290642403242),
        (0.4901123135679, 0.6277975316475),
    ]
)


def chips(
    images: npt.NDArray[np.uint8],
    landmarks: npt.NDArray[np.float32] | None = None,
    *,
    padding: float | None = None,
    mirror: bool = False,
    margin: float = 0.25,
) -> npt.NDArray[np.uint8]:
    """Cut one aligned chip out of every crop, as dlib's face recognition network expects it.

    The landmarks are used as they are. dlib's own Python call rounds them to whole pixels; given whole
    pixels the chips are the same bit for bit.

    Source: dlib, image_transforms/interpolation.h, get_face_chip_details and extract_image_chip.

    Parameters
    ----------
    images
        (N, H, W, 3) RGB crops.
    landmarks
        (N, 5, 2), x and y in crop pixels, in the order of dlib's five-point model; None lets that model
        find them from where the detected box lies in every crop.
    padding
        How much is shown around the face, as a fraction of its size on each side; None is dlib's 0.25.
    mirror
        Flip every crop from left to right first; its landmarks are flipped and the eyes change places.
    margin
        The margin that the crops were cut with: the box has 1 / (1 + 2 margin) of the crop's side.

    Returns
    -------
    ndarray
        (N, 150, 150, 3) uint8.

    Raises
    ------
    ValueError
        When shapes disagree or a landmark is not finite.

    Examples
    --------
    >>> eyes_and_nose = np.array([[(160, 90), (130, 92), (64, 90), (94, 92), (112, 150)]], dtype=np.float32)
    >>> chips(np.zeros((1, 224, 224, 3), dtype=np.uint8), eyes_and_nose).shape
    (1, 150, 150, 3)
    """
    if mirror:
        images = np.ascontiguousarray(images[:, :, ::-1])
    if landmarks is None:
        points = np.stack([predict_landmarks(image, margin) for image in images]) if len(images) else None
    else:
        points = mirrored(landmarks, images.shape[2]) if mirror else landmarks
    cut = np.empty((len(images), SIZE, SIZE, 3), dtype=np.uint8)
    if points is None:
        return cut
    if points.shape != (len(images), 5, 2):
        raise ValueError(f"landmarks have the shape {points.shape}, not {(len(images), 5, 2)}")
    if not np.isfinite(points).all():
        row = int(np.flatnonzero(~np.isfinite(points).all(axis=(1, 2)))[0])
        raise ValueError(f"landmarks of crop {row} are not finite: {points[row].tolist()}")
    amount = DEFAULT_PADDING if padding is None else padding
    target = _dpoints((MEAN_FACE + amount) / (2 * amount + 1) * SIZE)
    size = dlib.chip_dims(SIZE, SIZE)
    for row, image in enumerate(images):
        details = dlib.chip_details(target, _dpoints(points[row]), size)
        cut[row] = dlib.extract_image_chip(image, details)
    return cut


def mirrored(landmarks: npt.NDArray[np.float32], width: int) -> npt.NDArray[np.float32]:
    """Flip landmarks, (N, 5, 2), of pictures of a width from left to right; the eyes change places."""
    flipped = landmarks[:, MIRRORED_LANDMARKS].copy()
    flipped[..., 0] = width - 1 - flipped[..., 0]
    return flipped


def predict_landmarks(image: npt.NDArray[np.uint8], margin: float) -> npt.NDArray[np.float32]:
    """Find the five landmarks, (5, 2), of a crop whose detected box lies centred with a margin around it."""
    height, width = image.shape[:2]
    inset = margin / (1 + 2 * margin)
    box = dlib.rectangle(
        round(width * inset), round(height * inset), round(width * (1 - inset)), round(height * (1 - inset))
    )
    found = _landmark_model()(image, box)
    return np.array([(part.x, part.y) for part in found.parts()], dtype=np.float32)


@functools.cache
def _landmark_model() -> dlib.shape_predictor:
    return dlib.shape_predictor(os.fsencode(dlib_model(LANDMARK_MODEL)))


def _dpoints(points: npt.NDArray[np.floating]) -> dlib.dpoints:
    return dlib.dpoints([dlib.dpoint(float(x), float(y)) for x, y in points])
