"""What an encoder is, and how the embeddings of several are joined."""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from pipeline.backbones.views import Images, Landmarks, View
from pipeline.core.errors import UserError

Combine = Literal["concatenate", "average"]
Precision = Literal["fp32", "bfloat16", "auto"]
Vectors = npt.NDArray[np.float32]


class Encoder(Protocol):
    """Turns crops into vectors, each a pure function of its own crop."""

    @property
    def name(self) -> str:
        """The name it is registered under; vectors of the same name are views of one encoder."""

    @property
    def dim(self) -> int:
        """The width of its vectors."""

    @property
    def fingerprint(self) -> str:
        """Readable text that names everything that can change a bit of a vector beside the crop."""

    def encode(self, images: Images, landmarks: Landmarks | None = None) -> Vectors:
        """Encode crops, (N, H, W, 3) uint8 RGB with (N, 5, 2) landmarks in crop pixels, to (N, dim)."""


def fingerprint(
    name: str,
    weights_sha256: str,
    size: int,
    preprocessing: int,
    arithmetic: str,
    view: View,
    margin: float | None = None,
) -> str:
    """Name everything that decides the bits of a vector, in text that a person can read.

    Parameters
    ----------
    name
        The network and what it was trained on.
    weights_sha256
        The sha256 of the file its weights come from.
    size
        The side of its input in pixels.
    preprocessing
        The version of what happens to a crop before the network.
    arithmetic
        The precision, and the program or compiler where it is not the usual one.
    view
        The view.
    margin
        The margin of the crops, where a vector depends on it.

    Examples
    --------
    >>> fingerprint("net", "0f" * 2, 160, 1, "fp32", View())
    'net/0f0f/160/pre1/fp32/whole'
    >>> fingerprint("net", "0f" * 2, 160, 1, "bfloat16", View(True, 0.1), margin=0.25)
    'net/0f0f/160/pre1/bfloat16/mirror+pad0.1+margin0.25'
    """
    looks = ["mirror"] if view.mirror else []
    if view.padding is not None:
        looks.append(f"pad{float(view.padding)!r}")
    if margin is not None:
        looks.append(f"margin{float(margin)!r}")
    look = "+".join(looks) or "whole"
    return f"{name}/{weights_sha256}/{size}/pre{preprocessing}/{arithmetic}/{look}"


def combine(arrays: Mapping[str, Sequence[Vectors]], how: Combine) -> Vectors:
    """Join vectors of the same faces: first the views of each encoder, then the encoders, side by side.

    Parameters
    ----------
    arrays
        For every encoder's name its views' vectors, (N, D) each; the order is kept.
    how
        `average` takes the mean over an encoder's views, `concatenate` sets them side by side.

    Returns
    -------
    ndarray
        (N, total width) float32.

    Raises
    ------
    UserError
        When `how` is neither.

    Examples
    --------
    >>> one, two = np.ones((1, 2), np.float32), np.zeros((1, 2), np.float32)
    >>> combine({"a": [one, two], "b": [one]}, "average")
    array([[0.5, 0.5, 1. , 1. ]], dtype=float32)
    >>> combine({"a": [one, two], "b": [one]}, "concatenate").shape
    (1, 6)
    """
    if how not in ("concatenate", "average"):
        raise UserError(f"views cannot be combined by {how!r}: choose concatenate or average")
    parts: list[Vectors] = []
    for group in arrays.values():
        parts += [np.mean(group, axis=0, dtype=np.float32)] if how == "average" else group
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def widths(encoders: Sequence[Encoder], how: Combine) -> list[int]:
    """How wide each encoder's part of a joined vector is, in the order in which `combine` joins them.

    What compares faces compares these parts one by one: in the whole vector the encoder with the longest
    vectors (EfficientNet-Lite0's are ten times as long as dlib's) would decide alone.

    Parameters
    ----------
    encoders
        Encoders and views, as for `combine`.
    how
        As for `combine`.
    """
    found: dict[str, int] = {}
    for encoder in encoders:
        views_before = 0 if how == "average" else found.get(encoder.name, 0)
        found[encoder.name] = views_before + encoder.dim
    return list(found.values())
