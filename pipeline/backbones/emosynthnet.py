"""EmoSynthNet: a VGG-like trunk that rises again as a U-Net does, beside a branch of Inception-like modules.

Source: the EmoSynthNet thesis, sections 3.2.1 to 3.2.3. Its text contradicts itself in places;
docs/emosynthnet.md says what was taken, and why. For pictures of m x m pixels:

    block 1   m        32, 64, 64, 64       skip, pool
    block 2   m/2      128 x 4              pool
    block 3   m/4      256 x 4              skip, pool
    block 4   m/8      512 x 3              pool
    block 5   m/16     transposed 512: m/16 + 2, joined by the side branch: 1,408 maps
              m/8 + 4  upsampled, transposed 256: m/8 + 6
              m/4 + 12 upsampled
    block 6            dense 128, 64, classes

The side branch looks at the picture itself: two modules of three branches, averaged over 7 x 7 pixels.
"""

from typing import Any, cast

import torch
from timm.models import register_model
from torch import Tensor, nn
from torch.nn import functional

from pipeline.core.errors import UserError

STRIDE = 16
WINDOW = 7
MAIN = ((32, 64, 64, 64), (128,) * 4, (256,) * 4, (512,) * 3)
SKIPPING = (0, 2)
"""Blocks 1 and 3: a shortcut around their last two convolutions, the pair that keeps its width."""


def scaled(channels: int, width: float) -> int:
    """A number of maps times the width multiplier, 4 at least."""
    return max(4, round(channels * width))


def elu_then_norm(convolution: nn.Module, channels: int) -> nn.Sequential:
    """A convolution as all of the main branch have it."""
    return nn.Sequential(convolution, nn.ELU(), nn.BatchNorm2d(channels))


class AnalysisBlock(nn.Module):
    """Convolutions of 3 x 3 at one resolution; with `skips`, the last two are added to what they are fed."""

    def __init__(self, before: int, widths: tuple[int, ...], *, skips: bool) -> None:
        super().__init__()
        self.skips = skips
        layers = []
        for channels in widths:
            layers.append(elu_then_norm(nn.Conv2d(before, channels, 3, padding=1), channels))
            before = channels
        self.layers = nn.ModuleList(layers)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, H, W) to (N, widths[-1], H, W)."""
        for layer in self.layers[:-2]:
            maps = layer(maps)
        deeper: Tensor = self.layers[-1](self.layers[-2](maps))
        return maps + deeper if self.skips else deeper


def chain(before: int, *layers: tuple[int, int]) -> nn.ModuleList:
    """Convolutions of (kernel, channels), each with ReLU."""
    found = []
    for kernel, channels in layers:
        convolution = nn.Conv2d(before, channels, kernel, padding=kernel // 2)
        found.append(nn.Sequential(convolution, nn.ReLU()))
        before = channels
    return nn.ModuleList(found)


class AuxiliaryModule(nn.Module):
    """Three branches side by side (Figure 3.2): 5 x 5, pooled, 3 x 3; 640 maps in all at full width.

    The outputs of the second convolutions of the first and third branch are handed on as well.
    """

    def __init__(self, before: int, width: float) -> None:
        super().__init__()
        few, some, many, most = (scaled(channels, width) for channels in (64, 96, 128, 192))
        self.wide = chain(before, (1, few), (5, some), (5, some))
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.pooled = chain(before, (1, few))
        self.fine = chain(before, (1, many), (3, most), (3, most))
        self.channels = few + 2 * some + 2 * most

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, H, W) to (N, channels, H, W)."""
        wide = self.wide[1](self.wide[0](maps))
        fine = self.fine[1](self.fine[0](maps))
        pooled = self.pooled[0](self.pool(maps))
        return torch.cat([self.wide[2](wide), pooled, self.fine[2](fine), wide, fine], dim=1)


def pooled_to(maps: Tensor, size: int) -> Tensor:
    """Averages over windows of 7 x 7, as many on each side as asked for, as far apart as that allows.

    For 32 pixels and 4 windows the stride is 7, the thesis's plain pooling layer. From 288 pixels on not
    every size can be had by a stride; the last rows and columns are then not looked at.
    """
    room = maps.shape[-1] - WINDOW
    stride = room // size + 1
    if room // stride < size - 1:
        stride = room // (size - 1)
    return functional.avg_pool2d(maps, WINDOW, stride)[..., :size, :size]


class EmoSynthNet(nn.Module):
    """The network; its arguments are called as timm calls them.

    Parameters
    ----------
    num_classes
        Scores to put out; 0 leaves the last layer off, and `num_features` numbers come out.
    in_chans
        Colours.
    img_size
        The side of the pictures: a multiple of 16, or 28, which is padded to 32.
    width
        Multiplies the numbers of maps; dense layers keep their 128 and 64 units.
    drop_rate
        Dropout of whole maps after every block, and of the flattened maps.

    Raises
    ------
    UserError
        If the size is none of these.

    Examples
    --------
    >>> network = EmoSynthNet(num_classes=10, in_chans=1, img_size=28, width=0.125)
    >>> network(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_chans: int = 3,
        img_size: int = 32,
        width: float = 1.0,
        drop_rate: float = 0.2,
    ) -> None:
        super().__init__()
        if (img_size % STRIDE and img_size != 28) or img_size < STRIDE:
            raise UserError(f"EmoSynthNet takes pictures of 28 or a multiple of 16 pixels, not {img_size}")
        if width <= 0:
            raise UserError(f"width {width:g} of EmoSynthNet: it must be above 0")
        self.img_size = img_size
        self.padding = (-img_size % STRIDE) // 2
        self.side = img_size + 2 * self.padding
        before, blocks = in_chans, []
        for number, widths in enumerate(MAIN):
            channels = tuple(scaled(maps, width) for maps in widths)
            blocks.append(AnalysisBlock(before, channels, skips=number in SKIPPING))
            before = channels[-1]
        self.blocks = nn.ModuleList(blocks)
        self.map_dropout = nn.Dropout2d(drop_rate)
        first = AuxiliaryModule(in_chans, width)
        self.auxiliary = nn.Sequential(first, AuxiliaryModule(first.channels, width))
        passed_on = scaled(MAIN[2][-1], width)
        joined = before + first.channels + passed_on
        last = scaled(256, width)
        self.transposed1 = elu_then_norm(nn.ConvTranspose2d(before, before, 3), before)
        self.transposed2 = elu_then_norm(nn.ConvTranspose2d(joined, last, 3), last)
        self.upsample = nn.Upsample(scale_factor=2)
        self.flatten = nn.Flatten()
        self.head_dropout = nn.Dropout(drop_rate)
        self.num_features = 64
        self.dense1 = nn.Linear(last * (self.side // 4 + 12) ** 2, 128)
        self.dense2 = nn.Linear(128, self.num_features)
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """Put a new last layer in, or none for 0."""
        self.num_classes = num_classes
        self.classifier = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def get_classifier(self) -> nn.Module:
        """The last layer."""
        return self.classifier

    def forward_features(self, images: Tensor) -> Tensor:
        """The last maps: (N, in_chans, m, m) to (N, 256, m/4 + 12, m/4 + 12)."""
        if images.shape[-2:] != (self.img_size, self.img_size):
            raise ValueError(f"pictures have shape {tuple(images.shape)}, not {self.img_size} pixels a side")
        maps = pictures = functional.pad(images, [self.padding] * 4)
        pooled = []
        for block in self.blocks:
            maps = self.map_dropout(functional.avg_pool2d(block(maps), 2))
            pooled.append(maps)
        maps = self.transposed1(maps)
        size = maps.shape[-1]
        # As in a U-Net, what block 3 saw goes past block 4: 256 maps, which for 32 pixels have this size.
        passed_on = functional.adaptive_avg_pool2d(pooled[2], size)
        maps = torch.cat([maps, pooled_to(self.auxiliary(pictures), size), passed_on], dim=1)
        maps = self.transposed2(self.upsample(maps))
        return cast(Tensor, self.upsample(maps))

    def forward_head(self, maps: Tensor, pre_logits: bool = False) -> Tensor:
        """The last maps to scores, or with `pre_logits` to the features before them, (N, num_features)."""
        dense = functional.elu(self.dense1(self.head_dropout(self.flatten(maps))))
        features = functional.elu(self.dense2(dense))
        return features if pre_logits else cast(Tensor, self.classifier(features))

    def forward(self, images: Tensor) -> Tensor:
        """(N, in_chans, m, m) to (N, num_classes)."""
        return self.forward_head(self.forward_features(images))


@register_model
def emosynthnet(pretrained: bool = False, **settings: Any) -> EmoSynthNet:
    """Build `EmoSynthNet`, for `timm.create_model("emosynthnet", ...)`; there are no pretrained weights."""
    if pretrained:
        raise UserError("EmoSynthNet has no pretrained weights: set pretrained to false")
    for name in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):  # timm hands these to every model
        settings.pop(name, None)
    return EmoSynthNet(**settings)
