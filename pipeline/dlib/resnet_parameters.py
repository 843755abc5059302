"""The file of weights of dlib's face recognition network, read strictly: see `pipeline.dlib.file_format`.

The weights must also be finite and of a plausible size, and the sha256 of the whole file must be that of
the published one.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from pipeline.core.package_data import dlib_model
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
    multipliers,
    plain,
    real,
    text,
)

FILE_NAME = "dlib_face_recognition_resnet_model_v1.dat"
SHA256 = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"

SIZE = 150
STEM_CHANNELS = 32
LEVELS = ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1))
"""Channels and residual blocks of every level, from input to output; all but the first begin by halving."""
FEATURES = LEVELS[-1][0]
VECTOR = 128

# Largest absolute weights in the published file: 0.10 in convolutions, 0.05 in the linear layer, 23 in
# affine layers. The limits leave room for a network trained anew, yet a flipped high bit of an exponent falls
# outside.
PLAUSIBLE = {"conv": (-1.0, 1.0), "affine": (-64.0, 64.0), "fc": (-1.0, 1.0)}


def read_dlib_weights(path: Path | None = None, *, sha256: str | None = SHA256) -> Weights:
    """Read dlib_face_recognition_resnet_model_v1.dat.

    Parameters
    ----------
    path
        The file; None takes the one in the installed package face-recognition-models.
    sha256
        The digest, in hex, that the file must have; None accepts every file of this very network, such as
        one trained anew with dlib's example dnn_face_recognition_ex.

    Returns
    -------
    dict
        float32 arrays named like the state dict of `pipeline.dlib.resnet.DlibResNet(folded=False)`:
        read-only views into the file's bytes, at odd addresses, so copy them before handing them on.

    Raises
    ------
    UserError
        When the file cannot be read, is damaged, or holds anything else.

    Examples
    --------
    >>> weights = read_dlib_weights()
    >>> weights["level2.block0.conv1.weight"].shape
    (64, 32, 3, 3)
    """
    path = dlib_model(FILE_NAME) if path is None else path
    return _as_in_torch(_file().read(path, sha256=sha256))


def decode_dlib_weights(
    data: bytes | bytearray | memoryview, *, source: str, sha256: str | None = SHA256
) -> Weights:
    """Decode the bytes of such a file; `source` names them in messages. See `read_dlib_weights`."""
    return _as_in_torch(_file().decode(data, source=source, sha256=sha256))


def _as_in_torch(weights: Weights) -> Weights:
    return {**weights, "fc.weight": weights["fc.weight"].T}  # dlib has inputs by outputs


@cache
def _file() -> NetworkFile:
    """Source: dlib/dnn/loss.h (loss_metric_) and input.h (input_rgb_image_sized)."""
    margin, distance = (real(value, digits=FLOAT_DIGITS) for value in (0.04, 0.6))
    means = b"".join(real(mean, digits=FLOAT_DIGITS) for mean in MEAN_RGB)
    return NetworkFile(
        content="dlib's face recognition network",
        name=FILE_NAME,
        loss=text("loss_metric_2") + margin + distance,
        input=text("input_rgb_image_sized") + means + integers(SIZE, SIZE),
        layers=tuple(_layers()),
        plausible=PLAUSIBLE,
    )


def _layers() -> Iterator[Layer]:
    """Every layer of anet_type in dlib's dnn_face_recognition_ex, from input to output."""
    yield convolution("stem.conv", 3, STEM_CHANNELS, kernel=7, stride=2, first=True)
    yield _affine("stem.affine", STEM_CHANNELS)
    yield plain("relu_")
    yield plain("max_pool_2", 3, 3, 2, 2, 0, 0)
    before = STEM_CHANNELS
    for level, (channels, blocks) in enumerate(LEVELS, start=1):
        for block in range(blocks):
            name = f"level{level}.block{block}"
            halves = level > 1 and block == 0
            yield _TAG
            yield convolution(f"{name}.conv1", before, channels, kernel=3, stride=2 if halves else 1)
            yield _affine(f"{name}.affine1", channels)
            yield plain("relu_")
            yield convolution(f"{name}.conv2", channels, channels, kernel=3, stride=1)
            yield _affine(f"{name}.affine2", channels, replaced=False)
            if halves:
                yield _TAG
                yield _TAG  # dlib's skip layer, which is written like a tag
                yield plain("avg_pool_2", 2, 2, 2, 2, 0, 0)
            yield plain("add_prev_", replaced=True)
            yield plain("relu_")
            before = channels
    yield plain("avg_pool_2", 0, 0, 1, 1, 0, 0)
    yield _linear("fc", FEATURES, VECTOR)


_TAG = Layer(1, ())


def _affine(name: str, channels: int, *, replaced: bool = True) -> Layer:
    return Layer(
        2,
        (
            text("affine_") + integers(2, 2 * channels, 1, 1, 1),
            Array(f"{name}.weight", (channels,)),
            Array(f"{name}.bias", (channels,)),
            integers(1, 1, channels, 1, 1) * 2 + integers(0) + layer_end(replaced=replaced),
        ),
    )


def _linear(name: str, inputs: int, outputs: int) -> Layer:
    return Layer(
        2,
        (
            text("fc_2") + integers(outputs, inputs) + integers(2, inputs, outputs, 1, 1),
            Array(f"{name}.weight", (inputs, outputs)),
            integers(1, inputs, outputs, 1, 1)
            + integers(1, 0, 0, 0, 0)
            + integers(1)
            + multipliers()
            + layer_end(replaced=False),
        ),
    )
