"""One picture's bytes in, one encoded crop out, or the reason why not."""

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.core.boxes import Box, Pixels
from pipeline.core.errors import UserError
from pipeline.faces import crops, detectors, quality, shards
from pipeline.faces.detectors import Detection, Detector
from pipeline.faces.images import MAX_PIXELS, Decoded, ImageRejected, Rejection, decode_noted, read_file
from pipeline.faces.landmarks import Points, landmarks5
from pipeline.faces.quality import Quality, Thresholds

NO_LIMITS = Thresholds()
CHOICES = {"align": ("none", "eyes"), "faces": ("largest", "reject"), "format": tuple(shards.EXTENSIONS)}
RANGES: dict[str, tuple[float, float]] = {
    "size": (32, 1024),
    "margin": (0, 2),
    "jpeg_quality": (1, 100),
    "max_pixels": (1, 2 * (Image.MAX_IMAGE_PIXELS or 0)),
}


@dataclass(frozen=True)
class Settings:
    """How faces are found, cut out and judged.

    Attributes
    ----------
    detectors
        Names; the first that finds a face decides.
    detector_settings
        Settings of a detector by its name, such as `{"dlib_cnn": {"max_side": 400}}`.
    size
        Side of the crop in pixels.
    margin
        Added on each side of the box, as a fraction of its longer side.
    align
        `none`, or `eyes`: turned until the eyes are level.
    faces
        Of several: `largest`, or `reject` the picture.
    format, jpeg_quality
        `webp` or `png` (both lossless), or `jpeg` with a quality from 1 to 100.
    thresholds
        Limits of quality.
    max_pixels
        Larger pictures are refused undecoded.
    """

    detectors: tuple[str, ...] = ("dlib_hog", "dlib_cnn")
    detector_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    size: int = 224
    margin: float = 0.25
    align: str = "none"
    faces: str = "largest"
    format: str = "webp"
    jpeg_quality: int = 95
    thresholds: Thresholds = NO_LIMITS
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise UserError(f"{name} is {getattr(self, name)!r}: choose one of {', '.join(allowed)}")
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if not isinstance(value, int | float) or not low <= value <= high:
                raise UserError(f"{name} is {value!r}: it must be between {low:,} and {high:,}")
        if not self.detectors:
            raise UserError(f"no detector is named: choose from {', '.join(detectors.REGISTRY.names())}")
        stray = [name for name in self.detector_settings if name not in self.detectors]
        if stray:
            raise UserError(
                f"detector_settings names {stray[0]!r}, which is not among {', '.join(self.detectors)}"
            )
        self.build_detectors()

    def build_detectors(self) -> list[Detector]:
        """The detectors in the order in which they are asked; their models load at first use."""
        return [detectors.build(name, **self.detector_settings.get(name, {})) for name in self.detectors]


@dataclass(frozen=True)
class Face:
    """One found and cropped face.

    Attributes
    ----------
    pixels
        (size, size, 3) uint8 RGB.
    landmarks
        (5, 2) float32, crop pixels.
    box
        Left, top, right, bottom in the picture's pixels.
    detector, score
        Who found it, and how sure.
    faces
        How many faces that detector found.
    quality
        Sharpness, exposure, size, pose.
    warnings
        What was odd about the file it was found in.
    """

    pixels: Pixels
    landmarks: Points
    box: Box
    detector: str
    score: float
    faces: int
    quality: Quality
    warnings: tuple[str, ...] = ()


def extract(data: bytes, settings: Settings) -> Face:
    """Find, choose, judge and cut out the face in a picture.

    Raises
    ------
    ImageRejected
        With one of the reasons of `images.decode`, with `no_face`, `several_faces`, or with the first
        limit of quality that the face breaks; the detail names all of them.
    """
    image, found = _detected(data, settings)
    face = _cut(image, crops.choose(found, settings.faces), len(found), settings)
    if broken := quality.failures(face.quality, settings.thresholds):
        raise ImageRejected(broken[0][0], "; ".join(sentence for _, sentence in broken))
    return face


def extract_all(data: bytes, settings: Settings) -> list[Face]:
    """Find and cut out every face in a picture, whatever its quality.

    The first is the one that `extract` takes of several, bit for bit: the largest.

    Raises
    ------
    ImageRejected
        With one of the reasons of `images.decode`, or with `no_face`.
    """
    image, found = _detected(data, settings)
    crops.choose(found, "largest")  # says so where there is none
    return [_cut(image, one, len(found), settings) for one in sorted(found, key=crops.rank, reverse=True)]


def as_stored(pixels: Pixels, settings: Settings) -> Pixels:
    """A crop as whoever reads it from its shard sees it, JPEG's losses included.

    Examples
    --------
    >>> bool((as_stored(np.full((32, 32, 3), 7, np.uint8), Settings()) == 7).all())
    True
    """
    if settings.format != "jpeg":  # the others lose nothing
        return pixels
    data = shards.encode(pixels, settings.format, settings.jpeg_quality)
    return np.asarray(Image.open(BytesIO(data), formats=("JPEG",)))


def _detected(data: bytes, settings: Settings) -> tuple[Decoded, list[Detection]]:
    image = decode_noted(data, max_pixels=settings.max_pixels)
    return image, detectors.detect(image.pixels, settings.build_detectors())


def _cut(decoded: Decoded, chosen: Detection, count: int, settings: Settings) -> Face:
    """One of the faces found in a picture, cut out and measured."""
    image = decoded.pixels
    points = landmarks5(image, chosen.box)
    turn = quality.pose(points).roll if settings.align == "eyes" else 0.0
    place: dict[str, Any] = {"size": settings.size, "margin": settings.margin, "turn": turn}
    pixels = crops.square(image, chosen.box, **place)
    longer_side = crops.side_of(chosen.box, 0)
    # A small face is judged in its own pixels: enlarging it to the crop's size would blur it first.
    enlarged = crops.side_of(chosen.box, settings.margin) < settings.size
    face = _box_of(
        crops.square(image, chosen.box, **{**place, "size": _own_size(chosen.box, settings.margin)})
        if enlarged
        else pixels,
        settings.margin,
    )
    measured = quality.measure(face, points, longer_side)
    landmarks = crops.to_crop(points, chosen.box, **place)
    return Face(
        pixels, landmarks, chosen.box, chosen.detector, chosen.score, count, measured, decoded.warnings
    )


def _own_size(box: Box, margin: float) -> int:
    return max(1, round(crops.side_of(box, margin)))


def _box_of(crop: Pixels, margin: float) -> Pixels:
    """The part of a crop that the detected box covers."""
    inset = round(len(crop) * margin / (1 + 2 * margin))
    return crop[inset : len(crop) - inset, inset : len(crop) - inset]


def crop_id(image: bytes, landmarks: npt.NDArray[np.float32]) -> str:
    """What a crop's vectors are filed under: the sha256 of its bytes and its landmarks, as hex."""
    return hashlib.sha256(image + np.ascontiguousarray(landmarks, dtype="<f4").tobytes()).hexdigest()


def crop_file(task: tuple[str, str], root: Path, settings: Settings) -> dict[str, Any] | Rejection:
    """Read, check, crop and encode one file of a manifest.

    Parameters
    ----------
    task
        face_id (the sha256 that the file's bytes must have) and path, relative to the root.
    root
        The data root.
    settings
        How faces are found, cut out and judged.

    Returns
    -------
    dict or Rejection
        The face's row in a shard, with `warnings` beside it, or why it has none.
    """
    face_id, path = task
    try:
        data = read_file(path, root)
        if (found := hashlib.sha256(data).hexdigest()) != face_id:
            raise ImageRejected(
                "changed", f"its sha256 is now {found[:12]}..., not {face_id[:12]}...: run ingest again"
            )
        face = extract(data, settings)
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is
        return Rejection.of(error)
    image = shards.encode(face.pixels, settings.format, settings.jpeg_quality)
    return {
        "face_id": face_id,
        "crop_id": crop_id(image, face.landmarks),
        "image": {"bytes": image, "path": f"{face_id}.{shards.EXTENSIONS[settings.format]}"},
        "landmarks": face.landmarks.ravel(),
        "box": np.array(face.box, dtype=np.float32),
        "detector": face.detector,
        "score": face.score,
        "faces": face.faces,
        **asdict(face.quality),
        "warnings": list(face.warnings),
    }


def make_worker(root: Path, settings: Settings) -> Callable[[tuple[str, str]], dict[str, Any] | Rejection]:
    """What a worker process runs on a face_id and its path; what every file needs is loaded when it returns.

    Loading must not count against the first file's time limit. The detectors after the first are loaded when
    a face escapes that one, which none may: see `pipeline.core.pool.untimed`. The function lives here
    because a worker imports what its module imports.
    """
    load_models(settings)
    return functools.partial(crop_file, root=root, settings=settings)


def load_models(settings: Settings) -> None:
    """Load every model that cropping needs, in this process."""
    blank = np.zeros((80, 80, 3), dtype=np.uint8)
    settings.build_detectors()[0].detect(blank)
    landmarks5(blank, (0, 0, 80, 80))
