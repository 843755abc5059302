"""dlib's face descriptor computed by dlib itself: the original, which the torch version is held against."""

import os
from functools import cached_property

import dlib
import numpy as np

from pipeline.backbones.views import Images, Landmarks, View
from pipeline.backbones.weights import dlib_network_file, sha256_of
from pipeline.core.errors import UserError
from pipeline.dlib import chips
from pipeline.encoders.encoder import Precision, Vectors, fingerprint

VERSION = 1
"""Of what happens to a crop before the network."""


class DlibDescriptor:
    """dlib's ResNet, 128 numbers from an aligned 150 x 150 chip.

    Parameters
    ----------
    margin, view
        The margin of the crops, and the view of them to take; its padding is that of the chip.
    precision, compile
        `fp32` (or `auto`) and False: dlib knows nothing else.
    """

    name = "dlib"
    dim = 128

    def __init__(
        self,
        *,
        margin: float = 0.25,
        view: View | None = None,
        precision: Precision = "fp32",
        compile: bool = False,
    ) -> None:
        if precision == "bfloat16" or compile:
            asked = "compile" if compile else f"precision {precision}"
            raise UserError(f"encoder dlib with the backend dlib has no {asked}: choose the backend torch")
        self.margin = margin
        self.view = view or View()

    @property
    def fingerprint(self) -> str:
        """Everything that decides the bits of a vector beside the crop."""
        padding = chips.DEFAULT_PADDING if self.view.padding is None else self.view.padding
        shown = View(self.view.mirror, padding)
        digest = sha256_of(dlib_network_file())
        return fingerprint("dlib", digest, chips.SIZE, VERSION, "fp32+dlib", shown, self.margin)

    @cached_property
    def _model(self) -> dlib.face_recognition_model_v1:
        return dlib.face_recognition_model_v1(os.fsencode(dlib_network_file()))

    def encode(self, images: Images, landmarks: Landmarks | None = None) -> Vectors:
        """Encode crops, (N, H, W, 3) uint8 RGB with (N, 5, 2) landmarks, to (N, 128) float32."""
        cut = chips.chips(
            images, landmarks, padding=self.view.padding, mirror=self.view.mirror, margin=self.margin
        )
        # One by one: dlib would gain nothing from a batch, and so no vector can depend on its neighbours.
        found = [self._model.compute_face_descriptor(chip) for chip in cut]
        return np.array(found, dtype=np.float32).reshape(len(cut), self.dim)
