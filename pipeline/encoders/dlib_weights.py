"""A strict reader for the weights of dlib's face recognition network.

dlib writes a network in one way only. For a network whose layers are known, every byte of the file but the
weights themselves is therefore known beforehand: names, versions, sizes, strides, paddings, flags. The
reader lays out what dlib would write and demands exactly that, so that no length found in a file is ever
trusted and nothing but the right network passes. The weights must be finite and of a plausible size, and
the sha256 of the whole file must be that of the published one.
"""

import hashlib
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.encoders.weights import dlib_model
from pipeline.errors import UserError
from pipeline.tables import first_line

FILE_NAME = "dlib_face_recognition_resnet_model_v1.dat"
SHA256 = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"

SIZE = 150
MEAN_RGB = (122.782, 117.001, 104.298)
STEM_CHANNELS = 32
LEVELS = ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1))
"""Channels and residual blocks of every level, from input to output; all but the first begin by halving."""
FEATURES = LEVELS[-1][0]
VECTOR = 128

# Largest absolute weights in the published file: 0.10 in convolutions, 0.05 in the linear layer, 23 in
# affine layers. The limits leave room for a network trained anew, yet a flipped high bit of an exponent falls
# outside.
PLAUSIBLE = {"conv": 1.0, "affine": 64.0, "fc": 1.0}

Shape = tuple[int, ...]


class _Layer(NamedTuple):
    """What dlib writes of one layer: bytes, weights, bytes. Layers without weights have only bytes."""

    name: str
    version: int
    before: bytes
    arrays: tuple[tuple[str, Shape], ...] = ()
    after: bytes = b""


class _Segment(NamedTuple):
    """Bytes that are known beforehand, then the weights that follow them."""

    name: str
    known: bytes
    arrays: tuple[tuple[str, Shape], ...]


def read_dlib_weights(
    path: Path | None = None, *, sha256: str | None = SHA256
) -> dict[str, npt.NDArray[np.float32]]:
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
        float32 arrays named like the state dict of `pipeline.encoders.dlib_resnet.DlibResNet(folded=False)`:
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
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"the weights file {path} cannot be read: {first_line(error)}") from error
    return decode_dlib_weights(data, source=str(path), sha256=sha256)


def decode_dlib_weights(
    data: bytes | bytearray | memoryview, *, source: str, sha256: str | None = SHA256
) -> dict[str, npt.NDArray[np.float32]]:
    """Decode the bytes of such a file; `source` names them in messages. See `read_dlib_weights`."""
    view = memoryview(data).toreadonly()
    weights = _arrays(view, source)
    for name, values in weights.items():
        limit = next(limit for kind, limit in PLAUSIBLE.items() if kind in name)
        low, high = values.min(), values.max()
        if not (low >= -limit and high <= limit):  # so put that NaN, which spreads to both, is refused
            raise UserError(
                f"{source} is damaged: {name} ranges from {low:.3g} to {high:.3g}, "
                f"outside the plausible -{limit:g} to {limit:g}; fetch it again"
            )
    if sha256 is not None and (found := hashlib.sha256(view).hexdigest()) != sha256.lower():
        raise UserError(
            f"{source} has the sha256 {found}, not the expected {sha256.lower()}: "
            "it is damaged or holds other weights, fetch it again"
        )
    return weights


def _arrays(view: memoryview, source: str) -> dict[str, npt.NDArray[np.float32]]:
    """Every array of weights as a view into the file, once all the bytes around them are as they must be."""
    found: dict[str, npt.NDArray[np.float32]] = {}
    at = 0
    for segment in _segments():
        known = bytes(view[at : at + len(segment.known)])
        if known != segment.known:
            raise UserError(_difference(source, at, known, segment))
        at += len(known)
        for name, shape in segment.arrays:
            count = math.prod(shape)
            if at + 4 * count > len(view):
                raise UserError(
                    f"{source} ends at byte {len(view)}, within {name}: it is truncated, fetch it again"
                )
            values = np.frombuffer(view, dtype="<f4", count=count, offset=at).reshape(shape)
            found[name] = values.T if name == "fc.weight" else values  # dlib has inputs by outputs
            at += 4 * count
    if at != len(view):
        raise UserError(
            f"{source} goes on for {len(view) - at} bytes after the network's end at byte {at}: "
            "it is damaged or another file, fetch it again"
        )
    return found


def _difference(source: str, at: int, known: bytes, segment: _Segment) -> str:
    """What to tell the user about bytes that are not those expected."""
    pairs = zip(known, segment.known, strict=False)
    first = next((i for i, (found, needed) in enumerate(pairs) if found != needed), len(known))
    where = f"before the weights of {segment.name}" if segment.arrays else "after the last weights"
    if first == len(known):
        return f"{source} ends at byte {at + first}, {where}: it is truncated, fetch it again"
    return (
        f"{source} is damaged or does not hold dlib's face recognition network: byte {at + first}, {where}, "
        f"is 0x{known[first]:02x} and not 0x{segment.known[first]:02x}; "
        f"use {FILE_NAME} of the package face-recognition-models"
    )


@cache
def _segments() -> tuple[_Segment, ...]:
    """The whole file, from its first byte to its last.

    Source: dlib/serialize.h, dlib/dnn/core.h (add_loss_layer, add_layer, add_tag_layer, add_skip_layer),
    dlib/dnn/layers.h, tensor.h, input.h and loss.h. Layers nest: the versions come first, from output to
    input, then what each layer holds, from input to output.
    """
    layers = list(_layers())
    known = b"".join(
        (
            _integers(1),
            _text("loss_metric_2"),
            _real(0.04, digits=24),
            _real(0.6, digits=24),
            *(_integers(layer.version) for layer in reversed(layers)),
            _text("input_rgb_image_sized"),
            *(_real(mean, digits=24) for mean in MEAN_RGB),
            _integers(SIZE, SIZE),
        )
    )
    segments: list[_Segment] = []
    for layer in layers:
        known += layer.before
        if layer.arrays:
            segments.append(_Segment(layer.name, known, layer.arrays))
            known = layer.after
    return (*segments, _Segment("end", known, ()))


def _layers() -> Iterator[_Layer]:
    """Every layer of anet_type in dlib's dnn_face_recognition_ex, from input to output."""
    yield _convolution("stem.conv", 3, STEM_CHANNELS, kernel=7, stride=2, first=True)
    yield _affine("stem.affine", STEM_CHANNELS)
    yield _plain("relu_")
    yield _plain("max_pool_2", 3, 3, 2, 2, 0, 0)
    before = STEM_CHANNELS
    for level, (channels, blocks) in enumerate(LEVELS, start=1):
        for block in range(blocks):
            name = f"level{level}.block{block}"
            halves = level > 1 and block == 0
            yield _TAG
            yield _convolution(f"{name}.conv1", before, channels, kernel=3, stride=2 if halves else 1)
            yield _affine(f"{name}.affine1", channels)
            yield _plain("relu_")
            yield _convolution(f"{name}.conv2", channels, channels, kernel=3, stride=1)
            yield _affine(f"{name}.affine2", channels, replaced=False)
            if halves:
                yield _TAG
                yield _TAG  # dlib's skip layer, which is written like a tag
                yield _plain("avg_pool_2", 2, 2, 2, 2, 0, 0)
            yield _plain("add_prev_", replaced=True)
            yield _plain("relu_")
            before = channels
    yield _plain("avg_pool_2", 0, 0, 1, 1, 0, 0)
    yield _linear("fc", FEATURES, VECTOR)


_TAG = _Layer("tag", 1, b"")


def _plain(kind: str, *settings: int, replaced: bool = False) -> _Layer:
    return _Layer(kind, 2, _text(kind) + _integers(*settings) + _layer_end(replaced=replaced))


def _convolution(
    name: str, before: int, channels: int, *, kernel: int, stride: int, first: bool = False
) -> _Layer:
    padding = kernel // 2 if stride == 1 else 0
    filters = (channels, before, kernel, kernel)
    return _Layer(
        name,
        3 if first else 2,
        _text("con_4") + _integers(2, math.prod(filters) + channels, 1, 1, 1),
        ((f"{name}.weight", filters), (f"{name}.bias", (channels,))),
        _integers(channels, kernel, kernel, stride, stride, padding, padding)
        + _integers(1, *filters)
        + _integers(1, 1, channels, 1, 1)
        + _multipliers()
        + _layer_end(replaced=False)
        + (_integers(1) if first else b""),  # the layer on the input closes with the samples per picture
    )


def _affine(name: str, channels: int, *, replaced: bool = True) -> _Layer:
    return _Layer(
        name,
        2,
        _text("affine_") + _integers(2, 2 * channels, 1, 1, 1),
        ((f"{name}.weight", (channels,)), (f"{name}.bias", (channels,))),
        _integers(1, 1, channels, 1, 1) * 2 + _integers(0) + _layer_end(replaced=replaced),
    )


def _linear(name: str, inputs: int, outputs: int) -> _Layer:
    return _Layer(
        name,
        2,
        _text("fc_2") + _integers(outputs, inputs) + _integers(2, inputs, outputs, 1, 1),
        ((f"{name}.weight", (inputs, outputs)),),
        _integers(1, inputs, outputs, 1, 1)
        + _integers(1, 0, 0, 0, 0)
        + _integers(1)
        + _multipliers()
        + _layer_end(replaced=False),
    )


def _multipliers() -> bytes:
    """Of learning rate and weight decay, for the weights and for the biases."""
    return b"".join(_real(value, digits=53) for value in (1.0, 1.0, 1.0, 0.0))


def _layer_end(*, replaced: bool) -> bytes:
    """Three flags (set up, gradient stale, output overwritten by the next layer) and three empty tensors."""
    return b"11" + (b"1" if replaced else b"0") + _integers(2, 0, 0, 0, 0) * 3


def _integers(*values: int) -> bytes:
    """A sign bit and byte count, then that many little-endian bytes, for each."""
    written = b""
    for value in values:
        count = max(1, (abs(value).bit_length() + 7) // 8)
        written += bytes([count | (0x80 if value < 0 else 0)]) + abs(value).to_bytes(count, "little")
    return written


def _text(text: str) -> bytes:
    return _integers(len(text)) + text.encode()


def _real(value: float, *, digits: int) -> bytes:
    """The mantissa of so many binary digits and the exponent, without up to eight zero bytes at the end."""
    fraction, exponent = math.frexp(value)
    mantissa, exponent = round(fraction * 2**digits), exponent - digits
    for _ in range(8):
        if mantissa & 0xFF:
            break
        mantissa, exponent = mantissa >> 8, exponent + 8
    return _integers(mantissa, exponent)
