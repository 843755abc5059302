"""dlib's convolutional face detector in torch: the same boxes, the scores within rounding, in less time.

Source: D. E. King, Max-Margin Object Detection, arXiv:1502.00046 (2015); dlib's example
dnn_mmod_face_detection_ex and its Python module's cnn_face_detection_model_v1.

The picture is tiled in all its sizes as dlib tiles it, and the network, in fp32, scores every eighth place.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.core.boxes import Box, Pixels
from pipeline.dlib.file_format import MEAN_RGB
from pipeline.dlib.mmod.parameters import (
    CHANNELS,
    EPSILON,
    HALVING,
    KERNEL,
    SCORE_KERNEL,
    SHA256,
    read_mmod_weights,
)
from pipeline.dlib.mmod.pyramid import Level, layout, to_picture, without_overlaps

STEP = 2**HALVING
FIRST = (STEP - 1) * (KERNEL // 2)
"""Scores belong to every eighth pixel of the tile, from the fourteenth on."""


class Mmod(nn.Module):
    """The network of dlib's dnn_mmod_face_detection_ex, with random weights until `load_mmod`.

    Affine layers are folded into the convolutions before them.

    Examples
    --------
    >>> Mmod()(torch.zeros(1, 3, 776, 222)).shape
    torch.Size([1, 94, 25])
    """

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential()
        before = 3
        for number, channels in enumerate(CHANNELS, start=1):
            stride, padding = (2, 0) if number <= HALVING else (1, KERNEL // 2)
            self.convolutions.add_module(
                f"conv{number}", nn.Conv2d(before, channels, KERNEL, stride=stride, padding=padding)
            )
            self.convolutions.add_module(f"relu{number}", nn.ReLU(inplace=True))
            before = channels
        # dlib's last convolution has one channel, and processors compute sixteen as soon as one. Hence one
        # channel for every column of its filter, whose maps are then shifted and added: a fifth of the time.
        self.columns = nn.Conv2d(
            before, SCORE_KERNEL, (SCORE_KERNEL, 1), padding=(SCORE_KERNEL // 2, 0), bias=False
        )
        self.sum = nn.Conv2d(SCORE_KERNEL, 1, (1, SCORE_KERNEL), padding=(0, SCORE_KERNEL // 2))
        self.sum.weight.data.copy_(torch.eye(SCORE_KERNEL)[None, :, None])

    def forward(self, tiles: Tensor) -> Tensor:
        """(N, 3, H, W) as `tile` makes them to the scores, (N, about H / 8, about W / 8)."""
        scores: Tensor = self.sum(self.columns(self.convolutions(tiles)))
        return scores[:, 0]


def load_mmod(path: Path, *, sha256: str | None = SHA256) -> Mmod:
    """The network with the weights of dlib's file. See `pipeline.dlib.mmod.parameters.read_mmod_weights`."""
    weights = {
        name: torch.from_numpy(np.array(values)).double()
        for name, values in read_mmod_weights(path, sha256=sha256).items()
    }
    network = Mmod()
    state = network.state_dict()  # `sum` stays as it is, but for the bias
    for number in range(1, len(CHANNELS) + 1):
        gain, offset, mean, variance = (
            weights[f"norm{number}.{kind}"] for kind in ("gain", "offset", "mean", "variance")
        )
        gain = gain / (variance + EPSILON).sqrt()
        state[f"convolutions.conv{number}.weight"] = (
            weights[f"conv{number}.weight"] * gain[:, None, None, None]
        )
        state[f"convolutions.conv{number}.bias"] = (weights[f"conv{number}.bias"] - mean) * gain + offset
    state["columns.weight"] = weights["score.weight"][0].permute(2, 0, 1)[..., None]
    state["sum.bias"] = weights["score.bias"]
    network.load_state_dict(state)
    # Channels lie last, as they do in pictures: so the first convolution takes a quarter of the time.
    return network.to(memory_format=torch.channels_last).eval()


def tile(image: Pixels, levels: list[Level], size: tuple[int, int]) -> Tensor:
    """A picture, (H, W, 3) uint8 RGB, in all its sizes, grey between them: (1, 3, height, width)."""
    around = torch.zeros(1, *size, 3).permute(0, 3, 1, 2)
    pixels = (image - np.array(MEAN_RGB, dtype=np.float32)) / 256
    level = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
    for left, top, width, height in levels:
        if level.shape[2:] != (height, width):
            level = F.interpolate(level, size=(height, width), mode="bilinear", align_corners=True)
        around[:, :, top : top + height, left : left + width] = level
    return around


@torch.inference_mode()
def find(network: Mmod, image: Pixels) -> list[tuple[Box, float]]:
    """Faces in a picture.

    Parameters
    ----------
    network
        With its weights.
    image
        (H, W, 3) uint8 RGB, 24 x 24 at least.

    Returns
    -------
    list of (box, score)
        Left, top, right, bottom in whole pixels, which may lie outside the picture; the score is positive.
        Best first.

    Examples
    --------
    >>> from pipeline.core.package_data import dlib_model
    >>> network = load_mmod(dlib_model("mmod_human_face_detector.dat"))
    >>> find(network, np.zeros((80, 80, 3), dtype=np.uint8))
    []
    """
    levels, size = layout(*image.shape[:2])
    scores = network(tile(image, levels, size))[0]
    rows, columns = torch.nonzero(scores > 0, as_tuple=True)
    places = zip(columns.tolist(), rows.tolist(), scores[rows, columns].tolist(), strict=True)
    found = [
        (to_picture(levels, STEP * column + FIRST, STEP * row + FIRST), score)
        for column, row, score in places
    ]
    return without_overlaps(sorted(found, key=lambda one: -one[1]))
