"""Convolutional networks without their last layer: raw pixels in, pooled features out; weights are random.

They are trained by `pipeline.training.networks` and, once trained, run as encoders by
`pipeline.encoders.finetuned`; both build them here, by the same names.
"""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import timm
import torch
import torch.nn.functional as F
from facenet_pytorch import InceptionResnetV1
from torch import Tensor, nn

from pipeline.core.artifacts import check_network_settings
from pipeline.core.errors import UserError
from pipeline.core.tables import first_line
from pipeline.dlib.resnet import DlibResNet
from pipeline.dlib.resnet_parameters import SIZE as DLIB_SIZE

FACENET_LAYERS = [
    *("conv2d_1a", "conv2d_2a", "conv2d_2b", "maxpool_3a", "conv2d_3b", "conv2d_4a", "conv2d_4b"),
    *("repeat_1", "mixed_6a", "repeat_2", "mixed_7a", "repeat_3", "block8"),
]

IMAGENET_NAMES = {"efficientnet_lite0": "tf_efficientnet_lite0"}
"""Our names of networks that timm has under another one."""
DLIB_MINIMUM = 103
"""Smaller pictures have nothing left where dlib's network pools for the last time."""


class Trunk(nn.Module, ABC):
    """A network up to its pooled features.

    It takes pixels as they are, (N, 3, H, W) from 0 to 255 of any type, and normalises them itself.
    """

    width: int
    """How many features it puts out."""

    @abstractmethod
    def maps(self, pixels: Tensor) -> Tensor:
        """The last maps, (N, C, H', W')."""

    @abstractmethod
    def pool(self, maps: Tensor) -> Tensor:
        """Pooled features, (N, width), of such maps."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Turn pixels into features (N, width)."""
        return self.pool(self.maps(pixels))


class Normalised(Trunk, ABC):
    """A trunk whose network takes (value - mean) / scale, by channel."""

    network: Any

    def __init__(self, network: nn.Module, mean: Sequence[float], scale: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.mean = tuple(mean)
        self.scale = tuple(scale)

    def normalised(self, pixels: Tensor) -> Tensor:
        """Normalise in float32, then give the type of the weights."""
        mean, scale = (
            torch.tensor(values, device=pixels.device).view(1, 3, 1, 1) for values in (self.mean, self.scale)
        )
        return ((pixels.float() - mean) / scale).to(next(self.network.parameters()).dtype)


class TimmTrunk(Normalised):
    """Any convolutional network of timm, with what its classifier would get as features."""

    def __init__(self, name: str, **settings: Any) -> None:
        check_network_settings(name, settings)
        network: Any = timm.create_model(IMAGENET_NAMES.get(name, name), num_classes=0, **settings)
        described = network.pretrained_cfg
        mean, scale = ([255 * value for value in described[key]] for key in ("mean", "std"))
        if name == "efficientnet_lite0":  # as Google trained it; timm's description rounds
            mean, scale = [127.0] * 3, [128.0] * 3
        super().__init__(network, mean, scale)
        self.width = getattr(network, "head_hidden_size", network.num_features)

    def maps(self, pixels: Tensor) -> Tensor:
        """See `Trunk.maps`."""
        maps: Tensor = self.network.forward_features(self.normalised(pixels))
        return maps

    def pool(self, maps: Tensor) -> Tensor:
        """See `Trunk.pool`."""
        features: Tensor = self.network.forward_head(maps, pre_logits=True)
        return features


class FacenetTrunk(Normalised):
    """FaceNet's InceptionResnetV1 up to its vector, not brought to unit length."""

    width = 512

    def __init__(self, drop_rate: float = 0.6) -> None:
        super().__init__(InceptionResnetV1(dropout_prob=drop_rate), [127.5] * 3, [128.0] * 3)

    def maps(self, pixels: Tensor) -> Tensor:
        """See `Trunk.maps`."""
        maps = self.normalised(pixels)
        for name in FACENET_LAYERS:
            maps = getattr(self.network, name)(maps)
        return maps

    def pool(self, maps: Tensor) -> Tensor:
        """See `Trunk.pool`."""
        network = self.network
        pooled = network.dropout(network.avgpool_1a(maps)).flatten(1)
        features: Tensor = network.last_bn(network.last_linear(pooled))
        return features


class DlibTrunk(Trunk):
    """dlib's face network up to its 256 averaged maps.

    Parameters
    ----------
    folded
        Without affine layers, a quarter faster; unfolded they train beside the convolutions.
    """

    width = DlibResNet.num_features

    def __init__(self, folded: bool = True) -> None:
        super().__init__()
        self.network = DlibResNet(folded=folded)
        del self.network.fc

    def maps(self, pixels: Tensor) -> Tensor:
        """See `Trunk.maps`; pictures too small for the network are enlarged to its own 150 x 150."""
        if pixels.shape[-1] < DLIB_MINIMUM:
            pixels = F.interpolate(pixels.float(), size=(DLIB_SIZE, DLIB_SIZE), mode="bilinear")
        return self.network.forward_features(pixels)

    def pool(self, maps: Tensor) -> Tensor:
        """See `Trunk.pool`."""
        return maps.mean(dim=(2, 3))


def build_trunk(name: str, **settings: Any) -> Trunk:
    """Build a network without weights of its own.

    Parameters
    ----------
    name
        `dlib`, `facenet`, `efficientnet_lite0`, or a name of timm, such as `vgg16`, `resnet18`, `resnet50`,
        `resnet101`, `resnet152`, `seresnext50_32x4d`.
    settings
        The network's own: `folded` for dlib, `drop_rate` for others.

    Raises
    ------
    UserError
        For an unknown name, with the nearest known ones, or an unknown setting.

    Examples
    --------
    >>> build_trunk("resnet10t")(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)).shape
    torch.Size([2, 512])
    >>> build_trunk("resnet10x")
    Traceback (most recent call last):
        ...
    pipeline.core.errors.UserError: backbone 'resnet10x' is unknown: did you mean resnet10t, ...
    """
    try:
        if name == "dlib":
            return DlibTrunk(**settings)
        if name == "facenet":
            return FacenetTrunk(**settings)
        known = [*timm.list_models(), *IMAGENET_NAMES, "dlib", "facenet"]
        if name not in known:
            close = difflib.get_close_matches(name, known) or ["resnet18", "dlib", "efficientnet_lite0"]
            raise UserError(f"backbone {name!r} is unknown: did you mean {', '.join(close)}?")
        return TimmTrunk(name, **settings)
    except TypeError as error:  # how a constructor names an argument that it does not take
        raise UserError(f"backbone {name!r} cannot be built so: {first_line(error)}") from error
