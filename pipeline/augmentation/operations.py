"""The paper's eight augmentation operations, drawn by the Augmentor library, each a function of its seed.

Source: Anda et al., Vec2UAge, section 3.2 and Table 1; Bloice et al., Augmentor: An image augmentation
library for machine learning, 2017.
"""

import contextlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from Augmentor import Operations as Library
from PIL import Image

from pipeline.augmentation.moved_points import Places
from pipeline.augmentation.operation_settings import complete
from pipeline.core.errors import UserError
from pipeline.core.seeds import derive_seed

Settings = Mapping[str, float]
Landmarks = npt.NDArray[np.float32]
Factory = Callable[..., Library.Operation]


def flip(probability: float) -> Library.Operation:
    """Swap left and right."""
    return Library.Flip(probability, "LEFT_RIGHT")


FACTORIES: Mapping[str, Factory] = MappingProxyType(
    {
        "flip": flip,
        "brightness": Library.RandomBrightness,
        "rotation": Library.RotateRange,
        "zoom": Library.Zoom,
        "distortion": Library.Distort,
        "colour": Library.RandomColor,
        "contrast": Library.RandomContrast,
        "erasing": Library.RandomErasing,
    }
)

# Those that move pixels, and landmarks with them.
MOVING = frozenset({"flip", "rotation", "zoom", "distortion"})
# Landmarks are kept to this many decimals, so that a vector's key does not hang on the last bit.
DECIMALS = 2

# The similarities that Table 1 gives for FaceNet's vectors of one picture.
TABLE_1: Mapping[str, float] = MappingProxyType(
    {
        "flip": 0.8599,
        "brightness": 0.6845,
        "rotation": 0.6656,
        "zoom": 0.7856,
        "distortion": 0.8728,
        "colour": 0.5609,
        "contrast": 0.3341,
        "erasing": 0.9837,
    }
)


@dataclass(frozen=True)
class Operation:
    """One operation with its settings and the probability that it is applied.

    Parameters
    ----------
    name
        flip, brightness, rotation, zoom, distortion, colour, contrast or erasing.
    probability
        Between 0 and 1; below 1 it makes sense in a chain.
    settings
        What differs from Table 1: factors, degrees, grid cells and pixels, or a share of the side.

    Raises
    ------
    UserError
        For an unknown operation or setting or a value out of range, with what is allowed.

    Examples
    --------
    >>> Operation("rotation", settings={"max_left": 10}).label
    'rotation(max_left=10,max_right=25)'
    """

    name: str
    probability: float = 1.0
    settings: Settings = field(default_factory=dict)

    def __post_init__(self) -> None:
        complete(self.name, self.settings)
        if not 0 < self.probability <= 1:
            raise UserError(
                f"augmentation {self.name!r} has the probability {self.probability}: "
                "it must be above 0 and at most 1"
            )

    @property
    def complete_settings(self) -> dict[str, float]:
        """Table 1's settings with this operation's own over them."""
        return complete(self.name, self.settings)

    @property
    def label(self) -> str:
        """Name and settings as text: one operation in tables, and part of a picture's key."""
        inside = ",".join(f"{key}={value:g}" for key, value in self.complete_settings.items())
        chance = "" if self.probability == 1 else f"@{self.probability:g}"
        return (f"{self.name}({inside})" if inside else self.name) + chance


def built(described: Iterable[Mapping[str, Any]]) -> list[Operation]:
    """Operations of what describes them, as params.yaml lists them: name, probability, settings."""
    return [Operation(**one) for one in described]


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the two global generators that Augmentor draws from, and give them back as they were."""
    python_state = random.getstate()
    numpy_state = np.random.get_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (the library draws from this global state)
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002


def augment(image: Image.Image, operations: Sequence[Operation], seed: int) -> Image.Image:
    """Apply a chain of operations, each with its probability, to a copy of one picture.

    Because Augmentor draws from process-wide state, no two threads may call this at once: spread the
    work over processes.

    Parameters
    ----------
    image
        RGB.
    operations
        Applied in this order.
    seed
        The only source of chance.

    Returns
    -------
    PIL.Image.Image
        RGB, of the same size.

    Examples
    --------
    >>> picture = Image.new("RGB", (32, 32), "red")
    >>> augment(picture, [Operation("erasing")], 1) == augment(picture, [Operation("erasing")], 1)
    True
    """
    return augment_face(image, np.zeros((5, 2)), operations, seed)[0]


def augment_face(
    image: Image.Image, landmarks: npt.ArrayLike, operations: Sequence[Operation], seed: int
) -> tuple[Image.Image, Landmarks]:
    """Apply a chain of operations to a copy of one picture, and say where its landmarks have gone.

    Parameters
    ----------
    image, operations, seed
        As `augment` takes them.
    landmarks
        (5, 2) x and y in dlib's order.

    Returns
    -------
    picture
        RGB, of the same size.
    landmarks
        (5, 2) float32; they may be outside the picture.
    """
    changed = image.copy()  # some of the library's operations draw into the picture they are given
    places = Places(landmarks, image.size)
    with seeded(seed):
        for operation in operations:
            # Drawn even where it is certain, so that a chain's later draws do not depend on the settings.
            if random.random() <= operation.probability:
                settings = operation.complete_settings.values()  # named otherwise in the library
                performer = FACTORIES[operation.name](operation.probability, *settings)
                if operation.name in MOVING:
                    changed, places = performer.perform_operation([changed, places])
                else:
                    (changed,) = performer.perform_operation([changed])
    return changed, places.points.round(DECIMALS).astype(np.float32)


def draw(
    crop: npt.NDArray[np.uint8], landmarks: Landmarks, ways: Sequence[tuple[Sequence[Operation], int]]
) -> tuple[npt.NDArray[np.uint8], Landmarks]:
    """Make several pictures of one crop.

    Parameters
    ----------
    crop
        (H, W, 3) uint8 RGB.
    landmarks
        (5, 2) of the crop.
    ways
        For each picture a chain of operations and a seed.

    Returns
    -------
    pictures
        (len(ways), H, W, 3) uint8.
    landmarks
        (len(ways), 5, 2) float32, of the pictures.
    """
    original = Image.fromarray(crop)
    pictures = np.empty((len(ways), *crop.shape), dtype=np.uint8)
    points = np.empty((len(ways), *landmarks.shape), dtype=np.float32)
    for row, (operations, seed) in enumerate(ways):
        pictures[row], points[row] = augment_face(original, landmarks, operations, seed)
    return pictures, points


@dataclass(frozen=True)
class Attempts:
    """What to draw of one face: `attempts(slot, attempt)` gives a name, a chain of operations and a seed.

    The seed comes from the root seed, the face, the operations and the picture's number alone.

    Parameters
    ----------
    seed
        The run's root seed.
    face_id
        Which face.
    chains
        The chains to choose from: each one operation when they are applied alone.
    max_tries
        How many numbers belong to one slot.
    in_turn
        Take the chain with the slot's number instead of one by chance.
    """

    seed: int
    face_id: str
    chains: Sequence[tuple[Operation, ...]]
    max_tries: int
    in_turn: bool = False

    def __call__(self, slot: int, attempt: int) -> tuple[str, tuple[Operation, ...], int]:
        """Name, chain and seed of one picture."""
        index = slot * self.max_tries + attempt
        chance = derive_seed(self.seed, "augment", "operation", self.face_id, index)
        chain = self.chains[(slot if self.in_turn else chance) % len(self.chains)]
        name = "+".join(operation.label for operation in chain)
        return name, chain, derive_seed(self.seed, "augment", self.face_id, name, index)
