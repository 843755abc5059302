"""dlib's face recognition network, a residual network of 29 convolutions, in torch.

Unfolded, it has dlib's layers one for one: every convolution is followed by an affine layer, which is what
batch normalisation becomes once trained. Folded, the affine layers are gone into the convolutions, which
gives the same vectors in less time.
"""

from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.dlib.file_format import MEAN_RGB
from pipeline.dlib.resnet_parameters import (
    FEATURES,
    LEVELS,
    SHA256,
    STEM_CHANNELS,
    VECTOR,
    read_dlib_weights,
)


class Affine(nn.Module):
    """A gain and an offset for every channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return maps * self.weight[:, None, None] + self.bias[:, None, None]


def bias_of(convolution: nn.Conv2d) -> Tensor:
    """The bias of a convolution that has one."""
    assert convolution.bias is not None
    return convolution.bias


@torch.no_grad()
def folded_into(convolution: nn.Conv2d, affine: nn.Module) -> nn.Identity:
    """Make a convolution do what the affine layer after it does, and give what to put in that one's place.

    gain (filters * x + bias) + offset, in float64 so that folding costs one rounding.
    """
    if isinstance(affine, Affine):
        gain, bias = affine.weight.double(), bias_of(convolution)
        convolution.weight.copy_(convolution.weight.double() * gain[:, None, None, None])
        bias.copy_(bias.double() * gain + affine.bias.double())
    return nn.Identity()


class Stem(nn.Module):
    """Pixels to the first maps, at a quarter of the size."""

    def __init__(self, channels: int, *, folded: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, kernel_size=7, stride=2)
        self.affine: nn.Module = nn.Identity() if folded else Affine(channels)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) RGB from 0 to 255 to (N, channels, about H / 4, about W / 4)."""
        # conv((images - mean) / 256): as nothing is padded, scaled filters and a shifted bias make the same
        # of the images as they are. That saves two passes over the largest array, a twentieth of the time,
        # and bytes are exact in every precision.
        filters = self.conv.weight / 256
        mean = torch.tensor(MEAN_RGB, device=filters.device)
        shift = (filters.float().sum(dim=(2, 3)) * mean).sum(dim=1).to(filters.dtype)
        maps = F.conv2d(images.to(filters.dtype), filters, bias_of(self.conv) - shift, stride=2)
        # The largest of rectified values is the rectified largest value, and there are a quarter as many.
        return F.relu(F.max_pool2d(self.affine(maps), kernel_size=3, stride=2), inplace=True)

    def fold(self) -> None:
        """See `DlibResNet.fold`."""
        self.affine = folded_into(self.conv, self.affine)


class Block(nn.Module):
    """Two convolutions beside a shortcut.

    A halving block shrinks its maps with a stride and its shortcut with an average pool. What the one then
    lacks in channels and the other in rows and columns counts as zeros.
    """

    def __init__(self, before: int, channels: int, *, halves: bool, folded: bool) -> None:
        super().__init__()
        self.halves = halves
        self.conv1 = nn.Conv2d(
            before, channels, kernel_size=3, stride=2 if halves else 1, padding=0 if halves else 1
        )
        self.affine1: nn.Module = nn.Identity() if folded else Affine(channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.affine2: nn.Module = nn.Identity() if folded else Affine(channels)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, before, H, W) to (N, channels, H, W), or half of H and W, rounded down."""
        shortcut = maps
        maps = F.relu(self.affine1(self.conv1(maps)), inplace=True)
        maps = self.affine2(self.conv2(maps))
        if self.halves:
            shortcut = F.avg_pool2d(shortcut, kernel_size=2)
            rows, columns = (shortcut.shape[i] - maps.shape[i] for i in (2, 3))
            channels = maps.shape[1] - shortcut.shape[1]
            maps = F.pad(maps, (0, columns, 0, rows))
            shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, channels))
        return F.relu(maps.add_(shortcut), inplace=True)

    def fold(self) -> None:
        """See `DlibResNet.fold`."""
        self.affine1 = folded_into(self.conv1, self.affine1)
        self.affine2 = folded_into(self.conv2, self.affine2)


class DlibResNet(nn.Module):
    """The network of dlib's dnn_face_recognition_ex, with random weights until `load_dlib_weights`.

    Source: D. King, dlib, examples/dnn_face_recognition_ex.cpp, anet_type; after He et al., Deep Residual
    Learning for Image Recognition, CVPR 2016. dlib counts its levels from the output; here `level1` is the
    first after the `stem`.

    Parameters
    ----------
    folded
        Without affine layers; see `fold`.

    Examples
    --------
    >>> network = DlibResNet()
    >>> network(torch.zeros(2, 3, 150, 150)).shape
    torch.Size([2, 128])
    """

    num_features = FEATURES

    def __init__(self, folded: bool = True) -> None:
        super().__init__()
        self.folded = folded
        self.stem = Stem(STEM_CHANNELS, folded=folded)
        before = STEM_CHANNELS
        for number, (channels, blocks) in enumerate(LEVELS, start=1):
            level = nn.Sequential()
            for index in range(blocks):
                halves = number > 1 and index == 0
                level.add_module(f"block{index}", Block(before, channels, halves=halves, folded=folded))
                before = channels
            self.add_module(f"level{number}", level)
        self.fc = nn.Linear(FEATURES, VECTOR, bias=False)

    def forward_features(self, images: Tensor) -> Tensor:
        """The last maps.

        Parameters
        ----------
        images
            (N, 3, H, W) RGB from 0 to 255, of any type, 103 x 103 at least; dlib's own are 150 x 150.

        Returns
        -------
        Tensor
            (N, 256, H', W'), not negative; 2 x 2 for 150 x 150.
        """
        maps: Tensor = self.stem(images)
        for number in range(1, len(LEVELS) + 1):
            maps = self.get_submodule(f"level{number}")(maps)
        return maps

    def features(self, images: Tensor) -> Tensor:
        """The last maps averaged over the picture: (N, 256). See `forward_features`."""
        return self.forward_features(images).mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Face vectors, (N, 128); Euclidean distances below 0.6 mean one person. See `forward_features`."""
        vectors: Tensor = self.fc(self.features(images))
        return vectors

    def fold(self) -> Self:
        """Multiply every affine layer into the convolution before it, in place; the outputs stay the same."""
        for module in list(self.modules()):
            if isinstance(module, Stem | Block):
                module.fold()
        self.folded = True
        return self


def load_dlib_weights(
    network: DlibResNet, path: Path | None = None, *, sha256: str | None = SHA256
) -> DlibResNet:
    """Load dlib's published weights into a network, folded or not, and return it.

    Parameters are those of `read_dlib_weights`, which also raises for damaged and other files.
    """
    weights = read_dlib_weights(path, sha256=sha256)
    loaded = DlibResNet(folded=False)
    loaded.load_state_dict({name: torch.from_numpy(np.array(values)) for name, values in weights.items()})
    if network.folded:
        loaded.fold()
    network.load_state_dict(loaded.state_dict())
    return network
