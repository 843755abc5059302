"""The encoder `dlib`: dlib's face network, run in torch by default, by dlib itself on request."""

from functools import partial
from typing import Literal

from torch import nn

from pipeline.backbones.views import View
from pipeline.backbones.weights import verified_sha256
from pipeline.core.errors import UserError
from pipeline.core.package_data import dlib_model
from pipeline.dlib.chips import DEFAULT_PADDING, SIZE, chips
from pipeline.dlib.resnet import DlibResNet, load_dlib_weights
from pipeline.dlib.resnet_parameters import FILE_NAME, SHA256, VECTOR
from pipeline.encoders.dlib_descriptor import VERSION, DlibDescriptor
from pipeline.encoders.encoder import Encoder, Precision, fingerprint
from pipeline.encoders.precision import resolve
from pipeline.encoders.torch_encoder import TorchEncoder


def build_dlib(
    *,
    margin: float = 0.25,
    view: View | None = None,
    precision: Precision = "fp32",
    compile: bool = False,
    backend: Literal["torch", "dlib"] = "torch",
) -> Encoder:
    """Build dlib's face recognition network: 128 numbers from an aligned 150 x 150 chip.

    Source: D. King, dlib, examples/dnn_face_recognition_ex.cpp.

    Parameters
    ----------
    margin, view
        The margin of the crops, and the view of them to take; its padding is that of the chip.
    precision, compile
        See `TorchEncoder`; `auto` is bfloat16 where the hardware has it. dlib itself knows fp32 only.
    backend
        `torch` gives dlib's vectors to six digits at more than ten times the speed; `dlib` is the original.

    Raises
    ------
    UserError
        For an unknown backend or one that lacks a setting, and for missing or wrong weights.

    Examples
    --------
    >>> encoder = build_dlib(view=View(mirror=True, padding=0.1))
    >>> encoder.dim, encoder.fingerprint.split("/")[-2:]
    (128, ['fp32', 'mirror+pad0.1+margin0.25'])
    """
    view = view or View()
    if backend == "dlib":
        return DlibDescriptor(margin=margin, view=view, precision=precision, compile=compile)
    if backend != "torch":
        raise UserError(f"encoder dlib has no backend {backend!r}: choose torch or dlib")
    padding = DEFAULT_PADDING if view.padding is None else view.padding
    return TorchEncoder(
        name="dlib",
        dim=VECTOR,
        size=SIZE,
        identify=partial(
            fingerprint,
            "dlib",
            verified_sha256(dlib_model(FILE_NAME), SHA256),
            SIZE,
            VERSION,
            view=View(view.mirror, padding),
            margin=margin,
        ),
        load=load,
        prepare=partial(chips, padding=padding, mirror=view.mirror, margin=margin),
        mean=(0.0, 0.0, 0.0),  # the network's first layer takes pixels as they are
        scale=1.0,
        precision=resolve(precision),
        compile=compile,
    )


def load() -> tuple[nn.Module, nn.Module]:
    """Read dlib's weights into the residual levels, and into the pooling and linear layer that follow."""
    *trunk, linear = load_dlib_weights(DlibResNet()).children()
    return nn.Sequential(*trunk), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
