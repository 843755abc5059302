"""How good a crop is: sharpness, exposure, size and pose, and which limits it breaks.

Sharpness and exposure are measured on the face (the detected box), not on the margin around it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from pipeline.core.boxes import Pixels
from pipeline.core.errors import UserError
from pipeline.faces.landmarks import EYE_LEFT, EYE_RIGHT, NOSE, Points

NEAR_BLACK = 16
NEAR_WHITE = 240

# How far below and before the middle of the eyes the base of the nose lies on an upright face, in
# distances between the centres of the eyes. Below: the mean face to which dlib aligns its five landmarks.
# Before: MediaPipe's canonical face model, vertices 33, 133, 362, 263 (corners of the eyes) and 2.
NOSE_BELOW = 0.7735
NOSE_BEFORE = 0.411


@dataclass(frozen=True)
class Pose:
    """Angles of a head in degrees: roll in the picture's plane, yaw and pitch out of it."""

    roll: float
    yaw: float
    pitch: float


@dataclass(frozen=True)
class Quality:
    """What is measured of one face.

    Attributes
    ----------
    sharpness
        Variance of the Laplacian of the luma (0 to 255).
    exposure
        Mean luma, 0 to 1.
    dark_fraction, bright_fraction
        Share of pixels with a luma under 16, over 239.
    face_size
        Longer side of the detected box in the picture's pixels.
    roll, yaw, pitch
        Degrees, in the picture as it was, not as the crop was turned; see `pose`.
    """

    sharpness: float
    exposure: float
    dark_fraction: float
    bright_fraction: float
    face_size: float
    roll: float
    yaw: float
    pitch: float


@dataclass(frozen=True)
class Thresholds:
    """Limits of quality; None is no limit. Angles limit either direction."""

    min_sharpness: float | None = None
    min_exposure: float | None = None
    max_exposure: float | None = None
    max_dark: float | None = None
    max_bright: float | None = None
    min_face_size: float | None = None
    max_roll: float | None = None
    max_yaw: float | None = None
    max_pitch: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            limit = getattr(self, field.name)
            if limit is not None and not (isinstance(limit, int | float) and limit >= 0):
                raise UserError(f"threshold {field.name} is {limit!r}: it must be a number from 0, or null")

    @classmethod
    def of(cls, limits: "Thresholds | Mapping[str, float | None]") -> "Thresholds":
        """Thresholds from a mapping; an unknown name is a `UserError`."""
        if isinstance(limits, Thresholds):
            return limits
        allowed = [field.name for field in fields(cls)]
        unknown = [name for name in limits if name not in allowed]
        if unknown:
            raise UserError(f"unknown threshold {unknown[0]!r}: choose from {', '.join(allowed)}")
        return cls(**limits)


def measure(face: Pixels, landmarks: Points, face_size: float) -> Quality:
    """Measure one face.

    The variance of the Laplacian depends on the scale, and enlarging makes any picture smooth: pass a
    face shrunk to the crop's scale where it is larger, and in its own pixels where it is smaller, never
    enlarged. Values compare between faces of data sets cropped to the same size.

    Source: J. L. Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, ICPR 2000 (the
    variance of the Laplacian as a measure of focus).

    Parameters
    ----------
    face
        (H, W, 3) uint8 RGB: the detected box.
    landmarks
        (5, 2), in the upright picture's pixels.
    face_size
        Longer side of the box in the picture's pixels.
    """
    grey = luma(face)
    angles = pose(landmarks)
    return Quality(
        sharpness=sharpness(grey),
        exposure=float(grey.mean()) / 255,
        dark_fraction=float((grey < NEAR_BLACK).mean()),
        bright_fraction=float((grey >= NEAR_WHITE).mean()),
        face_size=face_size,
        roll=angles.roll,
        yaw=angles.yaw,
        pitch=angles.pitch,
    )


def luma(image: Pixels) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Brightness as ITU-R BT.601 weighs the colours, 0 to 255."""
    # In whole numbers first, so that grey 16 is 16 and not a little less.
    weighed: np.ndarray[tuple[int, int], np.dtype[np.float64]] = image @ np.array([299, 587, 114]) / 1000
    return weighed


def sharpness(grey: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> float:
    """Variance of the Laplacian (four neighbours), the outermost pixels left out.

    Examples
    --------
    >>> sharpness(np.zeros((8, 8)))
    0.0
    """
    inner = grey[1:-1, 1:-1]
    if not inner.size:
        return 0.0
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * inner
    return float(laplacian.var())


def pose(landmarks: Points) -> Pose:
    """Estimate a head's angles from the corners of its eyes and the base of its nose.

    Seen from far away (parallel projection), with E the distance of the eyes' centres and the base of the
    nose at (a, b) from their middle, along and across the line of the eyes: E shrinks with cos(yaw), and
    a nose that stands NOSE_BEFORE in front of the eyes moves sideways with sin(yaw) and down with
    sin(pitch). To first order

        tan(yaw)   = a / (E * NOSE_BEFORE)
        sin(pitch) = (b / E * cos(yaw) - NOSE_BELOW) / NOSE_BEFORE

    which suffices to sort out turned heads. On the projected model itself yaw alone is exact and pitch is
    within 4 degrees up to 15 (8 where yaw is 15 as well), further off beyond; a long or a short nose reads
    as pitch, a spread of some 10 degrees between people.

    Parameters
    ----------
    landmarks
        (5, 2): x and y, in the order of `landmarks5`.

    Returns
    -------
    Pose
        Positive roll: turned clockwise in the picture. Positive yaw: the nose points to the picture's right.
        Positive pitch: looking down.

    Examples
    --------
    >>> upright = np.array([(70, 40), (50, 40), (10, 40), (30, 40), (40, 71)], dtype=np.float32)
    >>> pose(upright).roll, pose(upright).yaw
    (0.0, 0.0)
    """
    points = landmarks.astype(np.float64)
    right, left = points[list(EYE_RIGHT)].mean(axis=0), points[list(EYE_LEFT)].mean(axis=0)
    along = right - left
    distance = float(np.hypot(*along))
    if distance == 0:
        return Pose(0.0, 90.0, 0.0)  # one eye behind the other
    along /= distance
    nose = points[NOSE] - (left + right) / 2
    aside = float(nose @ along) / distance
    below = float(nose @ np.array([-along[1], along[0]])) / distance
    yaw = math.atan(aside / NOSE_BEFORE)
    sine = (below * math.cos(yaw) - NOSE_BELOW) / NOSE_BEFORE
    pitch = math.asin(min(1.0, max(-1.0, sine)))
    return Pose(math.degrees(math.atan2(along[1], along[0])), math.degrees(yaw), math.degrees(pitch))


def failures(quality: Quality, thresholds: Thresholds) -> list[tuple[str, str]]:
    """The limits that a face breaks, each with its name and a sentence that gives value and limit.

    Examples
    --------
    >>> dim = Quality(120.0, 0.05, 0.6, 0.0, 180.0, 2.0, 5.0, 1.0)
    >>> [name for name, _ in failures(dim, Thresholds(min_exposure=0.1, max_dark=0.5, max_yaw=30))]
    ['too_dark', 'dark_areas']
    """
    q, t = quality, thresholds
    lower = (
        ("blurred", "sharpness", q.sharpness, t.min_sharpness),
        ("too_dark", "exposure", q.exposure, t.min_exposure),
        ("small_face", "face_size", q.face_size, t.min_face_size),
    )
    upper = (
        ("too_bright", "exposure", q.exposure, t.max_exposure),
        ("dark_areas", "dark_fraction", q.dark_fraction, t.max_dark),
        ("bright_areas", "bright_fraction", q.bright_fraction, t.max_bright),
        ("rolled", "roll", abs(q.roll), t.max_roll),
        ("turned", "yaw", abs(q.yaw), t.max_yaw),
        ("tilted", "pitch", abs(q.pitch), t.max_pitch),
    )
    below = [
        (reason, f"{name} {value:.4g} is under {limit:g}")
        for reason, name, value, limit in lower
        if limit is not None and value < limit
    ]
    above = [
        (reason, f"{name} {value:.4g} is over {limit:g}")
        for reason, name, value, limit in upper
        if limit is not None and value > limit
    ]
    return below + above
