"""What a network that was trained here sees of a crop: the whole, a part, or an aligned face; at one size."""

from dataclasses import dataclass
from typing import Literal

from pipeline.backbones.framing import frame
from pipeline.backbones.views import Images, Landmarks, View
from pipeline.core.errors import UserError
from pipeline.dlib.chips import SIZE, chips

FRAMINGS = ("crop", "aligned")
VERSION = 1


@dataclass(frozen=True)
class Look:
    """How crops become a network's input.

    Parameters
    ----------
    framing
        `crop`: the crop or a part of it. `aligned`: dlib's chip, turned and scaled until the eyes are level
        and in their place.
    size
        Side of the result in pixels.
    padding
        How much to show around the detected box (`crop`; None is the whole crop) or around the aligned face
        (`aligned`; None is dlib's 0.25), as a fraction of its side.
    resize
        Bring the picture to this side first and take its middle; None: `size`, so that nothing is cut off.

    Raises
    ------
    UserError
        For an unknown framing, or where the picture would be smaller than its middle.

    Examples
    --------
    >>> import numpy as np
    >>> Look("crop", 96).cut(np.zeros((2, 224, 224, 3), np.uint8), None, margin=0.25).shape
    (2, 96, 96, 3)
    """

    framing: Literal["crop", "aligned"]
    size: int
    padding: float | None = None
    resize: int | None = None

    def __post_init__(self) -> None:
        if self.framing not in FRAMINGS:
            raise UserError(f"framing {self.framing!r} is unknown: choose {' or '.join(FRAMINGS)}")
        if self.resize is not None and self.resize < self.size:
            raise UserError(f"resize {self.resize} is less than size {self.size}: no middle can be taken")

    @property
    def whole(self) -> "Look":
        """The same before the middle is taken: what random cuts are taken of in training."""
        return Look(self.framing, self.resize or self.size, self.padding)

    def cut(
        self, images: Images, landmarks: Landmarks | None, *, margin: float, mirror: bool = False
    ) -> Images:
        """Turn crops (N, H, W, 3), with landmarks (N, 5, 2) in them, into (N, size, size, 3) uint8."""
        if self.resize is not None and self.resize != self.size:
            start = (self.resize - self.size) // 2
            middle = slice(start, start + self.size)
            return self.whole.cut(images, landmarks, margin=margin, mirror=mirror)[:, middle, middle]
        if self.framing == "crop":
            return frame(images, View(mirror, self.padding), margin, self.size)
        aligned = chips(images, landmarks, padding=self.padding, mirror=mirror, margin=margin)
        return aligned if self.size == SIZE else frame(aligned, View(), margin, self.size)
