"""Where the faces are: dlib's HOG and CNN detectors, and MTCNN.

Large pictures are scaled down first, so that time and memory have a ceiling; boxes come back in the
picture's own pixels. Models are loaded when first used, once for each process; in a worker process that does
not count against the file in hand.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from PIL import Image

from pipeline.core.boxes import Box, Pixels
from pipeline.core.errors import UserError
from pipeline.core.package_data import dlib_model
from pipeline.core.pool import untimed
from pipeline.core.registry import Registry

BACKENDS = ("torch", "dlib")
# The first layers of the networks need a few pixels to look at; no face is this small anyway.
SMALLEST_SIDE = 24


class Detection(NamedTuple):
    """One face: its box (left, top, right, bottom) in the picture's pixels, the score, who found it."""

    box: Box
    score: float
    detector: str


class Detector(Protocol):
    """Finds faces in one picture."""

    name: ClassVar[str]

    def detect(self, image: Pixels) -> list[Detection]:
        """All faces of an (H, W, 3) uint8 RGB picture, best first; none is an empty list."""


@dataclass(frozen=True)
class DlibHog:
    """dlib's frontal detector on histograms of oriented gradients: fast, misses turned and covered faces.

    Source: D. E. King, Max-Margin Object Detection, arXiv:1502.00046 (2015).

    Parameters
    ----------
    max_side
        Larger pictures are scaled down to this side. Faces under about 70 pixels are not found then.
    """

    max_side: int = 1024
    name: ClassVar[str] = "dlib_hog"

    def detect(self, image: Pixels) -> list[Detection]:
        """All faces of a picture, best first."""
        small, scale = shrink(image, self.max_side)
        boxes, scores, _ = _hog().run(small, 0, 0.0)
        found = ((_edges(box), score) for box, score in zip(boxes, scores, strict=True))
        return _detections(found, scale, self.name)


@dataclass(frozen=True)
class DlibCnn:
    """dlib's convolutional detector: finds turned and covered faces, some five times slower than HOG.

    Source: D. E. King, Max-Margin Object Detection, arXiv:1502.00046 (2015); weights
    mmod_human_face_detector.dat.

    Parameters
    ----------
    max_side
        Larger pictures are scaled down to this side: time and memory grow with its square.
    backend
        `torch`, or `dlib` for the original program, which takes some fifteen times as long to find the same.
    """

    max_side: int = 512
    backend: str = "torch"
    name: ClassVar[str] = "dlib_cnn"

    def detect(self, image: Pixels) -> list[Detection]:
        """All faces of a picture, best first."""
        small, scale = shrink(image, self.max_side)
        if min(small.shape[:2]) < SMALLEST_SIDE:
            return []
        found = _in_torch()(small) if self.backend == "torch" else _in_dlib(small)
        return _detections(found, scale, self.name)


@dataclass(frozen=True)
class Mtcnn:
    """MTCNN as in facenet-pytorch, on the processor.

    Source: K. Zhang et al., Joint Face Detection and Alignment using Multi-task Cascaded Convolutional
    Networks, IEEE Signal Processing Letters 23 (2016).

    Parameters
    ----------
    max_side
        Larger pictures are scaled down to this side.
    """

    max_side: int = 1024
    name: ClassVar[str] = "mtcnn"

    def detect(self, image: Pixels) -> list[Detection]:
        """All faces of a picture, best first."""
        small, scale = shrink(image, self.max_side)
        if min(small.shape[:2]) < SMALLEST_SIDE:
            return []
        boxes, scores = _mtcnn().detect(Image.fromarray(small))
        if boxes is None:
            return []
        return _detections(zip(boxes, scores, strict=True), scale, self.name)


REGISTRY: Registry[Detector] = Registry(
    "detector",
    {
        "dlib_hog": "pipeline.faces.detectors:DlibHog",
        "dlib_cnn": "pipeline.faces.detectors:DlibCnn",
        "mtcnn": "pipeline.faces.detectors:Mtcnn",
    },
)


def build(name: str, **settings: Any) -> Detector:
    """Build a detector by its name: dlib_hog, dlib_cnn or mtcnn.

    Examples
    --------
    >>> build("dlib_hog", max_side=640)
    DlibHog(max_side=640)
    """
    detector = REGISTRY.build(name, **settings)
    max_side = settings.get("max_side", SMALLEST_SIDE)
    if not isinstance(max_side, int) or max_side < SMALLEST_SIDE:
        raise UserError(
            f"detector {name!r}: max_side is {max_side!r}, not a whole number of at least {SMALLEST_SIDE}"
        )
    if (backend := settings.get("backend", BACKENDS[0])) not in BACKENDS:
        raise UserError(f"detector {name!r}: backend is {backend!r}: choose one of {', '.join(BACKENDS)}")
    return detector


def detect(image: Pixels, detectors: Sequence[Detector]) -> list[Detection]:
    """The faces that the first detector finds which finds any.

    Source: Vec2UAge, section 3.4: dlib's HOG detector, and where that finds nothing its CNN.
    """
    for detector in detectors:
        if found := detector.detect(image):
            return found
    return []


def shrink(image: Pixels, max_side: int) -> tuple[Pixels, tuple[float, float]]:
    """A picture no larger than `max_side`, and the factors (x, y) that lead back to its own pixels."""
    height, width = image.shape[:2]
    largest = max(height, width)
    if largest <= max_side:
        return image, (1.0, 1.0)
    size = (max(1, round(width * max_side / largest)), max(1, round(height * max_side / largest)))
    small = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(small), (width / size[0], height / size[1])


@functools.cache
def _hog() -> Any:
    import dlib

    return dlib.get_frontal_face_detector()


@functools.cache
def _cnn() -> Any:
    import dlib

    return dlib.cnn_face_detection_model_v1(str(dlib_model("mmod_human_face_detector.dat")))


def _in_dlib(image: Pixels) -> list[tuple[Box, float]]:
    return [(_edges(one.rect), one.confidence) for one in _cnn()(image, 0)]


@functools.cache
def _in_torch() -> Callable[[Pixels], list[tuple[Box, float]]]:
    with untimed():  # torch takes seconds to import
        from pipeline.dlib.mmod.detector import find, load_mmod
        from pipeline.dlib.mmod.parameters import FILE_NAME

        return functools.partial(find, load_mmod(dlib_model(FILE_NAME)))


@functools.cache
def _mtcnn() -> Any:
    with untimed():
        from facenet_pytorch import MTCNN

        return MTCNN(keep_all=True, device="cpu")


def _edges(rectangle: Any) -> Box:
    """dlib's rectangles include their last pixel; edges lie one further."""
    return rectangle.left(), rectangle.top(), rectangle.right() + 1, rectangle.bottom() + 1


def _detections(found: Any, scale: tuple[float, float], name: str) -> list[Detection]:
    across, down = scale
    detections = [
        Detection(
            (float(x0) * across, float(y0) * down, float(x1) * across, float(y1) * down), float(score), name
        )
        for (x0, y0, x1, y1), score in found
    ]
    whole = [one for one in detections if one.box[2] > one.box[0] and one.box[3] > one.box[1]]
    return sorted(whole, key=lambda one: (-one.score, one.box))
