"""Random changes of training pictures, by torchvision: every picture's depend on its own seed alone."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

from pipeline.core.errors import UserError
from pipeline.core.registry import Registry

Operation = tuple[str, Mapping[str, Any]]
BILINEAR = v2.InterpolationMode.BILINEAR


class Flip:
    """Mirror a picture from left to right with a probability; targets that change sign are told."""

    def __init__(self, probability: float = 0.5) -> None:
        self.probability = probability


def colour(brightness: float = 0.2, contrast: float = 0.2, saturation: float = 0.2, hue: float = 0.0) -> Any:
    """Jitter of colours: factors within 1 +- the setting; hue as a fraction of the circle."""
    return v2.ColorJitter(brightness, contrast, saturation, hue)


def affine(degrees: float = 10.0, translate: float = 0.05, scale: float = 0.1, shear: float = 0.0) -> Any:
    """Rotation, shift (fractions of the side), scaling (1 +- the setting) and shear (degrees) in one step."""
    return v2.RandomAffine(
        degrees,
        translate=(translate, translate),
        scale=(1 - scale, 1 + scale),
        shear=shear or None,
        interpolation=BILINEAR,
    )


def rotation(degrees: float = 10.0) -> Any:
    """A turn of up to so many degrees either way."""
    return v2.RandomRotation(degrees, interpolation=BILINEAR)


def grey(probability: float = 0.1) -> Any:
    """Grey in place of colours."""
    return v2.RandomGrayscale(probability)


def erasing(probability: float = 0.5, low: float = 0.02, high: float = 0.2) -> Any:
    """A black rectangle over a part of the picture between `low` and `high`."""
    return v2.RandomErasing(probability, scale=(low, high))


PLACES = {"flip": "Flip", **{name: name for name in ("colour", "affine", "rotation", "grey", "erasing")}}
REGISTRY: Registry[Any] = Registry(
    "augmentation", {name: f"pipeline.augmentation.transforms:{place}" for name, place in PLACES.items()}
)


class Augmentation:
    """Random changes of one picture after another, and a random cut where pictures are larger than the input.

    Parameters
    ----------
    operations
        Names of `REGISTRY` with their settings, applied in this order.
    size
        Side of the result; larger pictures are cut at a random place.

    Raises
    ------
    UserError
        For an unknown name or setting, or a value that torchvision refuses.

    Examples
    --------
    >>> augment = Augmentation([("flip", {"probability": 1.0})], size=2)
    >>> image, mirrored = augment(torch.tensor([[[1, 2], [3, 4]]] * 3, dtype=torch.uint8), seed=0)
    >>> image[0].tolist(), mirrored
    ([[2, 1], [4, 3]], True)
    """

    def __init__(self, operations: Sequence[Operation], size: int) -> None:
        self.size = size
        self.flip = 0.0
        changes: list[Callable[[Tensor], Tensor]] = []
        for name, settings in operations:
            try:
                built = REGISTRY.build(name, **settings)
            except (ValueError, TypeError) as error:
                raise UserError(f"augmentation {name!r} does not take {dict(settings)}: {error}") from None
            if isinstance(built, Flip):
                self.flip = built.probability
            else:
                changes.append(built)
        self.changes = changes

    def __call__(self, image: Tensor, seed: int) -> tuple[Tensor, bool]:
        """Change one picture (3, H, W) uint8; also say whether it was mirrored."""
        generator = torch.default_generator  # torchvision draws from this one and no other
        state = generator.get_state()
        try:
            generator.manual_seed(seed)
            return self._changed(image)
        finally:
            generator.set_state(state)

    def _changed(self, image: Tensor) -> tuple[Tensor, bool]:
        mirrored = bool(self.flip) and float(torch.rand(1)) < self.flip
        if mirrored:
            image = image.flip(-1)
        for change in self.changes:
            image = change(image)
        room = image.shape[-1] - self.size
        if room > 0:
            top, left = torch.randint(room + 1, (2,)).tolist()
            image = image[:, top : top + self.size, left : left + self.size]
        return image, mirrored


def centre(images: Tensor, size: int) -> Tensor:
    """The middle of pictures (..., H, W), (..., size, size)."""
    start = (images.shape[-1] - size) // 2
    return images[..., start : start + size, start : start + size]
