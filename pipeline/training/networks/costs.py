"""What networks cost: parameters, operations, size and depth, in the columns of the thesis's Table 3.2."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import pipeline.backbones.emosynthnet  # noqa: F401 - registers it with timm

COMPARED: dict[str, tuple[str, Mapping[str, Any]]] = {
    "MobileNetV2": ("mobilenetv2_100", {}),
    "EfficientNetB0": ("efficientnet_b0", {}),
    "ResNet50": ("resnet50", {}),
    "VGG19": ("vgg19", {}),
    "DenseNet121": ("densenet121", {}),
    "EmoSynthNet": ("emosynthnet", {}),
}
WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def describe(network: nn.Module, size: tuple[int, int, int]) -> dict[str, float]:
    """One network's numbers for pictures of (colours, height, width).

    Returns
    -------
    dict
        `parameters` in millions; `flops` in billions for one picture, as torch counts them (a multiplication
        and an addition are two); `size_mb` of weights and buffers as they are stored, in 10^6 bytes;
        `depth`, the layers with weights: convolutions and dense ones.

    Examples
    --------
    >>> describe(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), (3, 2, 2))
    {'parameters': 6.5e-05, 'flops': 1.2e-07, 'size_mb': 0.00026, 'depth': 1}
    """
    training = network.training
    device = next(network.parameters()).device
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(torch.zeros(1, *size, device=device))
    network.train(training)
    tensors = [*network.parameters(), *network.buffers()]
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()) / 1e6,
        "flops": counter.get_total_flops() / 1e9,
        "size_mb": sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 1e6,
        "depth": sum(isinstance(module, WEIGHTED) for module in network.modules()),
    }


def model_table(
    size: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    networks: Mapping[str, tuple[str, Mapping[str, Any]]] = COMPARED,
) -> pd.DataFrame:
    """The numbers of several networks of timm, weights neither drawn nor loaded.

    Parameters
    ----------
    size
        Colours, height and width of a picture.
    networks
        By the name to show, timm's name and the settings of its constructor.
    """
    rows: Sequence[dict[str, Any]] = [
        {"method": name, **describe(on_paper(architecture, settings, size, classes), size)}
        for name, (architecture, settings) in networks.items()
    ]
    return pd.DataFrame(rows)


def on_paper(
    architecture: str, settings: Mapping[str, Any], size: tuple[int, int, int], classes: int
) -> nn.Module:
    """A network without memory: shapes only."""
    own = dict(settings)
    if architecture == "emosynthnet":
        own.setdefault("img_size", size[1])
    with torch.device("meta"):
        network: nn.Module = timm.create_model(architecture, num_classes=classes, in_chans=size[0], **own)
    return network
