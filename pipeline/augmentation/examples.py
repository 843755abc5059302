"""What the augmentation operations do to a picture that may be shown to anybody."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.augmentation.operations import Operation, augment
from pipeline.core.seeds import derive_seed

# Left, top and side of the face in scikit-image's portrait of Eileen Collins (NASA, public domain).
LEFT, TOP, SIDE = 112, 12, 224


def portrait() -> npt.NDArray[np.uint8]:
    """A face of (224, 224, 3) uint8 that belongs to no data set."""
    from skimage.data import astronaut

    whole: npt.NDArray[np.uint8] = astronaut()  # type: ignore[no-untyped-call]
    return whole[TOP : TOP + SIDE, LEFT : LEFT + SIDE]


def examples(operations: Iterable[Operation], seed: int) -> dict[str, npt.NDArray[np.uint8]]:
    """What each operation, applied for certain, makes of the portrait, by the operation's label.

    Examples
    --------
    >>> {label: picture.shape for label, picture in examples([Operation("flip")], seed=1).items()}
    {'flip': (224, 224, 3)}
    """
    certain = [Operation(operation.name, settings=operation.settings) for operation in operations]
    face = Image.fromarray(portrait())
    return {
        one.label: np.asarray(augment(face, [one], derive_seed(seed, "augment", "example", one.label)))
        for one in certain
    }
